//! An upgrade whose image never becomes ready is rolled back automatically.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::stack::{self, NAMESPACE, a_train_job};
use trainerd_integration::standin::Behaviour;

const TRAINER: &str = "kubeflow-trainer-controller-manager";

fn image(cluster: &TestCluster) -> Result<Value, trainerd_integration::Error> {
    let deployment = cluster.get(&stack::deployment(), NAMESPACE, TRAINER)?.unwrap_or_default();
    Ok(deployment.pointer("/spec/template/spec/containers/0/image").cloned().unwrap_or_default())
}

/// What the installation has, by kind and name.
fn members(cluster: &TestCluster) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut members = BTreeSet::new();
    // Endpoints are made by controllers, which hand on the labels of the Service.
    for kind in cluster.kinds()?.into_iter().filter(|kind| !kind.kind.starts_with("Endpoint")) {
        for object in cluster.list(&kind, Some(stack::INSTALLATION))? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            // The account of the installation has a revision more.
            if !name.starts_with(stack::RECORD) {
                members.insert(format!("{} {name}", kind.kind));
            }
        }
    }
    Ok(members)
}

#[test]
fn a_disturbed_rollback_still_completes() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: a real node starts pods when it likes, perhaps too soon to delete anything");
        return Ok(());
    }
    cluster.install("2.2.1", &[])?;
    let (before, image_before) = (members(&cluster)?, image(&cluster)?);
    let late = Duration::from_secs(3);
    cluster.set_behaviour(Behaviour { delay: (late, late), ..Behaviour::default() });
    let bad = "kubeflow-trainer-image=ghcr.io/kubeflow/trainer/trainer-controller-manager:never-ready";
    let arguments =
        ["upgrade", "--yes", "--set", bad, "--to", "trainer=2.3.0", "--set", "progress-deadline=30"];
    let (command, child) = cluster.spawn(cluster.kubeconfig(), &arguments)?;
    let started = Instant::now();
    cluster.wait_until("the way back", Duration::from_mins(2), || {
        let is_undone = cluster.record()?.is_some_and(|record| record["journal"]["phase"]["phase"] == "undo");
        Ok(is_undone && image(&cluster)? == image_before)
    })?;
    cluster.delete(&stack::deployment(), NAMESPACE, TRAINER)?;
    let run = trainerd_integration::product::wait(command, child, started)?.expect_code(1)?;
    for part in ["planning again", "never-ready"] {
        assert!(run.stderr.contains(part), "{part} is not in: {}", run.stderr);
    }
    assert_eq!((members(&cluster)?, image(&cluster)?), (before, image_before));
    let record = cluster.record()?.unwrap_or_default();
    assert_eq!((&record["current"], &record["journal"]), (&Value::from(1), &Value::Null), "{record}");
    assert_eq!(record["results"]["2"]["result"], "rolled-back", "{record}");
    assert_eq!(cluster.lease_holder()?, None);
    Ok(())
}

#[test]
fn an_unready_image_is_rolled_back_and_reported() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let before = image(&cluster)?;
    let job = cluster.create(&stack::train_job(), &a_train_job("running"))?;

    let bad = "kubeflow-trainer-image=ghcr.io/kubeflow/trainer/trainer-controller-manager:never-ready";
    // The least that the option allows.
    let arguments =
        ["upgrade", "--yes", "--set", bad, "--to", "trainer=2.3.0", "--set", "progress-deadline=30"];
    let run = cluster.run(&arguments)?.expect_code(1)?;
    for part in ["ImagePullBackOff", TRAINER, "never-ready"] {
        assert!(run.stderr.contains(part), "{part} is not in: {}", run.stderr);
    }
    println!("rolled back after {:?}", run.took);

    assert_eq!(image(&cluster)?, before);
    let found = cluster.get(&stack::train_job(), "default", "running")?.unwrap_or_default();
    assert_eq!(found["metadata"]["uid"], job["metadata"]["uid"]);
    if cluster.is_local() {
        assert_eq!(found, job);
    }
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!((&status["ready"], &status["revision"]), (&Value::Bool(true), &Value::from(1)), "{status}");
    let history: Value = cluster.run(&["history", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!(history[1]["result"], "rolled-back", "{history}");
    assert!(cluster.record()?.is_some_and(|record| record["journal"].is_null()));
    assert_eq!(cluster.lease_holder()?, None);

    // Another upgrade is not in its way.
    cluster.run(&["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    Ok(())
}
