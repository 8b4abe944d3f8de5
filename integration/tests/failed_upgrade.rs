//! An upgrade whose image never becomes ready goes back by itself.

use std::error::Error;

use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::stack::{self, NAMESPACE, a_train_job};

const TRAINER: &str = "kubeflow-trainer-controller-manager";

fn image(cluster: &TestCluster) -> Result<Value, Box<dyn Error>> {
    let deployment = cluster.get(&stack::deployment(), NAMESPACE, TRAINER)?.unwrap_or_default();
    Ok(deployment.pointer("/spec/template/spec/containers/0/image").cloned().unwrap_or_default())
}

#[test]
fn an_image_that_never_becomes_ready_is_rolled_back_and_said() -> Result<(), Box<dyn Error>> {
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
