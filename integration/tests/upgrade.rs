//! From 2.2.1 to 2.3.0 and back, with a TrainJob stored throughout.

use std::error::Error;

use serde_json::Value;
use trainerd_integration::TestCluster;
use trainerd_integration::stack::{self, NAMESPACE, a_job_set, a_train_job};
use trainerd_plan::object::Resource;

const CRDS: [&str; 4] = [
    "clustertrainingruntimes.trainer.kubeflow.org",
    "jobsets.jobset.x-k8s.io",
    "trainingruntimes.trainer.kubeflow.org",
    "trainjobs.trainer.kubeflow.org",
];

fn images(cluster: &TestCluster) -> Result<Vec<String>, Box<dyn Error>> {
    let deployments = cluster.list(&stack::deployment(), Some(stack::INSTALLATION))?;
    let image = |deployment: &Value| {
        Some(deployment.pointer("/spec/template/spec/containers/0/image")?.as_str()?.to_owned())
    };
    Ok(deployments.iter().filter_map(image).collect())
}

#[test]
fn upgrade_and_rollback_keep_a_train_job() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let old = images(&cluster)?;
    assert!(old.iter().any(|image| image.ends_with("trainer-controller-manager:v2.2.1")), "{old:?}");
    let job = cluster.create(&stack::train_job(), &a_train_job("stored"))?;

    cluster.run(&["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let new = images(&cluster)?;
    for (part, version) in [("trainer-controller-manager", "v2.3.0"), ("jobset", "v0.12.0")] {
        assert!(new.iter().any(|image| image.ends_with(&format!("{part}:{version}"))), "{new:?}");
    }
    untouched(&cluster, &stack::train_job(), &job)?;

    let refused = cluster.run(&["rollback", "1", "--yes"])?.expect_code(3)?;
    for crd in CRDS {
        assert!(refused.stderr.contains(crd), "{crd} is not named in: {}", refused.stderr);
    }
    assert_eq!(images(&cluster)?, new, "a refusal changes nothing");

    let diff: Value = cluster.run(&["diff", "1", "2", "-o", "json"])?.expect_code(0)?.json()?;
    let objects = diff["objects"].as_array().cloned().unwrap_or_default();
    for crd in CRDS {
        assert!(
            objects.iter().any(|object| object["object"]["name"] == crd),
            "{crd} is not in the difference"
        );
    }
    let exported = cluster.run(&["export", "1"])?.expect_code(0)?;
    assert!(exported.stdout.contains("trainer-controller-manager:v2.2.1"), "revision 1 keeps its images");

    cluster.run(&["rollback", "1", "--allow", "lossy", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    assert_eq!(images(&cluster)?, old);
    untouched(&cluster, &stack::train_job(), &job)?;
    let again = cluster.run(&["export", "3"])?.expect_code(0)?;
    assert_eq!(again.stdout, exported.stdout, "what is gone back to is what was");

    let history: Value = cluster.run(&["history", "-o", "json"])?.expect_code(0)?.json()?;
    let rows: Vec<_> = history
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            (
                row["revision"].as_u64(),
                row["purpose"].as_str(),
                row["result"].as_str(),
                row["current"].as_bool(),
            )
        })
        .collect();
    let row = |number, purpose, current| (Some(number), Some(purpose), Some("deployed"), Some(current));
    assert_eq!(rows, [row(1, "install", false), row(2, "upgrade", false), row(3, "rollback", true)]);
    Ok(())
}

/// The object is the very one that it was, never written since.
fn untouched(cluster: &TestCluster, kind: &Resource, before: &Value) -> Result<(), Box<dyn Error>> {
    let name = before["metadata"]["name"].as_str().unwrap_or_default();
    let found = cluster.get(kind, "default", name)?.unwrap_or_default();
    if cluster.is_local() {
        assert_eq!(found, *before);
    } else {
        // A real controller writes its status.
        assert_eq!(
            (&found["metadata"]["uid"], &found["spec"]),
            (&before["metadata"]["uid"], &before["spec"])
        );
    }
    Ok(())
}

#[test]
fn job_sets_that_the_new_version_would_damage_block_the_upgrade() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.2.1", &[])?;
    let mut job_set = a_job_set("gang");
    job_set["spec"]["suspend"] = Value::Bool(true);
    job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["workloadRef"] =
        serde_json::json!({"name": "w", "podGroup": "g"});
    let stored = cluster.create(&stack::job_set(), &job_set)?;
    let field = "/spec/replicatedJobs/0/template/spec/template/spec/workloadRef";
    assert!(stored.pointer(field).is_some(), "the old CRD has the field: {stored}");

    let refused = cluster.run(&["upgrade", "--to", "trainer=2.3.0", "--yes"])?.expect_code(3)?;
    assert!(refused.stderr.contains("default/gang"), "{}", refused.stderr);
    untouched(&cluster, &stack::job_set(), &stored)?;

    cluster.delete(&stack::job_set(), "default", "gang")?;
    cluster.run(&["upgrade", "--to", "trainer=2.3.0", "--yes", "--timeout", "3m"])?.expect_code(0)?;
    let deployment = cluster.get(&stack::deployment(), NAMESPACE, "jobset-controller-manager")?;
    assert!(deployment.is_some_and(|deployment| deployment["status"]["readyReplicas"] == 1));
    Ok(())
}
