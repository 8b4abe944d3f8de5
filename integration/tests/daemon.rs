//! The daemon: options become an installation, nothing changed costs nothing, and what somebody changes is repaired.

use std::error::Error;
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use trainerd_cluster::CreateParams;
use trainerd_integration::TestCluster;
use trainerd_integration::cluster::{AuditLog, Mark};
use trainerd_integration::daemon::Daemon;
use trainerd_integration::managed::{BOUND, JOBSET, Managed, text};
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::stack::{self, NAMESPACE, RECORD};
use trainerd_integration::standin::Behaviour;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The user agent of a daemon.
const DAEMON: &str = "trainerd/0.1.0 (daemon)";

/// How often daemons wrote to a path since a mark.
fn writes(audit: &AuditLog, mark: Mark, path: &str) -> Result<usize> {
    let writes = audit.writes_since(mark, DAEMON)?;
    Ok(writes.iter().filter(|write| write.path.contains(path) && write.code < 400).count())
}

#[test]
fn an_unchanged_installation_causes_no_writes() -> Result {
    let mut kept = Managed::new()?;
    let view = kept.daemon.read("/v1/installation")?;
    assert_eq!((&view["outlook"]["revision"], &view["phase"]), (&json!(1), &json!("ready")), "{view:#}");
    for path in ["/livez", "/healthz", "/readyz", "/settledz"] {
        assert_eq!(kept.daemon.probe(path)?.code, 200, "{path}");
    }
    let Some(audit) = kept.cluster.audit().cloned() else { return Ok(()) };
    std::thread::sleep(Duration::from_secs(2));
    let mark = audit.mark()?;
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(audit.requests_since(mark, DAEMON)?, [""; 0]);

    // A restart reads each kind once, and writes nothing.
    kept.daemon.signal(Signal::TERM)?;
    assert_eq!(kept.daemon.end()?, Some(0), "{}", kept.daemon.log());
    let mark = audit.mark()?;
    let mut daemon = kept.cluster.daemon("again", &["--config", kept.file.to_str().unwrap_or_default()])?;
    daemon.wait_until_settled(BOUND)?;
    assert_eq!(audit.writes_since(mark, DAEMON)?, []);
    let requests = audit.requests_since(mark, DAEMON)?;
    let mut lists: Vec<&str> = requests.iter().filter_map(|line| line.strip_prefix("list ")).collect();
    // The account of the installation, which holds Secrets' data, is another list than that of its members.
    lists.retain(|line| !line.contains("trainerd%2Edev%2Frecord"));
    let kinds = lists.iter().map(|line| line.split('?').next().unwrap_or_default());
    let kinds: std::collections::BTreeSet<&str> = kinds.collect();
    assert_eq!(lists.len(), kinds.len(), "{requests:#?}");
    let reads = requests.iter().filter(|line| line.starts_with("get /api")).count();
    assert!(reads <= 2, "chunks of one revision only: {requests:#?}");
    Ok(())
}

#[test]
fn a_changed_or_deleted_object_is_repaired_by_one_write() -> Result {
    let mut kept = Managed::new()?;
    let Some(audit) = kept.cluster.audit().cloned() else { return Ok(()) };
    let mark = audit.mark()?;
    kept.scale(3)?;
    kept.wait_for_replicas(1)?;
    // A status, and what nobody of us owns, is left alone.
    kept.patch(&stack::deployment(), JOBSET, &json!({"metadata": {"annotations": {"theirs": "1"}}}))?;

    let (config, name) = (stack::config_map(), "kubeflow-trainer-config");
    let original = kept.cluster.get(&config, NAMESPACE, name)?.ok_or("no ConfigMap")?;
    let is_as_it_was = |kept: &Managed| {
        Ok(kept.cluster.get(&config, NAMESPACE, name)?.unwrap_or_default()["data"] == original["data"])
    };
    let key = original["data"].as_object().and_then(|data| data.keys().next()).ok_or("no data")?.clone();
    kept.patch(&config, name, &json!({"data": {(key.as_str()): "theirs"}}))?;
    kept.cluster.wait_until("the ConfigMap", BOUND, || is_as_it_was(&kept))?;
    kept.cluster.delete(&config, NAMESPACE, name)?;
    kept.cluster.wait_until("the ConfigMap again", BOUND, || is_as_it_was(&kept))?;
    kept.daemon.wait_until_settled(BOUND)?;
    let count = |path: &str| writes(&audit, mark, path);
    assert_eq!((count("/deployments/")?, count("/configmaps/")?, count("/leases/")?), (1, 2, 1));
    let all = audit.writes_since(mark, DAEMON)?;
    assert_eq!(all.iter().filter(|write| !write.path.ends_with("/events")).count(), 4, "{all:#?}");
    let repaired = "trainerd_drift_repaired_total{kind=\"Deployment\",verb=\"apply\"}";
    assert_eq!(kept.daemon.metric(repaired)?, Some(1.0));
    let log = kept.daemon.log();
    assert!(log.contains("repaired") && log.contains(".spec.replicas"), "{log}");
    Ok(())
}

