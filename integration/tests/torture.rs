//! trainerd is killed with signal 9 at request boundaries, started again with the same command, and brings
//! the installation to where an undisturbed run brings it.
//!
//! A spread sample; `TRAINERD_TORTURE=all` takes every boundary of every scenario, and
//! `TRAINERD_TORTURE=NAME` every boundary of one. `TRAINERD_TORTURE_PART=2/3` takes the second of three parts
//! of these, for runs side by side.

use std::error::Error;

use serde_json::json;
use trainerd_integration::TestCluster;
use trainerd_integration::stack::QUICK;
use trainerd_integration::torture::{Outcome, Scenario, Table, every_point, run, select_evenly};

/// Points of a scenario in the sample: about 30 in all.
const SAMPLE: usize = 5;

#[test]
fn a_command_killed_anywhere_finishes_when_repeated() -> Result<(), Box<dyn Error>> {
    if trainerd_integration::cluster::is_existing() {
        println!("skipped: state can only be put back in the local cluster");
        return Ok(());
    }
    let wanted = std::env::var("TRAINERD_TORTURE").unwrap_or_default();
    let (part, parts) = part()?;
    let mut cluster = TestCluster::take()?;
    let empty = cluster.snapshot()?;
    cluster.install("2.2.1", &[])?;
    let installed = cluster.snapshot()?;
    cluster.run(&["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let upgraded = cluster.snapshot()?;
    cluster.restore(&installed)?;
    forbid_new_jobset(&cluster)?;
    let guarded = cluster.snapshot()?;

    let install =
        [&["up", "--yes", "--timeout", "3m", "--set", "trainer-version=2.2.1"][..], &QUICK].concat();
    let upgrade = ["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "3m"];
    let rollback = ["rollback", "1", "--allow", "lossy", "--yes", "--timeout", "3m"];
    let prune =
        [&install[..], &["--set", "runtimes=torch-distributed", "--set", "components=trainer,jobset"]]
            .concat();
    let remove = ["remove", "--purge", "--delete-jobs", "--yes", "--timeout", "3m"];
    let scenarios = [
        Scenario { name: "install", from: &empty, arguments: &install, code: 0 },
        Scenario { name: "upgrade", from: &installed, arguments: &upgrade, code: 0 },
        Scenario { name: "failing-upgrade", from: &guarded, arguments: &upgrade, code: 1 },
        Scenario { name: "rollback", from: &upgraded, arguments: &rollback, code: 0 },
        Scenario { name: "prune", from: &installed, arguments: &prune, code: 0 },
        Scenario { name: "remove", from: &installed, arguments: &remove, code: 0 },
    ];
    let mut outcomes: Vec<Outcome> = Vec::new();
    for scenario in &scenarios {
        let all = match wanted.as_str() {
            "" => false,
            "all" => true,
            name if name == scenario.name => true,
            _ => continue,
        };
        let outcome = run(&mut cluster, scenario, |requests| {
            let points = every_point(requests);
            let points = if all { points } else { select_evenly(&points, SAMPLE) };
            points.into_iter().skip(part - 1).step_by(parts).collect()
        })?;
        for trouble in &outcome.troubles {
            println!("{trouble}");
        }
        outcomes.push(outcome);
        println!("{}", Table(&outcomes));
    }
    cluster.restore_empty()?;
    let whole = |outcome: &Outcome| outcome.troubles.is_empty() && outcome.converged == outcome.points;
    assert!(!outcomes.is_empty(), "no scenario is called {wanted:?}");
    assert!(outcomes.iter().all(whole), "not every run converged");
    Ok(())
}

/// Which of how many parts of the points; all of them where nobody says.
fn part() -> Result<(usize, usize), Box<dyn Error>> {
    let Ok(text) = std::env::var("TRAINERD_TORTURE_PART") else { return Ok((1, 1)) };
    let (part, parts) = text.split_once('/').ok_or("TRAINERD_TORTURE_PART is no PART/PARTS")?;
    let (part, parts) = (part.parse()?, parts.parse()?);
    if part == 0 || part > parts {
        return Err("TRAINERD_TORTURE_PART: there is no such part".into());
    }
    Ok((part, parts))
}

/// A policy of the cluster that refuses JobSet's new Deployment: the fastest honest way for an upgrade to fail,
/// half-way and for good.
fn forbid_new_jobset(cluster: &TestCluster) -> Result<(), Box<dyn Error>> {
    let kind = |kind: &str, plural: &str| trainerd_plan::object::Resource {
        group: "admissionregistration.k8s.io".into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced: false,
    };
    cluster.create(
        &kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "no-new-jobset"},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["deployments"],
                }]},
                "validations": [{
                    "expression": "object.spec.template.spec.containers.all(c, !c.image.endsWith('jobset:v0.12.0'))",
                    "message": "this cluster keeps the JobSet it has",
                }],
            },
        }),
    )?;
    cluster.create(
        &kind("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "no-new-jobset"},
            "spec": {"policyName": "no-new-jobset", "validationActions": ["Deny"]},
        }),
    )?;
    // The API server takes a policy up a moment after it is stored.
    let probe = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "probe"}},
            "template": {
                "metadata": {"labels": {"app": "probe"}},
                "spec": {"containers": [{"name": "c", "image": "example.com/jobset:v0.12.0"}]},
            },
        },
    });
    let deployment = trainerd_integration::stack::deployment();
    let params = trainerd_cluster::CreateParams { dry_run: true, ..Default::default() };
    cluster.wait_until("the policy to work", std::time::Duration::from_secs(30), || {
        Ok(cluster.block_on(cluster.api().create(&deployment, &probe, params)).is_err())
    })?;
    Ok(())
}
