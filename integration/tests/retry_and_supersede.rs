//! The way forward out of a plan that does not get on, and another try of one that failed.

use std::error::Error;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::managed::{BOUND, Managed, text};
use trainerd_integration::product::wait;
use trainerd_integration::stack::{self, NAMESPACE};
use trainerd_integration::standin::Behaviour;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// New pods never become ready.
fn never() -> Behaviour {
    let never = Duration::from_mins(10);
    Behaviour { delay: (never, never), ..Behaviour::default() }
}

/// Begins an upgrade that does not get on, and breaks it off by a signal.
fn begin_a_bad_one(cluster: &TestCluster) -> Result {
    cluster.set_behaviour(never());
    let bad = "jobset-image=registry.k8s.io/jobset/jobset:v0.11.1-bad";
    let (command, child) = cluster.spawn(cluster.kubeconfig(), &["upgrade", "--yes", "--set", bad])?;
    cluster.wait_until("the upgrade", BOUND, || {
        Ok(cluster.record()?.is_some_and(|record| !record["journal"].is_null()))
    })?;
    std::thread::sleep(Duration::from_secs(3));
    let status = cluster.run(&["status"])?.expect_code(0)?;
    assert!(status.stdout.contains("is in progress, by"), "{}", status.stdout);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no pid")?;
    kill_process(pid, Signal::INT)?;
    let ended = wait(command, child, Instant::now())?.expect_code(130)?;
    assert!(ended.stderr.contains("trainerd rollback"), "{}", ended.stderr);
    let status = cluster.run(&["status"])?.expect_code(0)?;
    assert!(status.stdout.contains("was interrupted"), "{}", status.stdout);
    cluster.set_behaviour(Behaviour::default());
    Ok(())
}

#[test]
fn newer_options_of_a_user_supersede_a_plan_at_once() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    begin_a_bad_one(&cluster)?;
    let good = "jobset-image=registry.k8s.io/jobset/jobset:v0.11.1-good";
    let upgrade = ["upgrade", "--yes", "--timeout", "60s", "--set", good];
    let run = cluster.run(&upgrade)?.expect_code(0)?;
    assert!(!run.stderr.contains("going on with"), "{}", run.stderr);
    let record = cluster.record()?.ok_or("no record")?;
    assert_eq!((&record["current"], &record["journal"]), (&json!(3), &Value::Null), "{record:#}");
    assert_eq!(record["results"]["2"]["result"], "abandoned", "{record:#}");
    let deployment = cluster.get(&stack::deployment(), NAMESPACE, "jobset-controller-manager")?;
    let image = deployment.unwrap_or_default()["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    assert_eq!(image, "registry.k8s.io/jobset/jobset:v0.11.1-good");

    // What is wanted already is gone on with, and a rollback is no plan that was interrupted.
    begin_a_bad_one(&cluster)?;
    let run = cluster.run(&["rollback", "--yes", "--timeout", "60s"])?.expect_code(0)?;
    assert!(!run.stderr.contains("going on with"), "{}", run.stderr);
    Ok(())
}

#[test]
fn newer_options_supersede_a_stalled_plan_of_the_daemon() -> Result {
    let mut kept = Managed::new()?;
    kept.cluster.set_behaviour(never());
    let bad = "jobset-image: registry.k8s.io/jobset/jobset:v0.11.1-bad\n";
    std::fs::write(&kept.file, text(bad))?;
    kept.daemon.wait_for("waiting for the new pods", BOUND, |view| {
        view["plan"]["waiting"].as_array().is_some_and(|waiting| !waiting.is_empty())
    })?;
    // Pods that are there by now stay as they are.
    std::thread::sleep(Duration::from_secs(3));
    kept.cluster.set_behaviour(Behaviour::default());
    let began = Instant::now();
    std::fs::write(&kept.file, text("drift-policy: report\n"))?;
    let view = kept.daemon.wait_for("told of newer options", BOUND, |view| view["newer"].is_string())?;
    assert_eq!(view["newer"], view["declared"], "{view:#}");
    let status = kept.cluster.run(&["status", "--socket", &kept.daemon.socket()])?.expect_code(0)?;
    assert!(status.stdout.contains("newer options are waiting"), "{}", status.stdout);
    // The deadline of the bad one is ten minutes.
    let view = kept.daemon.wait_until_settled(Duration::from_secs(90))?;
    println!("replaced and settled after {:?}", began.elapsed());
    assert_eq!((&view["outlook"]["revision"], &view["newer"]), (&json!(3), &Value::Null), "{view:#}");
    Ok(())
}

