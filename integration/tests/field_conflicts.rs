//! Fields and objects that somebody else has come to: refused, taken or left, as the options say, and never a
//! reason for being stuck.

use std::error::Error;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::product::wait;
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::stack::{self, NAMESPACE, QUICK};

const JOBSET: &str = "jobset-controller-manager";
const TRAINER: &str = "kubeflow-trainer-controller-manager";
/// Options that set what is left to the API server's default otherwise: the number of the Trainer's replicas.
const SMALL: [&str; 6] =
    ["--set", "trainer-version=2.2.1", "--set", "settle=0", "--set", "small-footprint=true"];

fn deployment(cluster: &TestCluster, name: &str) -> Result<Value, Box<dyn Error>> {
    Ok(cluster.get(&stack::deployment(), NAMESPACE, name)?.ok_or("there is no such Deployment")?)
}

/// An installation that leaves a field to its default, and somebody who sets it.
fn scaled_by_somebody(cluster: &TestCluster) -> Result<(), Box<dyn Error>> {
    cluster.install("2.2.1", &["--set", "small-footprint=false"])?;
    // As these tests' own field manager.
    cluster.apply(
        &stack::deployment(),
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2},
                "metadata": {"name": TRAINER, "namespace": NAMESPACE}}),
    )?;
    Ok(())
}

#[test]
fn field_conflicts_are_refused_yielded_or_forced() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a real node may have no room for the default footprint");
        return Ok(());
    }
    scaled_by_somebody(&cluster)?;
    let up = [&["up", "--yes", "--timeout", "2m"][..], &SMALL].concat();
    let refused = cluster.run(&up)?.expect_code(3)?;
    for part in
        [".spec.replicas", "integration", "set to 2", "would set 1", "conflicts=force", "conflicts=yield"]
    {
        assert!(refused.stderr.contains(part), "{part:?} is not in: {}", refused.stderr);
    }

    let with = |option: &'static str| [&up[..], &["--set", option]].concat();
    cluster.run(&with("conflicts=yield"))?.expect_code(0)?;
    assert_eq!(deployment(&cluster, TRAINER)?["spec"]["replicas"], 2);
    let again = [&["plan"][..], &SMALL, &["--set", "conflicts=yield"]].concat();
    cluster.run(&again)?.expect_code(0)?;

    let taking = cluster.run(&with("conflicts=force"))?.expect_code(0)?;
    assert!(taking.stderr.contains("takes over .spec.replicas from integration"), "{}", taking.stderr);
    assert_eq!(deployment(&cluster, TRAINER)?["spec"]["replicas"], 1);
    let history: Value = cluster.run(&["history", "-o", "json"])?.json()?;
    let forced: Vec<&Value> = history.as_array().into_iter().flatten().map(|row| &row["forced"]).collect();
    assert_eq!(forced.len(), 3, "{history:#}");
    assert_eq!(forced[..2], [&Value::Null, &Value::Null]);
    assert_eq!(
        (&forced[2][0]["path"], &forced[2][0]["from"]),
        (&json!(".spec.replicas"), &json!("integration"))
    );
    Ok(())
}

/// A Deployment of somebody else's that has the name of JobSet's.
fn theirs() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": JOBSET, "namespace": NAMESPACE},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "theirs"}},
            "template": {"metadata": {"labels": {"app": "theirs"}},
                         "spec": {"containers": [{"name": "c", "image": "example.com/theirs:v1"}]}},
        },
    })
}

#[test]
fn an_upgrade_blocked_by_a_conflict_is_not_rolled_back() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let upgrade = ["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "2m"];
    let at = When::Matching { method: Method::PATCH, path: format!("/deployments/{JOBSET}"), times: Some(1) };
    cluster.run_proxied(&upgrade, vec![Rule { when: at, fault: Fault::KillBefore }])?;
    assert!(cluster.proxy().killed());
    let crd = || cluster.get(&stack::crd(), "", "jobsets.jobset.x-k8s.io");
    let new = crd()?.ok_or("there is no such CRD")?["spec"].clone();
    cluster.delete(&stack::deployment(), NAMESPACE, JOBSET)?;
    cluster.create(&stack::deployment(), &theirs())?;

    let refused = cluster.run(&upgrade)?.expect_code(1)?;
    assert!(refused.stderr.contains("controlled by"), "{}", refused.stderr);
    // What was stored since may need the new CRDs: only a person says that they go back.
    assert_eq!(crd()?.unwrap_or_default()["spec"], new);
    let record = cluster.record()?.unwrap_or_default();
    assert_eq!((&record["journal"], &record["current"]), (&Value::Null, &json!(2)), "{record:#}");
    cluster.delete(&stack::deployment(), NAMESPACE, JOBSET)?;
    cluster.run(&upgrade)?.expect_code(0)?;
    Ok(())
}

