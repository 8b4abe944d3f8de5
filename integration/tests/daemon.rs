//! The daemon: options become an installation, nothing changed costs nothing, and what somebody changes is put right.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use trainerd_cluster::CreateParams;
use trainerd_integration::TestCluster;
use trainerd_integration::stack::{self, NAMESPACE};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const BOUND: Duration = Duration::from_mins(3);
const JOBSET: &str = "jobset-controller-manager";
/// The user agent of a daemon.
const DAEMON: &str = "trainerd/0.1.0 (daemon)";

/// A file with options for a test, and these.
fn options(cluster: &TestCluster, name: &str, more: &str) -> Result<PathBuf> {
    let path = cluster.folder().join(name);
    let text = format!("small-footprint: true\nsettle: 0\ntrainer-version: \"2.2.1\"\n{more}");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn patch(cluster: &TestCluster, kind: &trainerd_plan::object::Resource, name: &str, patch: &Value) -> Result {
    let namespace = kind.namespaced.then_some(NAMESPACE);
    cluster.block_on(cluster.api().patch_merge(kind, namespace, name, patch, CreateParams::default()))?;
    Ok(())
}

#[test]
fn options_become_an_installation_and_nothing_changed_costs_nothing() -> Result {
    let cluster = TestCluster::take()?;
    let file = options(&cluster, "options.yaml", "")?;
    let arguments = ["--config", file.to_str().unwrap_or_default()];
    let mut daemon = cluster.daemon("daemon", &arguments)?;
    let view = daemon.wait_until_settled(BOUND)?;
    assert_eq!(view["outlook"]["revision"], 1, "{view:#}");
    for path in ["/livez", "/healthz", "/readyz", "/settledz"] {
        assert_eq!(daemon.probe(path)?.code, 200, "{path}");
    }
    // The lease of the plan is given back, and watches are open.
    std::thread::sleep(Duration::from_secs(2));
    let Some(audit) = cluster.audit() else { return Ok(()) };
    let mark = audit.mark()?;
    let before = daemon.usage()?;
    std::thread::sleep(Duration::from_secs(20));
    let after = daemon.usage()?;
    println!("idle for 20 s: {} kB, {:?} of processor time", after.0, after.1.saturating_sub(before.1));
    assert_eq!(audit.requests_since(mark, DAEMON)?, [""; 0]);

    // A restart reads, and writes nothing.
    daemon.signal(Signal::TERM)?;
    assert_eq!(daemon.end()?, Some(0), "{}", daemon.log());
    let mark = audit.mark()?;
    let started = std::time::Instant::now();
    let mut daemon = cluster.daemon("daemon", &arguments)?;
    daemon.wait_until_settled(BOUND)?;
    println!("settled again after {:?}", started.elapsed());
    let requests = audit.requests_since(mark, DAEMON)?;
    println!("{requests:#?}");
    assert_eq!(audit.writes_since(mark, DAEMON)?, []);
    Ok(())
}

#[test]
fn what_somebody_changes_or_deletes_is_put_right_by_one_write() -> Result {
    let cluster = TestCluster::take()?;
    let file = options(&cluster, "options.yaml", "")?;
    let mut daemon = cluster.daemon("daemon", &["--config", file.to_str().unwrap_or_default()])?;
    daemon.wait_until_settled(BOUND)?;
    let Some(audit) = cluster.audit() else { return Ok(()) };
    let mark = audit.mark()?;
    let deployment = stack::deployment();
    patch(&cluster, &deployment, JOBSET, &json!({"spec": {"replicas": 3}}))?;
    let replicas = || -> std::result::Result<Value, trainerd_integration::Error> {
        Ok(cluster.get(&deployment, NAMESPACE, JOBSET)?.unwrap_or_default()["spec"]["replicas"].clone())
    };
    cluster.wait_until("the replicas", BOUND, || Ok(replicas()? == 1))?;
    // A status, and what nobody of us owns, is left alone.
    patch(&cluster, &deployment, JOBSET, &json!({"metadata": {"annotations": {"theirs": "1"}}}))?;

    let config = stack::config_map();
    let name = "kubeflow-trainer-config";
    let original = cluster.get(&config, NAMESPACE, name)?.ok_or("no ConfigMap")?;
    let key = original["data"].as_object().and_then(|data| data.keys().next()).ok_or("no data")?.clone();
    patch(&cluster, &config, name, &json!({"data": {(key.as_str()): "theirs"}}))?;
    cluster.wait_until("the ConfigMap", BOUND, || {
        Ok(cluster.get(&config, NAMESPACE, name)?.unwrap_or_default()["data"] == original["data"])
    })?;
    cluster.delete(&config, NAMESPACE, name)?;
    cluster.wait_until("the ConfigMap again", BOUND, || {
        Ok(cluster.get(&config, NAMESPACE, name)?.is_some_and(|found| found["data"] == original["data"]))
    })?;
    daemon.wait_until_settled(BOUND)?;
    let writes = audit.writes_since(mark, DAEMON)?;
    let to = |part: &str| writes.iter().filter(|write| write.path.contains(part)).count();
    assert_eq!((to("/deployments/"), to("/configmaps/"), to("/leases/")), (1, 2, 1), "{writes:#?}");
    assert_eq!(writes.len(), 4, "{writes:#?}");
    assert_eq!(
        daemon.metric("trainerd_drift_repaired_total{kind=\"Deployment\",verb=\"apply\"}")?,
        Some(1.0)
    );
    let log = daemon.log();
    assert!(log.contains("put right") && log.contains(".spec.replicas"), "{log}");
    Ok(())
}
