//! Nothing is adopted or deleted that nobody asked for.

use std::error::Error;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use trainerd_cluster::CreateParams;
use trainerd_integration::TestCluster;
use trainerd_integration::product::{Run, wait};
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::stack::{self, NAMESPACE, QUICK, a_train_job};
use trainerd_plan::object::Resource;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const CONFIG: &str = "kubeflow-trainer-config";
const JOBSETS: &str = "jobsets.jobset.x-k8s.io";
const PART_OF: &str = "applyset.kubernetes.io/part-of";
const UP: [&str; 4] = ["up", "--yes", "--timeout", "2m"];
/// As long as an answer to a request is withheld while somebody else acts.
const PAUSE: Duration = Duration::from_secs(5);

fn at(method: Method, path: &str, fault: Fault) -> Rule {
    Rule { when: When::Matching { method, path: path.to_owned(), times: Some(1) }, fault }
}

/// Runs a command, and does something while its first request of that kind is withheld.
fn meanwhile(
    cluster: &TestCluster,
    command: &[&str],
    rules: &[(Method, &str)],
    act: impl FnOnce() -> Result,
) -> Result<Run> {
    let delayed =
        rules.iter().map(|(method, path)| at(method.clone(), path, Fault::Delay(PAUSE))).collect::<Vec<_>>();
    cluster.block_on(cluster.proxy().begin(delayed));
    let started = Instant::now();
    let (line, child) = cluster.spawn(&cluster.proxied(), command)?;
    cluster.wait_until("the request that is withheld", Duration::from_mins(2), || {
        let log = cluster.proxy().log();
        let is_withheld = |(method, path): &(Method, &str)| {
            log.iter()
                .any(|entry| entry.method == *method && entry.path.contains(path) && entry.status.is_none())
        };
        Ok(rules.iter().any(is_withheld))
    })?;
    act()?;
    Ok(wait(line, child, started)?)
}

/// Taking the lease, however that is asked for.
const LEASE: [(Method, &str); 3] =
    [(Method::PUT, "/leases/"), (Method::PATCH, "/leases/"), (Method::POST, "/leases")];

fn install<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&UP[..], &["--set", "trainer-version=2.3.0"], &QUICK, more].concat()
}

fn says(run: &Run, parts: &[&str]) {
    for part in parts {
        assert!(run.stderr.contains(part), "{part:?} is not in: {}", run.stderr);
    }
}

#[test]
fn a_create_that_collides_is_checked_against_the_existing_object() -> Result {
    let cluster = TestCluster::take()?;
    let config = stack::config_map();
    let path = format!("/configmaps/{CONFIG}");
    let theirs = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"theirs": "1"},
        "metadata": {"name": CONFIG, "namespace": NAMESPACE, "labels": {"app": "theirs"}},
    });
    let run = meanwhile(&cluster, &install(&[]), &[(Method::PATCH, &path)], || {
        cluster.create(&config, &theirs)?;
        Ok(())
    })?
    .expect_code(1)?;
    says(&run, &[CONFIG, "created by field manager integration", "hint: "]);
    let found = cluster.get(&config, NAMESPACE, CONFIG)?.unwrap_or_default();
    assert_eq!(
        (&found["data"], &found["metadata"]["labels"]),
        (&theirs["data"], &theirs["metadata"]["labels"])
    );
    let managers = found["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    assert!(managers.iter().all(|entry| entry["manager"] == "integration"), "{managers:#?}");
    cluster.run(&["remove", "--yes", "--purge", "--timeout", "2m"])?.expect_code(0)?;
    assert!(cluster.get(&config, NAMESPACE, CONFIG)?.is_some(), "and nothing deletes it later");
    Ok(())
}

#[test]
fn a_create_with_a_lost_response_is_no_collision() -> Result {
    let cluster = TestCluster::take()?;
    let lost = vec![
        at(Method::PATCH, &format!("/configmaps/{CONFIG}"), Fault::Lose),
        at(Method::PATCH, &format!("/customresourcedefinitions/{JOBSETS}"), Fault::Lose),
        at(Method::PATCH, "/deployments/jobset-controller-manager", Fault::Lose),
    ];
    cluster.run_proxied(&install(&[]), lost)?.0.expect_code(0)?;
    cluster.run(&[&["plan", "--set", "trainer-version=2.3.0"][..], &QUICK].concat())?.expect_code(0)?;
    Ok(())
}

#[test]
fn steps_beyond_the_confirmed_plan_are_refused() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    cluster.create(&stack::train_job(), &a_train_job("shown"))?;
    let purge = ["remove", "--purge", "--delete-jobs", "--yes", "--timeout", "2m"];
    let run = meanwhile(&cluster, &purge, &LEASE, || {
        cluster.create(&stack::train_job(), &a_train_job("unseen"))?;
        Ok(())
    })?
    .expect_code(1)?;
    says(&run, &["TrainJob default/unseen", "not part of the plan that was shown", "hint: "]);
    for job in ["shown", "unseen"] {
        assert!(cluster.get(&stack::train_job(), "default", job)?.is_some(), "{job}");
    }
    assert!(cluster.record()?.is_some_and(|record| record["journal"].is_null()), "nothing was begun");

    // The same of a change: what somebody deleted while the plan waited is not made again unseen.
    let change = install(&["--set", "runtimes=torch-distributed,mpi-distributed"]);
    let run = meanwhile(&cluster, &change, &LEASE, || {
        cluster.delete(&stack::config_map(), NAMESPACE, CONFIG)?;
        Ok(())
    })?
    .expect_code(1)?;
    says(&run, &[CONFIG, "not part of the plan that was shown"]);
    cluster.run(&change)?.expect_code(0)?;
    cluster.run(&purge)?.expect_code(0)?;
    Ok(())
}