#[test]
fn of_two_daemons_only_the_leader_writes() -> Result {
    let kept = Managed::new()?;
    let Some(audit) = kept.cluster.audit().cloned() else { return Ok(()) };
    let mut second = kept.cluster.daemon("second", &["--config", kept.file.to_str().unwrap_or_default()])?;
    second.wait_until_settled(BOUND)?;
    let mark = audit.mark()?;
    for round in 0..4 {
        kept.scale(2 + round)?;
        kept.wait_for_replicas(1)?;
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(writes(&audit, mark, "/deployments/")?, 4);

    // An upgrade is killed in its middle; whoever is left finishes it, and nobody else is needed.
    std::fs::write(&kept.file, text("").replace("2.2.1", "2.3.0"))?;
    kept.cluster.wait_until("the upgrade", BOUND, || {
        Ok(kept.cluster.record()?.is_some_and(|record| !record["journal"].is_null()))
    })?;
    let holder = kept.cluster.lease_holder()?.unwrap_or_default();
    let first_holds = holder.contains(&kept.daemon.pid().to_string());
    let (dying, mut living) = if first_holds { (kept.daemon, second) } else { (second, kept.daemon) };
    dying.signal(Signal::KILL)?;
    let view = living.wait_for("at revision 2", BOUND, |view| {
        view["settled"] == true && view["outlook"]["revision"] == 2
    })?;
    assert_eq!(view["outlook"]["components"]["trainer"]["version"], "2.3.0", "{view:#}");
    assert_eq!(kept.cluster.record()?.unwrap_or_default()["journal"], Value::Null);
    Ok(())
}

#[test]
fn the_daemon_is_paused_and_resumed() -> Result {
    let mut kept = Managed::new()?;
    let refused = kept.cluster.run(&["up", "--yes"])?.expect_code(3)?;
    for part in ["options.yaml", "trainerd pause"] {
        assert!(refused.stderr.contains(part), "{part:?} is not in: {}", refused.stderr);
    }
    kept.cluster.run(&["pause"])?.expect_code(0)?;
    kept.daemon.wait_for("paused", BOUND, |view| view["phase"] == "paused")?;
    kept.scale(3)?;
    let drift = kept.drift(JOBSET, "paused")?;
    assert_eq!(drift["changes"][0]["path"], ".spec.replicas", "{drift:#}");
    assert_eq!(kept.replicas()?, 3);
    let status = kept.cluster.run(&["status"])?.expect_code(0)?;
    assert!(status.stdout.contains("paused by `trainerd pause"), "{}", status.stdout);
    assert_eq!(kept.daemon.probe("/settledz")?.code, 200);
    kept.cluster.run(&["resume"])?.expect_code(0)?;
    kept.wait_for_replicas(1)?;
    kept.daemon.wait_until_settled(BOUND)?;

    // What is wrong with the options is said, and what was good stays in force.
    std::fs::write(&kept.file, text("settle: 1000\n").replace("settle: 0\n", ""))?;
    let view = kept.daemon.wait_for("invalid", BOUND, |view| view["phase"] == "invalid")?;
    assert!(view["reason"].to_string().contains("must be 0 to 300 seconds"), "{view:#}");
    assert_eq!(kept.daemon.probe("/settledz")?.code, 503);
    assert_eq!(kept.daemon.probe("/readyz")?.code, 200);
    kept.scale(3)?;
    kept.wait_for_replicas(1)?;
    Ok(())
}

/// A body of `PUT /v1/desired`.
fn desired(options: &Value) -> Value {
    use sha2::{Digest as _, Sha256};

    // serde_json sorts keys, which is what the digest is of.
    let mut body = json!({"schema": 1, "role": "leader", "intent": "run", "options": options});
    let digest = Sha256::digest(body.to_string().as_bytes());
    body["generation"] = json!(hex::encode(digest));
    body
}

#[test]
fn options_are_set_and_awaited_through_the_api() -> Result {
    let cluster = TestCluster::take()?;
    let mut daemon: Daemon = cluster.daemon("daemon", &[])?;
    daemon.wait_for("absent", BOUND, |view| view["phase"] == "absent")?;
    assert_eq!(daemon.read("/v1/version")?, json!({"version": "0.1.0", "api": 1}));
    let wish = desired(&json!({"small-footprint": true, "settle": 0, "trainer-version": "2.2.1"}));
    let bad = desired(&json!({"settle": 1000, "runtimes": "x"}));
    let refused = daemon.api("PUT", "/v1/desired", Some(&bad))?;
    assert_eq!(refused.code, 422);
    let errors: Value = serde_json::from_str(&refused.body)?;
    assert_eq!(
        errors["errors"],
        json!([{"option": "runtimes", "rule": "unknown runtime x"},
               {"option": "settle", "rule": "must be 0 to 300 seconds"}])
    );
    let mut forged = wish.clone();
    forged["options"]["settle"] = json!(1);
    assert_eq!(daemon.api("PUT", "/v1/desired", Some(&forged))?.code, 400);
    let mut newer = desired(&json!({}));
    newer["schema"] = json!(2);
    assert_ne!(daemon.api("PUT", "/v1/desired", Some(&newer))?.code, 200);

    assert_eq!(daemon.api("PUT", "/v1/desired", Some(&wish))?.code, 200);
    let generation = wish["generation"].as_str().unwrap_or_default();
    let early = daemon.read(&format!("/v1/status?generation={generation}&wait=10ms"))?;
    assert_eq!(early["settled"], false, "{early:#}");
    let status = daemon.read(&format!("/v1/status?generation={generation}&wait=60s"))?;
    assert_eq!((&status["settled"], &status["phase"]), (&json!(true), &json!("ready")), "{status:#}");
    assert_eq!(status["versions"]["trainer"], "2.2.1");
    assert_eq!(status["jobs"], json!({"running": 0, "total": 0}));
    assert_eq!(daemon.read("/v1/trainjobs")?, json!({"count": {}, "unfinished": []}));

    assert_eq!(daemon.api("POST", "/v1/actions/pause", None)?.code, 200);
    daemon.wait_for("paused", BOUND, |view| view["phase"] == "paused")?;
    assert_eq!(daemon.api("POST", "/v1/actions/pause", None)?.code, 409);
    assert_eq!(daemon.api("POST", "/v1/actions/resume", None)?.code, 200);
    daemon.wait_until_settled(BOUND)?;
    assert_eq!(daemon.api("POST", "/v1/actions/dance", None)?.code, 404);
    assert_eq!(daemon.api("GET", "/v1/nowhere", None)?.code, 404);

    // A restart without a word keeps what is there; the same word again changes nothing.
    let Some(audit) = cluster.audit() else { return Ok(()) };
    daemon.signal(Signal::TERM)?;
    daemon.end()?;
    let mark = audit.mark()?;
    let mut daemon = cluster.daemon("daemon", &[])?;
    daemon.wait_until_settled(BOUND)?;
    assert_eq!(daemon.api("PUT", "/v1/desired", Some(&wish))?.code, 200);
    let status = daemon.read(&format!("/v1/status?generation={generation}&wait=60s"))?;
    assert_eq!(status["settled"], true, "{status:#}");
    assert_eq!(audit.writes_since(mark, DAEMON)?, []);
    Ok(())
}

#[test]
fn options_are_read_from_a_config_map() -> Result {
    let cluster = TestCluster::take()?;
    let meta = |name: &str| json!({"name": name, "namespace": NAMESPACE});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.create(&stack::namespace(), &namespace)?;
    let mut daemon = cluster.daemon("daemon", &["--config-map", "options"])?;
    let view = daemon.wait_for("invalid", BOUND, |view| view["phase"] == "invalid")?;
    assert_eq!(view["reason"]["code"], "no-config-map", "{view:#}");
    let data = json!({"small-footprint": "true", "settle": "0", "trainer-version": "2.2.1"});
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("options"), "data": data});
    cluster.create(&stack::config_map(), &object)?;
    daemon.wait_until_settled(BOUND)?;
    let change = json!({"data": {"runtimes": "torch-distributed"}});
    let params = CreateParams::default();
    let (api, kind) = (cluster.api(), stack::config_map());
    cluster.block_on(api.patch_merge(&kind, Some(NAMESPACE), "options", &change, params))?;
    daemon.wait_for("at revision 2", BOUND, |view| {
        view["settled"] == true && view["outlook"]["revision"] == 2
    })?;
    assert_eq!(cluster.list(&stack::runtime(), Some(stack::INSTALLATION))?.len(), 1);
    Ok(())
}

