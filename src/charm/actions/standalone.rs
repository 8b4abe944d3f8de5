//! Actions of a charm without the workload container: they run the command line of this program, as its hooks do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_juju::status::Reason;

use crate::charm::command_line::{Format, Run, run};
use crate::charm::daemon::{DaemonStatus, Jobs};
use crate::charm::dispatch::Dispatch;
use crate::written::Written;

/// Time limit for reading the cluster.
const OBSERVE_TIMEOUT: Duration = Duration::from_mins(1);

/// Status of the installation.
pub(super) async fn status(dispatch: &Dispatch) -> Result<DaemonStatus, String> {
    Ok(match find_status(dispatch).await? {
        Some(found) => status_of(&found),
        None => absent(),
    })
}

/// The daemon's view of the installation, as far as it can be read from the cluster.
pub(super) async fn view(dispatch: &Dispatch) -> Result<Value, String> {
    let Some(found) = find_status(dispatch).await? else { return Ok(json!({"revisions": []})) };
    let history = data(dispatch, &["history"]).await?.unwrap_or_default();
    Ok(build_view(&found, &history))
}

/// Runs an operation within a time limit; the answer has the shape of the daemon's.
pub(super) async fn run_operation(
    dispatch: &Dispatch,
    name: &str,
    body: &Value,
    wait: Duration,
) -> Result<Value, String> {
    let found = find_status(dispatch).await?;
    let is_paused = found.as_ref().is_some_and(|found| found["paused"].is_object());
    let revision = found.as_ref().map(|found| found["revision"].clone()).unwrap_or_default();
    match (name, is_paused) {
        ("pause", true) => return Err("Already paused".to_owned()),
        ("resume", false) => return Err("Not paused".to_owned()),
        ("resume", true) | (_, false) => {}
        (_, true) => return Err("Paused".to_owned()),
    }
    let arguments = arguments(name, body);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let options = if name == "upgrade" { super::values(dispatch, &[]).await? } else { BTreeMap::new() };
    // The time for reading the cluster comes on top.
    match run(&dispatch.environment, &arguments, &options, Format::Json, wait + OBSERVE_TIMEOUT).await {
        Some(Run { code: Some(0), output, .. }) => Ok(done(&output, &revision)),
        Some(Run { code: Some(6), .. }) | None => Ok(json!({"state": "in-progress"})),
        Some(Run { cause, .. }) => Ok(json!({"state": "refused", "message": cause})),
    }
}

/// Whether the options would change anything.
pub(super) async fn is_pending(
    dispatch: &Dispatch,
    options: &BTreeMap<String, Value>,
) -> Result<bool, String> {
    let ran = run(&dispatch.environment, &["up", "--dry-run"], options, Format::Json, OBSERVE_TIMEOUT).await;
    match ran.ok_or_else(|| format!("no plan within {OBSERVE_TIMEOUT:?}"))? {
        Run { code: Some(0), output, .. } => {
            let plan: Value = serde_json::from_str(&output).unwrap_or_default();
            Ok(plan["pending"] != false)
        }
        Run { cause, .. } => Err(format!("Refused: {cause}")),
    }
}

/// The arguments of the command line for an operation.
fn arguments(name: &str, body: &Value) -> Vec<String> {
    let (verb, mut flags): (&str, Vec<String>) = match name {
        "pause" => ("pause", vec!["--reason".to_owned(), text(&body["reason"])]),
        "resume" => ("resume", Vec::new()),
        "force-reconcile" => {
            let component =
                body["component"].as_str().map(|name| ["--component".to_owned(), name.to_owned()]);
            ("repair", component.into_iter().flatten().collect())
        }
        "rollback" => ("rollback", body["to"].as_u64().map(|to| to.to_string()).into_iter().collect()),
        _ => ("up", Vec::new()),
    };
    for (asked, rule) in [("allow-lossy", "lossy"), ("recreate", "recreate")] {
        if body[asked] == true {
            flags.extend(["--allow".to_owned(), rule.to_owned()]);
        }
    }
    if !matches!(verb, "pause" | "resume") {
        flags.push("--yes".to_owned());
    }
    [vec![verb.to_owned()], flags].concat()
}

