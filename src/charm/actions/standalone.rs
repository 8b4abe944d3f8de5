//! Actions of a charm without the workload container: the command line of this very program does them, as it does the
//! work of the hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_juju::status::Reason;

use crate::charm::command_line::{Format, Run, run};
use crate::charm::daemon::{DaemonStatus, Jobs};
use crate::charm::dispatch::Dispatch;

/// Longest that a look at the cluster may take.
const LOOK: Duration = Duration::from_mins(1);

/// How the installation is.
pub(super) async fn told(dispatch: &Dispatch) -> Result<DaemonStatus, String> {
    Ok(match look(dispatch).await? {
        Some(found) => status_of(&found),
        None => absent(),
    })
}

/// What a daemon would know of the installation, as far as it is found now.
pub(super) async fn view(dispatch: &Dispatch) -> Result<Value, String> {
    let Some(found) = look(dispatch).await? else { return Ok(json!({"revisions": []})) };
    let history = data(dispatch, &["history"]).await?.unwrap_or_default();
    Ok(view_of(&found, &history))
}

/// Does what an action is for, for as long as it may; the answer is that of a daemon.
pub(super) async fn act(
    dispatch: &Dispatch,
    name: &str,
    body: &Value,
    wait: Duration,
) -> Result<Value, String> {
    let found = look(dispatch).await?;
    let is_paused = found.as_ref().is_some_and(|found| found["paused"].is_object());
    let revision = found.as_ref().map(|found| found["revision"].clone()).unwrap_or_default();
    match (name, is_paused) {
        ("pause", true) => return Err("Already paused".to_owned()),
        ("resume", false) => return Err("Not paused".to_owned()),
        ("resume", true) | (_, false) => {}
        (_, true) => return Err("Paused".to_owned()),
    }
    let words = words(name, body);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let options = if name == "upgrade" { super::values(dispatch, &[]).await? } else { BTreeMap::new() };
    // A look at what is there comes before what is waited for.
    match run(&dispatch.environment, &words, &options, Format::Json, wait + LOOK).await {
        Some(Run { code: Some(0), output, .. }) => Ok(done(&output, &revision)),
        Some(Run { code: Some(6), .. }) | None => Ok(json!({"state": "in-progress"})),
        Some(Run { cause, .. }) => Ok(json!({"state": "refused", "message": cause})),
    }
}

/// Whether there is anything to be done on the way to options.
pub(super) async fn is_pending(
    dispatch: &Dispatch,
    options: &BTreeMap<String, Value>,
) -> Result<bool, String> {
    let ran = run(&dispatch.environment, &["up", "--dry-run"], options, Format::Json, LOOK).await;
    match ran.ok_or_else(|| format!("no plan within {LOOK:?}"))? {
        Run { code: Some(0), output, .. } => {
            let plan: Value = serde_json::from_str(&output).unwrap_or_default();
            Ok(plan["pending"] != false)
        }
        Run { cause, .. } => Err(format!("Refused: {cause}")),
    }
}

/// The command line that does what an action is for.
fn words(name: &str, body: &Value) -> Vec<String> {
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

/// What a run that went well has done.
fn done(output: &str, before: &Value) -> Value {
    let events: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut written: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["event"] == "done" && event["verb"] != "keep") {
        let verb = event["verb"].as_str().unwrap_or_default();
        written.entry(event["object"].to_string()).or_default().insert(verb);
    }
    let again = written.values().filter(|verbs| verbs.contains("delete") && verbs.contains("create"));
    let finished = events.iter().rev().find(|event| event["event"] == "finished");
    let revision = finished.map_or(before, |event| &event["revision"]);
    json!({"state": "done", "revision": revision, "changed": written.len(), "recreated": again.count()})
}

/// What `status` finds; nothing where nothing is installed.
async fn look(dispatch: &Dispatch) -> Result<Option<Value>, String> {
    data(dispatch, &["status"]).await
}

/// The data of a verb; nothing where nothing is installed.
async fn data(dispatch: &Dispatch, verb: &[&str]) -> Result<Option<Value>, String> {
    let ran = run(&dispatch.environment, verb, &BTreeMap::new(), Format::Json, LOOK).await;
    match ran.ok_or_else(|| format!("no answer of the cluster within {LOOK:?}"))? {
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

/// The phase that a daemon would be in, and why.
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

/// The objects that differ from the current revision, and how.
fn drift_of(found: &Value) -> Vec<Value> {
    let objects = found["objects"].as_array().into_iter().flatten();
    let differ = objects.filter(|object| object["drift"].as_array().is_some_and(|drift| !drift.is_empty()));
    let told = differ.map(|object| {
        json!({"object": object["object"], "state": "changed in the cluster", "changes": object["drift"]})
    });
    told.collect()
}

fn view_of(found: &Value, history: &Value) -> Value {
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
    fn each_action_is_a_command_line() {
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
            assert_eq!(words(name, &body).join(" "), line);
        }
    }

    #[test]
    fn what_was_written_is_counted_by_object() {
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
    fn a_look_becomes_the_status_that_a_daemon_would_tell() {
        let object = json!({"kind": "Deployment", "name": "a"});
        let found = |ready: bool, waiting: Value, drift: Value| {
            json!({
                "revision": 2, "ready": ready, "components": {"trainer": {"version": "2.3.0"}},
                "objects": [{"object": object, "waiting": waiting, "drift": drift}],
                "trainJobs": {"count": {"running": 1, "waiting": 2, "complete": 7}},
            })
        };
        let told = status_of(&found(true, Value::Null, json!([])));
        assert_eq!((told.phase.as_str(), told.reason, told.settled), ("ready", Reason::Settled, true));
        assert_eq!((told.revision, told.jobs.map(|jobs| jobs.running)), (Some(2), Some(3)));
        assert_eq!(told.versions["trainer"], "2.3.0");
        let told = status_of(&found(true, Value::Null, json!([".spec.replicas"])));
        let first = "Deployment/a".to_owned();
        assert_eq!(told.reason, Reason::DriftSeen { objects: 1, first });
        let told = status_of(&found(false, json!("0/1 ready"), json!([])));
        let (name, message) = ("a".to_owned(), "0/1 ready".to_owned());
        assert_eq!((told.phase.as_str(), told.reason), ("waiting", Reason::ObjectReady { name, message }));
        let mut paused = found(true, Value::Null, json!([]));
        paused["paused"] = json!({"by": "pause"});
        assert_eq!(status_of(&paused).reason, Reason::Paused { revision: 2 });
    }

    #[test]
    fn the_history_is_told_newest_first() {
        let history = json!([
            {"revision": 1, "result": "deployed", "versions": {}},
            {"revision": 2, "result": "rolled-back", "reason": "no image", "versions": {}},
            {"revision": 3, "versions": {}},
        ]);
        let view = view_of(&json!({}), &history);
        let told = view["revisions"].as_array().unwrap().iter();
        let told: Vec<(u64, &str)> =
            told.map(|row| (row["number"].as_u64().unwrap(), row["outcome"].as_str().unwrap())).collect();
        assert_eq!(told, [(3, "not started"), (2, "rolled back: no image"), (1, "deployed")]);
    }
}