#[test]
fn a_failed_upgrade_is_rolled_back_and_not_retried() -> Result {
    let mut kept = Managed::new()?;
    // An image that the stand-in never gets ready.
    let options = "jobset-image: registry.k8s.io/jobset/jobset:v0.11.1-never\nprogress-deadline: 30\n";
    let never = Duration::from_mins(10);
    kept.cluster.set_behaviour(Behaviour { delay: (never, never), ..Behaviour::default() });
    std::fs::write(&kept.file, text(options))?;
    kept.daemon.wait_for("waiting for the new pods", BOUND, |view| {
        view["plan"]["waiting"].as_array().is_some_and(|waiting| !waiting.is_empty())
    })?;
    let view = kept.daemon.wait_for("failed", BOUND, |view| view["phase"] == "failed")?;
    assert_eq!(view["reason"]["code"], "rolled-back", "{view:#}");
    assert_eq!(view["outlook"]["revision"], 1);
    let revisions = view["revisions"].as_array().map(Vec::len);
    std::thread::sleep(Duration::from_secs(5));
    let view = kept.daemon.read("/v1/installation")?;
    assert_eq!(view["revisions"].as_array().map(Vec::len), revisions);
    // Neither does a daemon that comes later.
    let mut second = kept.cluster.daemon("second", &["--config", kept.file.to_str().unwrap_or_default()])?;
    let view = second.wait_for("failed", BOUND, |view| view["phase"] == "failed")?;
    assert_eq!(view["revisions"].as_array().map(Vec::len), revisions);
    Ok(())
}

