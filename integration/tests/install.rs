//! A first installation: everything becomes ready, and then there is nothing to do.

use std::error::Error;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::stack::{self, NAMESPACE, QUICK};
use trainerd_integration::standin::Behaviour;

fn install_arguments(version: &str) -> Vec<String> {
    let mut arguments = vec!["up".to_owned(), "--yes".into(), "--timeout".into(), "3m".into()];
    arguments.extend(["--set".to_owned(), format!("trainer-version={version}")]);
    arguments.extend(QUICK.map(str::to_owned));
    arguments
}

/// What the test itself can see, whatever trainerd says.
fn assert_ready(cluster: &TestCluster) -> Result<(), Box<dyn Error>> {
    let deployments = cluster.list(&stack::deployment(), Some(stack::INSTALLATION))?;
    let names: Vec<_> = deployments.iter().filter_map(|d| d["metadata"]["name"].as_str()).collect();
    assert_eq!(
        names,
        ["jobset-controller-manager", "kubeflow-trainer-controller-manager", "lws-controller-manager"]
    );
    for deployment in &deployments {
        assert!(deployment["status"]["readyReplicas"].as_u64() > Some(0), "{deployment}");
    }
    for kind in stack::webhook_configurations() {
        let configurations = cluster.list(&kind, Some(stack::INSTALLATION))?;
        assert_eq!(configurations.len(), 3, "{}", kind.kind);
        for webhook in configurations.iter().filter_map(|c| c["webhooks"].as_array()).flatten() {
            assert!(webhook.pointer("/clientConfig/caBundle").is_some_and(Value::is_string), "{webhook}");
        }
    }
    let runtimes = cluster.list(&stack::runtime(), Some(stack::INSTALLATION))?;
    assert_eq!(runtimes.len(), 4);
    assert!(cluster.record()?.is_some_and(|record| record["journal"].is_null()), "the journal is closed");
    assert_eq!(cluster.lease_holder()?, None, "the lease is free");
    Ok(())
}

#[test]
fn a_fresh_stack_becomes_ready_and_unchanged_options_write_nothing() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    let plan = cluster.run(&["plan", "--set", "trainer-version=2.2.1"])?.expect_code(2)?;
    assert!(cluster.record()?.is_none(), "planning writes nothing: {}", plan.stderr);

    cluster.run(&install_arguments("2.2.1"))?.expect_code(0)?;
    assert_ready(&cluster)?;

    let mark = cluster.audit().map(trainerd_integration::cluster::AuditLog::mark).transpose()?;
    let again = install_arguments("2.2.1");
    let plan: Vec<&str> = ["plan"].into_iter().chain(again[4..].iter().map(String::as_str)).collect();
    cluster.run(&plan)?.expect_code(0)?;
    let doctor = cluster.run(&["doctor"])?.expect_code(0)?;
    assert!(doctor.stdout.contains("none; 0 to create, 0 to change"), "{}", doctor.stdout);
    cluster.run(&again)?.expect_code(0)?;
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!(status["ready"], true, "{status}");
    if let (Some(audit), Some(mark)) = (cluster.audit(), mark) {
        assert_eq!(audit.writes_since(mark, "trainerd/")?, [], "nothing to do writes nothing");
        let somebody = audit.writes_since(mark, "")?;
        println!("others wrote {} times meanwhile", somebody.len());
    }
    Ok(())
}

#[test]
fn install_waits_for_slow_controllers() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a real node starts pods when it likes");
        return Ok(());
    }
    // `all`: as late as the figure says.
    let (greatest, runs) = match std::env::var("TRAINERD_TORTURE").as_deref() {
        Ok("all") => (30, 100),
        _ => (5, 2),
    };
    let mut cluster = cluster;
    for _ in 0..runs {
        cluster.restore_empty()?;
        cluster.set_behaviour(Behaviour {
            delay: (Duration::ZERO, Duration::from_secs(greatest)),
            ..Behaviour::default()
        });
        let run = cluster.run(&install_arguments("2.3.0"))?.expect_code(0)?;
        // Trying whether a webhook answers may fail; what it admits is not sent before it does.
        assert!(!run.stderr.contains("trying "), "{}", run.stderr);
        assert_ready(&cluster)?;
    }
    Ok(())
}