/// The answer for a successful run.
fn done(output: &str, before: &Value) -> Value {
    let events: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut written = Written::default();
    for event in events.iter().filter(|event| event["event"] == "done") {
        written.add(event["object"].to_string(), event["verb"].as_str().unwrap_or_default());
    }
    let finished = events.iter().rev().find(|event| event["event"] == "finished");
    let revision = finished.map_or(before, |event| &event["revision"]);
    json!({
        "state": "done", "revision": revision,
        "changed": written.changed(), "recreated": written.recreated(),
    })
}

/// The output of `status`; `None` if nothing is installed.
async fn find_status(dispatch: &Dispatch) -> Result<Option<Value>, String> {
    data(dispatch, &["status"]).await
}

/// The output of a verb; `None` if nothing is installed.
async fn data(dispatch: &Dispatch, verb: &[&str]) -> Result<Option<Value>, String> {
    let ran = run(&dispatch.environment, verb, &BTreeMap::new(), Format::Json, OBSERVE_TIMEOUT).await;
    match ran.ok_or_else(|| format!("no answer of the cluster within {OBSERVE_TIMEOUT:?}"))? {
        Run { code: Some(0), output, .. } => {
            let read = serde_json::from_str(&output);
            read.map(Some).map_err(|error| format!("failed to read what {} found: {error}", verb.join(" ")))
        }
        Run { problem, .. } if problem == "not-installed" => Ok(None),
        Run { cause, .. } => Err(cause),
    }
}

fn absent() -> DaemonStatus {
    DaemonStatus {
        generation: None,
        settled: false,
        phase: "absent".to_owned(),
        reason: Reason::Starting,
        revision: None,
        versions: BTreeMap::new(),
        jobs: None,
        rest: BTreeMap::new(),
    }
}

fn status_of(found: &Value) -> DaemonStatus {
    let (phase, reason) = phase_of(found);
    let components = found["components"].as_object().into_iter().flatten();
    let versions = components.map(|(name, component)| (name.clone(), text(&component["version"])));
    let counts = &found["trainJobs"]["count"];
    let of = |phase: &str| counts[phase].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let jobs = found["trainJobs"]
        .is_object()
        .then(|| Jobs { running: ["failing", "waiting", "running"].iter().map(|phase| of(phase)).sum() });
    let drift = drift_of(found);
    let first = drift.first().map(|drift| name_of(&drift["object"])).unwrap_or_default();
    let rest = BTreeMap::from([("drift".to_owned(), json!({"count": drift.len(), "first": first}))]);
    DaemonStatus {
        generation: None,
        settled: reason == Reason::Settled,
        phase: phase.to_owned(),
        reason,
        revision: found["revision"].as_u64(),
        versions: versions.collect(),
        jobs,
        rest,
    }
}

/// The phase that the daemon would report, and why.
fn phase_of(found: &Value) -> (&'static str, Reason) {
    let revision = found["revision"].as_u64().unwrap_or_default();
    if found["paused"].is_object() {
        return ("paused", Reason::Paused { revision });
    }
    if found["journal"].is_object() {
        return ("running", Reason::Starting);
    }
    let objects = || found["objects"].as_array().into_iter().flatten();
    if found["ready"] != true {
        let waiting = objects().find(|object| object["waiting"].is_string());
        let reason = waiting.map_or(Reason::Starting, |object| Reason::ObjectReady {
            name: text(&object["object"]["name"]),
            message: text(&object["waiting"]),
        });
        return ("waiting", reason);
    }
    let drift = drift_of(found);
    match drift.first() {
        Some(first) => {
            let first = name_of(&first["object"]);
            ("ready", Reason::DriftSeen { objects: drift.len(), first })
        }
        None => ("ready", Reason::Settled),
    }
}

/// The objects with drift from the current revision, and the changed fields.
fn drift_of(found: &Value) -> Vec<Value> {
    let objects = found["objects"].as_array().into_iter().flatten();
    let differ = objects.filter(|object| object["drift"].as_array().is_some_and(|drift| !drift.is_empty()));
    let drift = differ.map(|object| {
        json!({"object": object["object"], "state": "changed in the cluster", "changes": object["drift"]})
    });
    drift.collect()
}