#[test]
fn the_daemon_survives_a_failing_api_server() -> Result {
    let kept = Managed::new()?;
    let always = |method: Method, path: &str, times: usize, fault: Fault| Rule {
        when: When::Matching { method, path: path.to_owned(), times: Some(times) },
        fault,
    };
    let cluster = &kept.cluster;
    drop(kept.daemon);
    cluster.block_on(cluster.proxy().begin(vec![
        // Busy at the first write, gone at the next; watches refused or cut.
        always(Method::PATCH, "/deployments/", 2, Fault::Answer(429)),
        always(Method::PATCH, "/configmaps/", 2, Fault::Reset),
        always(Method::GET, "/clusterroles", 3, Fault::Answer(503)),
        always(Method::GET, "/services", 2, Fault::Reset),
        always(Method::GET, "/deployments", 2, Fault::Delay(Duration::from_secs(3))),
    ]));
    let file = kept.file.to_str().unwrap_or_default();
    let mut daemon = cluster.daemon_as(&cluster.proxied(), "daemon", &["--config", file])?;
    daemon.wait_until_settled(BOUND)?;
    let Some(audit) = cluster.audit() else { return Ok(()) };
    let mark = audit.mark()?;
    let patch = json!({"spec": {"replicas": 3}});
    let params = CreateParams::default();
    let kind = stack::deployment();
    cluster.block_on(cluster.api().patch_merge(&kind, Some(NAMESPACE), JOBSET, &patch, params))?;
    cluster.delete(&stack::config_map(), NAMESPACE, "kubeflow-trainer-config")?;
    cluster.wait_until("both", BOUND, || {
        let found = cluster.get(&stack::config_map(), NAMESPACE, "kubeflow-trainer-config")?;
        let deployment = cluster.get(&kind, NAMESPACE, JOBSET)?.unwrap_or_default();
        Ok(deployment["spec"]["replicas"] == 1 && found.is_some())
    })?;
    assert_eq!(writes(audit, mark, "/deployments/")?, 1);
    assert_eq!(writes(audit, mark, "/configmaps/")?, 1);
    let started = Instant::now();
    // The connection of every watch is cut: nothing is missed.
    cluster.block_on(cluster.proxy().begin(Vec::new()));
    cluster.delete(&stack::config_map(), NAMESPACE, "kubeflow-trainer-config")?;
    cluster.wait_until("the ConfigMap", BOUND, || {
        Ok(cluster.get(&stack::config_map(), NAMESPACE, "kubeflow-trainer-config")?.is_some())
    })?;
    println!("after {:?}", started.elapsed());
    Ok(())
}