#[test]
fn a_blocked_plan_can_be_replaced() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let install =
        [&["up", "--yes", "--timeout", "2m", "--set", "trainer-version=2.2.1"][..], &QUICK].concat();
    let at = When::Matching { method: Method::PATCH, path: format!("/deployments/{JOBSET}"), times: Some(1) };
    cluster.run_proxied(&install, vec![Rule { when: at, fault: Fault::KillBefore }])?;
    assert!(cluster.proxy().killed());
    // Before anybody comes back to it, somebody else makes an object that the plan was still to make.
    cluster.create(&stack::deployment(), &theirs())?;

    let refused = cluster.run(&install)?.expect_code(1)?;
    for part in [&format!("Deployment {NAMESPACE}/{JOBSET}")[..], "controlled by", "integration", "hint: "] {
        assert!(refused.stderr.contains(part), "{part:?} is not in: {}", refused.stderr);
    }
    let record = cluster.record()?.unwrap_or_default();
    assert_eq!(record["journal"], Value::Null, "nothing is in progress any more: {record:#}");
    assert_eq!(deployment(&cluster, JOBSET)?["spec"]["template"]["metadata"]["labels"]["app"], "theirs");
    // Out of the way, and the same command goes through.
    cluster.delete(&stack::deployment(), NAMESPACE, JOBSET)?;
    cluster.run(&install)?.expect_code(0)?;
    cluster.run(&[&["plan", "--set", "trainer-version=2.2.1"][..], &QUICK].concat())?.expect_code(0)?;
    Ok(())
}

#[test]
fn objects_released_after_planning_are_not_deleted() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let slowly = |name: &str| Rule {
        when: When::Matching {
            method: Method::DELETE,
            path: format!("/clustertrainingruntimes/{name}"),
            times: Some(1),
        },
        fault: Fault::Delay(Duration::from_secs(3)),
    };
    cluster.block_on(cluster.proxy().begin(vec![slowly("mlx-distributed"), slowly("mpi-distributed")]));
    let prune = [&["up", "--yes", "--timeout", "2m", "--set", "trainer-version=2.2.1"][..], &QUICK].concat();
    let started = Instant::now();
    let (command, child) = cluster
        .spawn(&cluster.proxied(), &[&prune[..], &["--set", "runtimes=torch-distributed"]].concat())?;
    cluster.wait_until("the deletes", Duration::from_mins(1), || {
        let log = cluster.proxy().log();
        Ok(log.iter().filter(|entry| entry.method == Method::DELETE && entry.status.is_none()).count() >= 2)
    })?;
    // A note changes nothing about whose it is; taking the label away does.
    let change = |name: &str, metadata: &Value| {
        let params = trainerd_cluster::CreateParams::default();
        let patch = json!({"metadata": metadata});
        cluster.block_on(cluster.api().patch_merge(&stack::runtime(), None, name, &patch, params))
    };
    change("mlx-distributed", &json!({"annotations": {"note": "seen"}}))?;
    change("mpi-distributed", &json!({"labels": {"applyset.kubernetes.io/part-of": null}}))?;

    let run = wait(command, child, started)?.expect_code(1)?;
    for part in ["mpi-distributed", "no longer part of this installation", "hint: "] {
        assert!(run.stderr.contains(part), "{part:?} is not in: {}", run.stderr);
    }
    let found = |name| cluster.get(&stack::runtime(), "", name).map(|found| found.is_some());
    assert_eq!((found("mlx-distributed")?, found("mpi-distributed")?), (false, true));
    Ok(())
}