fn build_view(found: &Value, history: &Value) -> Value {
    let revisions = history.as_array().into_iter().flatten().rev();
    let revisions: Vec<Value> = revisions
        .map(|row| {
            let outcome = match (row["result"].as_str(), row["reason"].as_str()) {
                (Some(result), Some(reason)) => format!("{}: {reason}", result.replace('-', " ")),
                (Some(result), None) => result.to_owned(),
                (None, _) => "not started".to_owned(),
            };
            json!({
                "number": row["revision"], "created": row["created"], "by": row["by"], "purpose": row["purpose"],
                "versions": row["versions"], "outcome": outcome,
            })
        })
        .collect();
    json!({"revisions": revisions, "outlook": {"drift": drift_of(found)}, "status": found})
}

fn name_of(object: &Value) -> String {
    format!("{}/{}", text(&object["kind"]), text(&object["name"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_command_line() {
        for (name, body, line) in [
            ("pause", json!({"reason": "node maintenance"}), "pause --reason node maintenance"),
            ("resume", json!({}), "resume"),
            ("force-reconcile", json!({"recreate": false, "component": null}), "repair --yes"),
            (
                "force-reconcile",
                json!({"recreate": true, "component": "lws"}),
                "repair --component lws --allow recreate --yes",
            ),
            ("rollback", json!({"to": 3}), "rollback 3 --yes"),
            ("rollback", json!({"to": null}), "rollback --yes"),
            ("upgrade", json!({"allow-lossy": true}), "up --allow lossy --yes"),
        ] {
            assert_eq!(arguments(name, &body).join(" "), line);
        }
    }

    #[test]
    fn written_objects_are_counted_once() {
        let step = |name: &str, verb: &str| {
            json!({"event": "done", "verb": verb, "object": {"kind": "Service", "name": name}}).to_string()
        };
        let lines = [step("a", "delete"), step("a", "create"), step("b", "apply"), step("c", "keep")];
        let output = format!("{}\n{{\"event\":\"finished\",\"revision\":4}}\n", lines.join("\n"));
        let answer = done(&output, &json!(3));
        assert_eq!(answer, json!({"state": "done", "revision": 4, "changed": 2, "recreated": 1}));
        assert_eq!(done("", &json!(3))["revision"], 3);
    }

    #[test]
    fn the_output_of_status_becomes_a_daemon_status() {
        let object = json!({"kind": "Deployment", "name": "a"});
        let found = |ready: bool, waiting: Value, drift: Value| {
            json!({
                "revision": 2, "ready": ready, "components": {"trainer": {"version": "2.3.0"}},
                "objects": [{"object": object, "waiting": waiting, "drift": drift}],
                "trainJobs": {"count": {"running": 1, "waiting": 2, "complete": 7}},
            })
        };
        let status = status_of(&found(true, Value::Null, json!([])));
        assert_eq!((status.phase.as_str(), status.reason, status.settled), ("ready", Reason::Settled, true));
        assert_eq!((status.revision, status.jobs.map(|jobs| jobs.running)), (Some(2), Some(3)));
        assert_eq!(status.versions["trainer"], "2.3.0");
        let status = status_of(&found(true, Value::Null, json!([".spec.replicas"])));
        let first = "Deployment/a".to_owned();
        assert_eq!(status.reason, Reason::DriftSeen { objects: 1, first });
        let status = status_of(&found(false, json!("0/1 ready"), json!([])));
        let (name, message) = ("a".to_owned(), "0/1 ready".to_owned());
        assert_eq!(
            (status.phase.as_str(), status.reason),
            ("waiting", Reason::ObjectReady { name, message })
        );
        let mut paused = found(true, Value::Null, json!([]));
        paused["paused"] = json!({"by": "pause"});
        assert_eq!(status_of(&paused).reason, Reason::Paused { revision: 2 });
    }

    #[test]
    fn the_newest_revision_comes_first() {
        let history = json!([
            {"revision": 1, "result": "deployed", "versions": {}},
            {"revision": 2, "result": "rolled-back", "reason": "no image", "versions": {}},
            {"revision": 3, "versions": {}},
        ]);
        let view = build_view(&json!({}), &history);
        let revisions = view["revisions"].as_array().unwrap().iter();
        let revisions: Vec<(u64, &str)> = revisions
            .map(|row| (row["number"].as_u64().unwrap(), row["outcome"].as_str().unwrap()))
            .collect();
        assert_eq!(revisions, [(3, "not started"), (2, "rolled back: no image"), (1, "deployed")]);
    }
}
