//! Pods that are refused: foreseen by doctor, and with their reason where they are waited for.

use std::error::Error;

use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::stack::{NAMESPACE, QUICK, namespace};
use trainerd_plan::object::Resource;

fn core(kind: &str, plural: &str) -> Resource {
    let (group, version) = (String::new(), "v1".to_owned());
    Resource { group, version, kind: kind.to_owned(), plural: plural.to_owned(), namespaced: true }
}

fn run(cluster: &TestCluster, arguments: &[&str], code: i32) -> Result<(String, String), Box<dyn Error>> {
    let run = cluster.run(&[arguments, &QUICK].concat())?.expect_code(code)?;
    Ok((run.stdout, run.stderr))
}

#[test]
fn rejections_of_pods_are_reported_before_and_during_waits() -> Result<(), Box<dyn Error>> {
    let mut cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: the namespace is made with a quota, and only the local cluster is put back");
        return Ok(());
    }
    let quota = |hard: Value| json!({"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": hard}});
    let limits = json!({"type": "Container", "max": {"memory": "1Mi"}});
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": [limits]}});
    for (what, labels, object, says) in [
        ("a quota", json!({}), Some(quota(json!({"pods": "0"}))), "exceeded quota"),
        ("a limit range", json!({}), Some(range), "maximum memory usage per Container is 1Mi"),
        // The pods of all three controllers satisfy it.
        ("pod security", json!({"pod-security.kubernetes.io/enforce": "restricted"}), None, ""),
    ] {
        cluster.restore_empty()?;
        let (checks, _) = run(&cluster, &["doctor"], 0)?;
        assert!(checks.contains("namespace kubeflow-system does not exist yet"), "{checks}");
        let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}});
        cluster.create(&namespace(), &home)?;
        let account = core("ServiceAccount", "serviceaccounts");
        cluster.wait_until("the default account", std::time::Duration::from_secs(30), || {
            Ok(cluster.get(&account, NAMESPACE, "default")?.is_some())
        })?;
        let Some(mut object) = object else {
            let (checks, _) = run(&cluster, &["doctor"], 0)?;
            assert!(
                checks.contains("those of 3 workloads in the plan would be admitted"),
                "{what}: {checks}"
            );
            run(&cluster, &["up", "--yes", "--timeout", "3m"], 0)?;
            continue;
        };
        object["metadata"] = json!({"name": "mean", "namespace": NAMESPACE});
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        cluster.create(&core(&kind, &format!("{}s", kind.to_lowercase())), &object)?;

        let foreseen = || -> Result<bool, trainerd_integration::Error> {
            let run = cluster.run(&[&["doctor"][..], &QUICK].concat())?;
            Ok(run.code == Some(1)
                && run.stdout.contains("pods would be refused")
                && run.stdout.contains(says))
        };
        // A quota counts nothing before its controller has seen it.
        cluster.wait_until(
            &format!("doctor to foresee {what}"),
            std::time::Duration::from_secs(30),
            foreseen,
        )?;
        let (_, errors) = run(&cluster, &["up", "--yes", "--timeout", "15s"], 6)?;
        let end = errors.split("error: timed out").nth(1).unwrap_or_default();
        assert!(end.contains(says) && !end.contains("Replicas: 0/1"), "{what}: {errors}");
        let status = cluster.run(&["status"])?.expect_code(0)?.stdout;
        assert!(status.contains(says), "{what}: {status}");
    }
    Ok(())
}