#[test]
fn after_an_api_server_restart_nothing_is_written_or_missed() -> Result {
    let mut kept = Managed::new()?;
    let Some(audit) = kept.cluster.audit().cloned() else { return Ok(()) };
    let mark = audit.mark()?;
    kept.cluster.restart_api_server()?;
    let view = kept.daemon.wait_for("disconnected", BOUND, |view| view["phase"] == "disconnected")?;
    assert!(view["reason"]["hint"].as_str().is_some_and(|hint| hint.contains("retried")), "{view:#}");
    assert_eq!(kept.daemon.probe("/livez")?.code, 200);
    kept.daemon.wait_until_settled(BOUND)?;
    let written = || -> Result<Vec<String>> {
        let writes = audit.writes_since(mark, DAEMON)?.into_iter().map(|write| write.path);
        Ok(writes.filter(|path| !path.ends_with("/events")).collect())
    };
    assert_eq!(written()?, [""; 0]);
    kept.scale(3)?;
    kept.wait_for_replicas(1)?;
    kept.daemon.wait_until_settled(BOUND)?;
    assert_eq!(writes(&audit, mark, "/deployments/")?, 1, "{:?}", written()?);
    Ok(())
}

#[test]
fn a_lease_holder_with_a_wrong_clock_counts_while_it_renews() -> Result {
    let kept = Managed::new()?;
    let hold = |kept: &Managed, minutes: i64| -> Result {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
        let time = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let patch = json!({"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 3,
                                    "acquireTime": time, "renewTime": time}});
        let (lease, params) = (stack::lease(), CreateParams::default());
        let patch = kept.cluster.api().patch_merge(&lease, Some(NAMESPACE), RECORD, &patch, params);
        kept.cluster.block_on(patch)?;
        Ok(())
    };
    for minutes in [-5, 5] {
        hold(&kept, minutes)?;
        kept.scale(3)?;
        // By the clock of the daemon the lease ran out long ago, or is good for minutes.
        let mut why = String::new();
        for _ in 0..16 {
            std::thread::sleep(Duration::from_millis(500));
            hold(&kept, minutes)?;
            assert_eq!(kept.replicas()?, 3, "written while somebody else held the lease");
            let view = kept.daemon.read("/v1/installation")?;
            why += view["outlook"]["drift"][0]["why"].as_str().unwrap_or_default();
        }
        assert!(why.contains("somebody-else"), "nobody says who has the lease: {why:?}");
        let last = Instant::now();
        kept.wait_for_replicas(1)?;
        println!("{minutes} min: repaired {:?} after he was heard of last", last.elapsed());
        let is_free = || Ok(kept.cluster.lease_holder()?.is_none());
        kept.cluster.wait_until("the lease to be given back", BOUND, is_free)?;
    }
    Ok(())
}

#[test]
fn a_removed_label_is_restored_with_few_requests() -> Result {
    let mut kept = Managed::new()?;
    let Some(audit) = kept.cluster.audit().cloned() else { return Ok(()) };
    let part_of = "applyset.kubernetes.io/part-of";
    for (kind, name) in [(stack::deployment(), JOBSET), (stack::config_map(), "kubeflow-trainer-config")] {
        let mark = audit.mark()?;
        kept.patch(&kind, name, &json!({"metadata": {"labels": {(part_of): null}}}))?;
        kept.cluster.wait_until("the label", BOUND, || {
            let found = kept.cluster.get(&kind, NAMESPACE, name)?.unwrap_or_default();
            Ok(found["metadata"]["labels"][part_of].is_string())
        })?;
        kept.daemon.wait_until_settled(BOUND)?;
        let reads = audit.requests_since(mark, DAEMON)?;
        let reads = reads.iter().filter(|line| line.starts_with("get ")).count();
        assert!(reads <= 3, "{reads} reads of {name}");
    }
    let mark = audit.mark()?;
    kept.set("revision-history: 5\n")?;
    std::thread::sleep(Duration::from_secs(2));
    let requests = audit.requests_since(mark, DAEMON)?;
    let crds = requests.iter().filter(|line| line.starts_with("get ") && line.contains("/customresource"));
    assert!(crds.count() <= 5, "each CRD is read once: {requests:#?}");
    Ok(())
}

#[test]
fn a_removal_while_paused_is_not_repaired() -> Result {
    let mut kept = Managed::new()?;
    kept.cluster.run(&["remove", "--yes"])?.expect_code(3)?;
    kept.cluster.run(&["pause"])?.expect_code(0)?;
    kept.daemon.wait_for("paused", BOUND, |view| view["phase"] == "paused")?;
    kept.cluster.run(&["remove", "--yes", "--timeout", "2m"])?.expect_code(0)?;
    kept.daemon.wait_for("absent", BOUND, |view| view["phase"] == "absent")?;
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(kept.cluster.list(&stack::deployment(), Some(stack::INSTALLATION))?.len(), 0);
    assert!(kept.cluster.record()?.is_none());
    let secrets = kept.cluster.list(&stack::secret(), Some(stack::INSTALLATION))?;
    assert_eq!(secrets, Vec::<Value>::new());
    Ok(())
}