#[test]
fn a_rolled_back_upgrade_is_retried_on_request() -> Result {
    let mut kept = Managed::new()?;
    let bad = "jobset-image: registry.k8s.io/jobset/jobset:v0.11.1-late\nprogress-deadline: 30\n";
    kept.cluster.set_behaviour(never());
    std::fs::write(&kept.file, text(bad))?;
    let failed = |view: &Value| view["phase"] == "failed" && view["reason"]["code"] == "rolled-back";
    let view = kept.daemon.wait_for("failed", BOUND, failed)?;
    assert!(view["reason"]["hint"].as_str().is_some_and(|hint| hint.contains("trainerd retry")), "{view:#}");
    let socket = kept.daemon.socket();
    let waited = kept.cluster.run(&["status", "--wait", "--socket", &socket])?.expect_code(1)?;
    assert!(waited.stderr.contains("trainerd retry"), "{}", waited.stderr);

    // The registry is back: the same options, once more, by the API and by the command line.
    assert_eq!(kept.daemon.api("POST", "/v1/actions/retry", None)?.code, 200);
    kept.daemon.wait_for("trying again", BOUND, |view| view["phase"] == "running")?;
    kept.daemon.wait_for("failed again", BOUND, failed)?;
    kept.cluster.set_behaviour(Behaviour::default());
    let asked = kept.cluster.run(&["retry"])?.expect_code(0)?;
    assert!(asked.stderr.contains("the daemon retries revision 3"), "{}", asked.stderr);
    let settled = ["status", "--wait", "--timeout", "2m", "--socket", &socket];
    kept.cluster.run(&settled)?.expect_code(0)?;
    let view = kept.daemon.read("/v1/installation")?;
    assert_eq!((&view["settled"], &view["outlook"]["revision"]), (&json!(true), &json!(4)), "{view:#}");
    assert_eq!(kept.daemon.api("POST", "/v1/actions/retry", None)?.code, 409);
    Ok(())
}

#[test]
fn a_rolled_back_upgrade_is_retried_automatically_if_configured() -> Result {
    let mut kept = Managed::new()?;
    let options =
        "jobset-image: registry.k8s.io/jobset/jobset:v0.11.1-late\nprogress-deadline: 30\nretry-failed: 5\n";
    kept.cluster.set_behaviour(never());
    std::fs::write(&kept.file, text(options))?;
    kept.daemon.wait_for("failed", BOUND, |view| view["reason"]["code"] == "rolled-back")?;
    kept.cluster.set_behaviour(Behaviour::default());
    let view = kept.daemon.wait_until_settled(BOUND)?;
    assert_eq!(view["outlook"]["revision"], 3, "{view:#}");
    Ok(())
}

#[test]
fn a_user_retries_and_rolls_back_without_a_daemon() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &["--set", "progress-deadline=30"])?;
    let nothing = cluster.run(&["retry", "--yes"])?.expect_code(0)?;
    assert!(nothing.stderr.contains("nothing to retry"), "{}", nothing.stderr);
    cluster.set_behaviour(never());
    let late = "jobset-image=registry.k8s.io/jobset/jobset:v0.11.1-late";
    let upgrade = ["upgrade", "--yes", "--timeout", "3m", "--set", late];
    let failed = cluster.run(&upgrade)?.expect_code(1)?;
    assert!(failed.stderr.contains("trainerd retry"), "{}", failed.stderr);
    cluster.set_behaviour(Behaviour::default());
    cluster.run(&["retry", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let settled: Value = cluster.run(&["status", "--wait", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!((&settled["revision"], &settled["ready"]), (&json!(3), &json!(true)), "{settled:#}");

    // Changed, and deleted: back as the revision says, and no other revision comes of it.
    let name = "jobset-controller-manager";
    let object = cluster.get(&stack::deployment(), NAMESPACE, name)?.ok_or("no Deployment")?;
    let patch = json!({"spec": {"replicas": 3}});
    let (api, kind) = (cluster.api(), stack::deployment());
    let params = trainerd_cluster::CreateParams::default();
    cluster.block_on(api.patch_merge(&kind, Some(NAMESPACE), name, &patch, params))?;
    cluster.delete(&stack::config_map(), NAMESPACE, "kubeflow-trainer-config")?;
    let shown = cluster.run(&["repair", "--dry-run"])?.expect_code(0)?;
    assert!(shown.stderr.contains(".spec.replicas"), "{}", shown.stderr);
    cluster.run(&["repair", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let now = cluster.get(&stack::deployment(), NAMESPACE, name)?.ok_or("no Deployment")?;
    assert_eq!(now["spec"], object["spec"]);
    assert!(cluster.get(&stack::config_map(), NAMESPACE, "kubeflow-trainer-config")?.is_some());
    let record = cluster.record()?.ok_or("no record")?;
    assert_eq!(record["current"], 3);
    let again = cluster.run(&["repair", "--yes"])?.expect_code(0)?;
    assert!(!again.stderr.contains(" ~ ") && !again.stderr.contains("anew"), "{}", again.stderr);
    Ok(())
}