#[test]
fn a_blocked_pod_is_reported_and_the_command_can_be_repeated() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a real node has the room it has");
        return Ok(());
    }
    cluster.set_behaviour(Behaviour { cpu_millis: 10, ..Behaviour::default() });
    let arguments = install_arguments("2.2.1");
    let mut impatient: Vec<&str> = arguments.iter().map(String::as_str).collect();
    impatient[3] = "15s";
    let run = cluster.run(&impatient)?.expect_code(6)?;
    assert!(run.stderr.contains("Insufficient cpu"), "{}", run.stderr);
    assert!(cluster.record()?.is_some_and(|record| !record["journal"].is_null()), "the journal stays open");
    let status = cluster.run(&["status"])?.expect_code(0)?;
    assert!(status.stdout.contains("Insufficient cpu"), "{}", status.stdout);
    let jobset = cluster.get(&stack::deployment(), NAMESPACE, "jobset-controller-manager")?;
    assert!(jobset.is_some_and(|jobset| jobset["status"]["readyReplicas"].is_null()));

    cluster.set_behaviour(Behaviour::default());
    cluster.run(&impatient)?.expect_code(0)?;
    assert_ready(&cluster)
}

#[test]
fn an_interrupted_command_can_be_resumed() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a real node starts pods when it likes, perhaps too soon to interrupt anything");
        return Ok(());
    }
    let late = Duration::from_mins(10);
    cluster.set_behaviour(Behaviour { delay: (late, late), ..Behaviour::default() });
    let arguments = install_arguments("2.2.1");
    let (command, child) = cluster.spawn(cluster.kubeconfig(), &arguments)?;
    let started = std::time::Instant::now();
    cluster.wait_until("a Deployment", Duration::from_mins(1), || {
        Ok(!cluster.list(&stack::deployment(), Some(stack::INSTALLATION))?.is_empty())
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or("a process has a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    let run = trainerd_integration::product::wait(command, child, started)?.expect_code(130)?;
    assert!(run.stderr.contains(" hint: "), "{}", run.stderr);
    assert!(cluster.record()?.is_some_and(|record| !record["journal"].is_null()), "the journal stays open");
    assert_eq!(cluster.lease_holder()?, None, "the lease does not");

    cluster.set_behaviour(Behaviour::default());
    cluster.delete_pods()?;
    cluster.run(&arguments)?.expect_code(0)?;
    assert_ready(&cluster)
}

#[test]
fn objects_deleted_during_a_plan_are_recreated() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a real node starts pods when it likes, perhaps too soon to delete anything");
        return Ok(());
    }
    let late = Duration::from_secs(8);
    cluster.set_behaviour(Behaviour { delay: (late, late), ..Behaviour::default() });
    let (command, child) = cluster.spawn(&cluster.proxied(), &install_arguments("2.2.1"))?;
    let started = std::time::Instant::now();
    let jobset = "jobset-controller-manager";
    let crd = "trainingruntimes.trainer.kubeflow.org";
    let exists = |kind, namespace, name| Ok(cluster.get(&kind, namespace, name)?.is_some());
    let bound = Duration::from_mins(1);
    cluster.wait_until("the CRD", bound, || exists(stack::crd(), "", crd))?;
    cluster.wait_until("the Deployment", bound, || exists(stack::deployment(), NAMESPACE, jobset))?;
    let uid = || Ok(cluster.get(&stack::crd(), "", crd)?.unwrap_or_default()["metadata"]["uid"].clone());
    let first: Value = uid()?;
    cluster.delete(&stack::crd(), "", crd)?;
    cluster.wait_until("another CRD", bound, || uid().map(|uid| uid.is_string() && uid != first))?;
    // No watch reports this one: by the time it can be opened again, what happened is too long ago.
    for (fault, times) in [(Fault::Reset, 2), (Fault::Answer(410), 1)] {
        let path = "/deployments".to_owned();
        let when = When::Matching { method: Method::GET, path, times: Some(times) };
        cluster.proxy().add(Rule { when, fault });
    }
    cluster.proxy().cut_watches();
    cluster.delete(&stack::deployment(), NAMESPACE, jobset)?;
    cluster.wait_until("another Deployment", bound, || exists(stack::deployment(), NAMESPACE, jobset))?;
    // Nothing waits for a Service itself; its endpoints are waited for in vain.
    let service = "jobset-webhook-service";
    cluster.delete(&stack::service(), NAMESPACE, service)?;
    let run = trainerd_integration::product::wait(command, child, started)?.expect_code(0)?;
    // Without an answer of the API server.
    let log = cluster.proxy().log();
    let refused = log.iter().filter(|entry| entry.path.contains("/deployments") && entry.status.is_none());
    assert_eq!(refused.count(), 3, "{log:#?}");
    for object in [format!("Deployment {NAMESPACE}/{jobset}"), format!("Service {NAMESPACE}/{service}")] {
        let told = format!("planning again: {object} was deleted by somebody else");
        assert!(run.stderr.contains(&told), "{told:?} is not in: {}", run.stderr);
    }
    assert_eq!(cluster.lease_holder()?, None);
    let record = cluster.record()?.unwrap_or_default();
    assert_eq!((&record["current"], &record["journal"]), (&Value::from(1), &Value::Null), "{record}");
    assert_ready(&cluster)
}
