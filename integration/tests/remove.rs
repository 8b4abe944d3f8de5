//! Taking it away: what is stored stays unless a person says otherwise, and nothing of trainerd's remains.

use std::error::Error;

use trainerd_integration::TestCluster;
use trainerd_integration::stack::{self, NAMESPACE, a_train_job};

const REMOVE: [&str; 4] = ["remove", "--yes", "--timeout", "2m"];

#[test]
fn stored_objects_survive_a_removal_unless_purged() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    let job = cluster.create(&stack::train_job(), &a_train_job("kept"))?;

    let refused = cluster.run(&[&REMOVE[..], &["--purge"]].concat())?.expect_code(3)?;
    assert!(refused.stderr.contains("default/kept"), "{}", refused.stderr);
    assert_eq!(cluster.list(&stack::deployment(), Some(stack::INSTALLATION))?.len(), 3, "nothing is changed");

    cluster.run(&REMOVE)?.expect_code(0)?;
    assert_eq!(
        cluster.list(&stack::deployment(), Some(stack::INSTALLATION))?,
        Vec::<serde_json::Value>::new()
    );
    let found = cluster.get(&stack::train_job(), "default", "kept")?.unwrap_or_default();
    assert_eq!(found["metadata"]["uid"], job["metadata"]["uid"], "the CRDs and what is in them stay");
    gone(&cluster)?;

    cluster.install("2.3.0", &[])?;
    cluster.run(&[&REMOVE[..], &["--purge", "--delete-jobs"]].concat())?.expect_code(0)?;
    gone(&cluster)?;
    let crds = cluster.list(&stack::crd(), None)?;
    let ours = |name: &str| {
        ["trainer.kubeflow.org", "jobset.x-k8s.io", "leaderworkerset.x-k8s.io"]
            .iter()
            .any(|group| name.ends_with(group))
    };
    let left: Vec<_> =
        crds.iter().filter_map(|crd| crd["metadata"]["name"].as_str()).filter(|name| ours(name)).collect();
    assert_eq!(left, Vec::<&str>::new());
    cluster.run(&REMOVE)?.expect_code(0)?;
    Ok(())
}

#[test]
fn a_namespace_with_other_objects_is_kept() -> Result<(), Box<dyn Error>> {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &[])?;
    let theirs = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "theirs", "namespace": NAMESPACE}, "data": {"a": "b"},
    });
    let theirs = cluster.create(&stack::config_map(), &theirs)?;
    cluster.run(&[&REMOVE[..], &["--purge"]].concat())?.expect_code(0)?;
    let namespace = cluster.get(&stack::namespace(), "", NAMESPACE)?.unwrap_or_default();
    assert!(namespace["metadata"]["deletionTimestamp"].is_null() && namespace.is_object(), "{namespace}");
    assert_eq!(cluster.get(&stack::config_map(), NAMESPACE, "theirs")?, Some(theirs));
    let left = cluster.list(&stack::secret(), Some(stack::INSTALLATION))?;
    assert_eq!(left, Vec::<serde_json::Value>::new(), "no record stays behind");
    cluster.delete(&stack::namespace(), "", NAMESPACE)?;
    gone(&cluster)
}

/// The namespace goes: trainerd made it, and nothing else is in it.
fn gone(cluster: &TestCluster) -> Result<(), Box<dyn Error>> {
    cluster.wait_until("the namespace to go", std::time::Duration::from_mins(1), || {
        Ok(cluster.get(&stack::namespace(), "", NAMESPACE)?.is_none())
    })?;
    Ok(())
}
