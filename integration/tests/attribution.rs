//! Who acts, and who asked for it: a daemon on standby writes nothing, and what somebody asked for is told by name.

use std::error::Error;
use std::time::Duration;

use rustix::process::getuid;
use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::daemon::Daemon;
use trainerd_integration::managed::{BOUND, JOBSET, Managed};
use trainerd_integration::service_account::TokenListener;
use trainerd_integration::stack::{self, NAMESPACE};
use trainerd_integration::standin::Behaviour;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The user agent of a daemon.
const DAEMON: &str = "trainerd/0.1.0 (daemon)";

/// A body of `PUT /v1/desired` with its generation.
fn desired(role: &str, options: &Value) -> Value {
    with_generation(json!({"schema": 1, "role": role, "intent": "run", "options": options}))
}

fn with_generation(mut body: Value) -> Value {
    use sha2::{Digest as _, Sha256};

    // serde_json sorts keys, which is what the digest is of.
    let digest = Sha256::digest(body.to_string().as_bytes());
    body["generation"] = json!(hex::encode(digest));
    body
}

fn options(version: &str) -> Value {
    json!({"small-footprint": true, "settle": 0, "trainer-version": version})
}

fn declare(daemon: &Daemon, body: &Value) -> Result {
    let answer = daemon.api("PUT", "/v1/desired", Some(body))?;
    assert_eq!(answer.code, 200, "{}", answer.body);
    Ok(())
}

#[test]
fn a_daemon_declared_standby_during_a_plan_stops_writing() -> Result {
    let cluster = TestCluster::take()?;
    let mut daemon = cluster.daemon("daemon", &[])?;
    daemon.wait_for("absent", BOUND, |view| view["phase"] == "absent")?;
    let who = format!("uid {}", getuid().as_raw());
    declare(&daemon, &desired("leader", &options("2.2.1")))?;
    daemon.wait_until_settled(BOUND)?;
    let view = daemon.read("/v1/installation")?;
    assert_eq!(view["revisions"][0]["askedBy"], who.as_str(), "{view:#}");

    // What is misspelt is not taken for a leader's word.
    for (field, value) in [("rolle", json!("standby")), ("role", Value::Null), ("role", json!("Standby"))] {
        let mut body = json!({"schema": 1, "intent": "run", "options": options("2.3.0")});
        body[field] = value;
        let answer = daemon.api("PUT", "/v1/desired", Some(&with_generation(body)))?;
        assert_eq!(answer.code, 400, "{field}: {}", answer.body);
        assert!(answer.body.contains("BadDesired"), "{}", answer.body);
    }

    // A plan that waits for a long time, other options after its begin, and only then the change of roles.
    let never = Duration::from_mins(10);
    cluster.set_behaviour(Behaviour { delay: (never, never), ..Behaviour::default() });
    declare(&daemon, &desired("leader", &options("2.3.0")))?;
    daemon.wait_for("waiting for the new pods", BOUND, |view| {
        view["plan"]["waiting"].as_array().is_some_and(|waiting| !waiting.is_empty())
    })?;
    let mut later = options("2.3.0");
    later["revision-history"] = json!(7);
    declare(&daemon, &desired("leader", &later))?;
    std::thread::sleep(Duration::from_millis(200));
    declare(&daemon, &desired("standby", &later))?;
    daemon.wait_for("on standby", Duration::from_secs(5), |view| view["phase"] == "standby")?;
    let Some(audit) = cluster.audit().cloned() else { return Ok(()) };
    std::thread::sleep(Duration::from_millis(500));
    let mark = audit.mark()?;
    assert_eq!(daemon.api("POST", "/v1/actions/pause", None)?.code, 409);
    cluster.set_behaviour(Behaviour::default());
    cluster.delete(&stack::config_map(), NAMESPACE, "kubeflow-trainer-config")?;
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(audit.writes_since(mark, DAEMON)?, [], "a standby wrote");
    Ok(())
}