#[test]
fn irreversible_deletions_need_yes_without_a_terminal() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    let version = cluster.get(&stack::secret(), NAMESPACE, stack::RECORD)?.unwrap_or_default();
    let lossy = ["up", "--allow", "lossy", "--set", "settle=1"];
    for command in [&["remove"][..], &["remove", "--purge"], &["remove", "--purge", "--delete-jobs"], &lossy]
    {
        let run = cluster.run(command)?.expect_code(4)?;
        says(&run, &["needs a confirmation", "--yes"]);
    }
    assert_eq!(cluster.get(&stack::secret(), NAMESPACE, stack::RECORD)?, Some(version));
    // What another command brings back does not.
    cluster.run(&["upgrade", "--set", "settle=1", "--timeout", "2m"])?.expect_code(0)?;
    Ok(())
}

#[test]
fn the_only_jobset_is_not_taken_for_an_external_one() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    let run = cluster.run(&install(&["--set", "components=trainer,lws"]))?.expect_code(3)?;
    says(&run, &["jobset"]);
    assert!(cluster.get(&stack::crd(), "", JOBSETS)?.is_some());
    assert!(cluster.get(&stack::deployment(), NAMESPACE, "jobset-controller-manager")?.is_some());
    let status: Value = cluster.run(&["status", "-o", "json"])?.json()?;
    assert_eq!(status["ready"], true);
    Ok(())
}

/// Somebody else's JobSet, in a namespace of its own: what `trainerd render` prints, applied by a field manager that is
/// not trainerd's.
fn jobset_of_others(cluster: &TestCluster) -> Result {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "jobset-system"}});
    cluster.apply(&stack::namespace(), &namespace)?;
    let rendered = cluster.run(&["render", "jobset", "-n", "jobset-system", "-o", "json"])?.expect_code(0)?;
    let kinds = cluster.kinds()?;
    let document: Value = rendered.json()?;
    for manifest in document["items"].as_array().into_iter().flatten() {
        let kind = |resource: &&Resource| {
            resource.kind == manifest["kind"].as_str().unwrap_or_default()
                && resource.api_version() == manifest["apiVersion"].as_str().unwrap_or_default()
        };
        let resource = kinds.iter().find(kind).ok_or("a kind that is not served")?;
        cluster.apply(resource, manifest)?;
    }
    Ok(())
}