#[test]
fn the_requesting_user_is_in_history_events_and_status() -> Result {
    let cluster = TestCluster::take()?;
    let listener = TokenListener::new(&cluster)?;
    let mut daemon = cluster.daemon("daemon", &listener.arguments())?;
    daemon.wait_for("absent", BOUND, |view| view["phase"] == "absent")?;
    let uid = format!("uid {}", getuid().as_raw());
    declare(&daemon, &desired("leader", &options("2.2.1")))?;
    daemon.wait_until_settled(BOUND)?;

    let account = cluster.account(NAMESPACE, "operator", &["get", "update"])?;
    let user = format!("system:serviceaccount:{NAMESPACE}:operator");
    assert_eq!(listener.ask("POST", "/v1/actions/pause", Some(&account))?.code, 200);
    let view = daemon.wait_for("paused", BOUND, |view| view["phase"] == "paused")?;
    assert_eq!(view["paused"]["askedBy"], user.as_str(), "{view:#}");
    let status = cluster.run(&["status"])?.expect_code(0)?;
    assert!(status.stdout.contains(&format!("paused by {user}, over the API")), "{}", status.stdout);
    assert_eq!(daemon.api("POST", "/v1/actions/resume", None)?.code, 200);
    daemon.wait_until_settled(BOUND)?;
    // It takes a pass: the answer is an operation to wait for.
    assert_eq!(daemon.api("POST", "/v1/actions/force-reconcile", None)?.code, 202);
    let history = cluster.run(&["history"])?.expect_code(0)?;
    assert!(history.stdout.contains(&format!("{uid}, over the API of daemon")), "{}", history.stdout);
    for (reason, who) in [("Paused", &user), ("Resumed", &uid), ("Reconciling", &uid), ("PlanDone", &uid)] {
        cluster.wait_until(&format!("an Event {reason} by {who}"), BOUND, || {
            let events = cluster.list(&stack::event(), None)?;
            let says = |event: &Value| event["note"].as_str().is_some_and(|note| note.contains(who.as_str()));
            Ok(events.iter().any(|event| event["reason"] == reason && says(event)))
        })?;
    }
    Ok(())
}

#[test]
fn drift_through_a_subresource_names_manager_and_subresource() -> Result {
    let mut kept = Managed::new()?;
    kept.scale_by_subresource("kubectl", 3)?;
    kept.wait_for_replicas(1)?;
    kept.cluster.wait_until("an Event", BOUND, || {
        let events = kept.cluster.list(&stack::event(), None)?;
        let says = |event: &Value| {
            event["note"].as_str().is_some_and(|note| note.contains("was changed by kubectl (scale)"))
        };
        Ok(events.iter().any(|event| event["reason"] == "DriftRepaired" && says(event)))
    })?;
    // One whose manager is called as we are, as a daemon's own tool would be.
    kept.set("drift-policy: report\n")?;
    kept.scale_by_subresource("trainerd", 4)?;
    let drift = kept.drift(JOBSET, "left")?;
    assert_eq!(drift["by"], json!(["unknown (scale)"]), "{drift:#}");
    Ok(())
}

#[test]
fn the_options_config_map_has_events_about_its_outcome() -> Result {
    let cluster = TestCluster::take()?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.create(&stack::namespace(), &namespace)?;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "trainerd-options", "namespace": NAMESPACE},
        "data": {"small-footprint": "true", "settle": "1000"},
    });
    cluster.create(&stack::config_map(), &map)?;
    let found = cluster.get(&stack::config_map(), NAMESPACE, "trainerd-options")?.ok_or("no ConfigMap")?;
    let uid = found["metadata"]["uid"].clone();
    let mut daemon = cluster.daemon("daemon", &["--config-map", "trainerd-options"])?;
    daemon.wait_for("invalid", BOUND, |view| view["phase"] == "invalid")?;
    let told = |reason: &str, part: &str| {
        cluster.wait_until(&format!("an Event {reason}"), BOUND, || {
            let events = cluster.list(&stack::event(), None)?;
            Ok(events.iter().any(|event| {
                event["reason"] == reason
                    && event["regarding"]["kind"] == "ConfigMap"
                    && event["regarding"]["uid"] == uid
                    && event["note"].as_str().is_some_and(|note| note.contains(part))
            }))
        })
    };
    told("OptionsInvalid", "must be 0 to 300 seconds")?;
    let kept = json!({"data": {"settle": "0", "trainer-version": "2.2.1"}});
    let params = trainerd_cluster::CreateParams::default();
    let (api, kind) = (cluster.api(), stack::config_map());
    cluster.block_on(api.patch_merge(&kind, Some(NAMESPACE), "trainerd-options", &kept, params))?;
    daemon.wait_until_settled(BOUND)?;
    told("OptionsApplied", "in force")?;
    Ok(())
}