#[test]
fn a_crd_that_others_applied_is_released() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    cluster.run(&["remove", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    gone(&cluster)?;
    jobset_of_others(&cluster)?;
    let before = cluster.get(&stack::crd(), "", JOBSETS)?.unwrap_or_default();
    let run = cluster.run(&install(&["--set", "components=trainer,lws"]))?.expect_code(0)?;
    says(&run, &[JOBSETS, "release"]);
    let after = cluster.get(&stack::crd(), "", JOBSETS)?.ok_or("the CRD is gone")?;
    assert_eq!((&after["spec"], &after["metadata"]["uid"]), (&before["spec"], &before["metadata"]["uid"]));
    assert_eq!(after["metadata"]["labels"][PART_OF], Value::Null);
    let managers = after["metadata"]["managedFields"].to_string();
    assert!(!managers.contains("\"trainerd\"") && managers.contains("integration"), "{managers}");

    // Whoever takes it away makes the installation unready.
    cluster.delete(&stack::crd(), "", JOBSETS)?;
    cluster.wait_until("the CRD to be gone", Duration::from_mins(1), || {
        Ok(cluster.get(&stack::crd(), "", JOBSETS)?.is_none())
    })?;
    let status: Value = cluster.run(&["status", "-o", "json"])?.json()?;
    assert_eq!((&status["ready"], &status["missing"]), (&json!(false), &json!(["jobset"])));
    cluster.delete(&stack::namespace(), "", "jobset-system")?;
    Ok(())
}

#[test]
fn crds_of_a_removed_component_follow_the_crd_policy() -> Result {
    const LWS: &str = "leaderworkersets.leaderworkerset.x-k8s.io";
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    let without = ["--set", "components=trainer,jobset"];
    let run = cluster.run(&install(&without))?.expect_code(0)?;
    says(&run, &[LWS, "crd-policy is keep"]);
    assert!(cluster.get(&stack::crd(), "", LWS)?.is_some());
    let deleting = install(&[&without[..], &["--set", "crd-policy=delete"]].concat());
    let run = cluster.run(&deleting)?.expect_code(0)?;
    says(&run, &[&format!("delete CustomResourceDefinition {LWS}")]);
    assert!(cluster.get(&stack::crd(), "", LWS)?.is_none());
    Ok(())
}

#[test]
fn leftovers_are_found_without_the_record() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    cluster.delete(&stack::namespace(), "", NAMESPACE)?;
    gone(&cluster)?;
    let status = cluster.run(&["status"])?.expect_code(1)?;
    says(&status, &["ClusterRole", "earlier installation", "remove --purge"]);
    let doctor = cluster.run(&["doctor"])?.expect_code(0)?;
    assert!(doctor.stdout.contains("earlier installation"), "{}", doctor.stdout);
    assert_eq!(configurations(&cluster)?, 6);

    cluster.run(&["remove", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    assert_eq!(configurations(&cluster)?, 0);
    gone(&cluster)?;
    let kept = cluster.list(&stack::runtime(), None)?;
    assert!(!kept.is_empty() && cluster.get(&stack::crd(), "", JOBSETS)?.is_some(), "what is stored stays");
    let run = cluster.run(&["remove", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    says(&run, &["nothing to remove", "CustomResourceDefinition", "remove --purge"]);
    cluster.run(&["remove", "--purge", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    gone(&cluster)?;
    assert_eq!(cluster.list(&stack::crd(), Some(PART_OF))?, Vec::<Value>::new());
    let run = cluster.run(&["remove", "--purge", "--yes"])?.expect_code(0)?;
    assert!(!run.stderr.contains("are left"), "{}", run.stderr);
    Ok(())
}

#[test]
fn leftovers_are_adopted_by_another_installation() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    let elsewhere = install(&["-n", "ml-platform"]);
    let run = cluster.run(&elsewhere)?.expect_code(3)?;
    says(&run, &["kubeflow-system"]);
    cluster.run(&["remove", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    gone(&cluster)?;
    let run = cluster.run(&elsewhere)?.expect_code(0)?;
    says(&run, &["taken over from trainerd installation kubeflow-system/kubeflow-trainer"]);
    let crd = cluster.get(&stack::crd(), "", JOBSETS)?.unwrap_or_default();
    assert_eq!(crd["metadata"]["labels"]["trainerd.dev/namespace"], "ml-platform");
    // The record alone does not tell: where its Deployments still run, it is there.
    cluster.run(&["remove", "-n", "ml-platform", "--purge", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    cluster.install("2.3.0", &[])?;
    for secret in cluster.list(&stack::secret(), Some("trainerd.dev/record"))? {
        cluster.delete(
            &stack::secret(),
            NAMESPACE,
            secret["metadata"]["name"].as_str().unwrap_or_default(),
        )?;
    }
    cluster.delete(&stack::lease(), NAMESPACE, stack::RECORD)?;
    cluster.run(&elsewhere)?.expect_code(3)?;
    cluster.run(&["remove", "--purge", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    assert_eq!(cluster.list(&stack::deployment(), Some(PART_OF))?, Vec::<Value>::new());
    Ok(())
}

#[test]
fn a_runtime_in_use_is_not_pruned_and_blocks_nothing_else() -> Result {
    const FINALIZER: &str = "trainer.kubeflow.org/resource-in-use";
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    cluster.create(&stack::train_job(), &a_train_job("long"))?;
    let name = "torch-distributed";
    let hold = |finalizers: &Value| {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        let params = CreateParams::default();
        cluster.block_on(cluster.api().patch_merge(&stack::runtime(), None, name, &patch, params))
    };
    hold(&json!([FINALIZER]))?;
    let options = ["--set", "trainer-version=2.2.1", "--set", "runtimes=mpi-distributed"];
    let fewer = [&["up", "--yes"][..], &options, &QUICK].concat();
    let run = cluster.run(&fewer)?.expect_code(3)?;
    says(&run, &[name, "TrainJob default/long", "--allow in-use"]);

    let allowed = [&fewer[..], &["--allow", "in-use", "--timeout", "5s"]].concat();
    let run = cluster.run(&allowed)?.expect_code(6)?;
    says(&run, &[FINALIZER]);
    let status = cluster.run(&["status"])?.expect_code(0)?;
    assert!(
        status.stdout.contains("BEING DELETED") && status.stdout.contains("default/long"),
        "{}",
        status.stdout
    );

    // The way back is open, and whatever can be repaired is.
    cluster.delete(&stack::config_map(), NAMESPACE, CONFIG)?;
    let run = cluster.run(&["rollback", "--yes", "--timeout", "1m"])?.expect_code(1)?;
    says(&run, &[name, "TrainJob default/long", "cannot be created again yet"]);
    assert!(cluster.get(&stack::config_map(), NAMESPACE, CONFIG)?.is_some());
    assert!(cluster.record()?.is_some_and(|record| record["journal"].is_null()));
    let status: Value = cluster.run(&["status", "-o", "json"])?.json()?;
    assert_eq!(status["ready"], false, "{status:#}");

    cluster.delete(&stack::train_job(), "default", "long")?;
    hold(&json!([]))?;
    cluster.run(&["upgrade", "--yes", "--set", "settle=0", "--timeout", "1m"])?.expect_code(0)?;
    let found = cluster.get(&stack::runtime(), "", name)?.unwrap_or_default();
    assert!(found.is_object() && found["metadata"]["deletionTimestamp"].is_null(), "{found}");
    Ok(())
}

#[test]
fn a_terminating_namespace_is_not_reported_as_deleted() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    // What the namespace controller never gets rid of.
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": NAMESPACE, "finalizers": ["example.com/hold"]}});
    cluster.create(&stack::config_map(), &held)?;
    cluster.delete(&stack::config_map(), NAMESPACE, "held")?;
    let run = cluster.run(&["remove", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    assert!(run.stderr.contains("is being deleted") && !run.stderr.contains("is gone"), "{}", run.stderr);
    let conditions = || {
        let found = cluster.get(&stack::namespace(), "", NAMESPACE)?.unwrap_or_default();
        Ok(found["status"]["conditions"].to_string().contains("example.com/hold"))
    };
    cluster.wait_until("the namespace to say what holds it", Duration::from_mins(1), conditions)?;
    let run = cluster.run(&install(&[]))?.expect_code(3)?;
    says(&run, &["NamespaceFinalizersRemaining", "example.com/hold"]);
    let patch = json!({"metadata": {"finalizers": []}});
    let params = CreateParams::default();
    cluster.block_on(cluster.api().patch_merge(
        &stack::config_map(),
        Some(NAMESPACE),
        "held",
        &patch,
        params,
    ))?;
    gone(&cluster)
}

/// How many webhook configurations of the installation there are.
fn configurations(cluster: &TestCluster) -> Result<usize> {
    let mut count = 0;
    for kind in stack::webhook_configurations() {
        count += cluster.list(&kind, Some(PART_OF))?.len();
    }
    Ok(count)
}

fn gone(cluster: &TestCluster) -> Result {
    cluster.wait_until("the namespace to go", Duration::from_mins(1), || {
        Ok(cluster.get(&stack::namespace(), "", NAMESPACE)?.is_none())
    })?;
    Ok(())
}
