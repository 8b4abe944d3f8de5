//! What the mutating webhook fills in: when each runtime patch was last changed.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::value::{at, items, text};
use crate::wire;

/// A patch whose time changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeChange {
    /// Place in `spec.runtimePatches`.
    pub index: usize,
    /// Whether it has a time now.
    pub had_time: bool,
    /// The time it gets; `None` when it loses the one it has.
    pub time: Option<String>,
}

/// RFC 3339, whole seconds, as Kubernetes writes times.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Times that a TrainJob gets on its creation, or on its update from `old`: a patch that is the same but for its time
/// keeps the old one, one that changed gets the present, a new one gets it where it brings none.
pub fn patch_times(old: Option<&Value>, new: &Value, now: Timestamp) -> Vec<TimeChange> {
    let now = || Some(format_time(now));
    let of = |patch: &Value| text(patch, &["time"]).map(str::to_owned);
    let patches = items(new, &["spec", "runtimePatches"]).iter().enumerate();
    let changes = patches.filter_map(|(index, patch)| {
        let before = old.and_then(|old| {
            let known = items(old, &["spec", "runtimePatches"]).iter().rev();
            known.into_iter().find(|other| text(other, &["manager"]) == text(patch, &["manager"]))
        });
        let has = of(patch);
        let time = match before {
            Some(before) if without_time(before) == without_time(patch) => of(before),
            Some(_) => now(),
            None => has.clone().or_else(now),
        };
        (time != has).then_some(TimeChange { index, had_time: has.is_some(), time })
    });
    changes.collect()
}

fn without_time(patch: &Value) -> Value {
    let mut patch = wire::normal_object("RuntimePatch", patch);
    patch.remove("time");
    Value::Object(patch)
}

/// The changes as a JSON patch (RFC 6902).
pub fn json_patch(changes: &[TimeChange]) -> Value {
    let operation = |change: &TimeChange| {
        let path = format!("/spec/runtimePatches/{}/time", change.index);
        match &change.time {
            Some(time) if change.had_time => json!({ "op": "replace", "path": path, "value": time }),
            Some(time) => json!({ "op": "add", "path": path, "value": time }),
            None => json!({ "op": "remove", "path": path }),
        }
    };
    changes.iter().map(operation).collect()
}

/// The runtime patches after the changes.
pub fn with_times(train_job: &Value, changes: &[TimeChange]) -> Value {
    let mut patches = at(train_job, &["spec", "runtimePatches"]).clone();
    for change in changes {
        match (patches.get_mut(change.index).and_then(Value::as_object_mut), &change.time) {
            (Some(patch), Some(time)) => drop(patch.insert("time".into(), time.as_str().into())),
            (Some(patch), None) => drop(patch.remove("time")),
            (None, _) => {}
        }
    }
    patches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_patch_updates_its_time() {
        let patch = |time: Option<&str>, gates: Value| {
            let spec = json!({ "schedulingGates": gates });
            let job = json!({ "name": "node", "template": { "spec": { "template": { "spec": spec } } } });
            let mut patch = json!({ "manager": "a.io/x", "trainingRuntimeSpec": { "template": { "spec": { "replicatedJobs": [job] } } } });
            if let Some(time) = time {
                patch["time"] = time.into();
            }
            json!({ "spec": { "runtimePatches": [patch] } })
        };
        let (old, set, now) = ("2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z", "2026-06-07T08:09:10Z");
        let gate = json!([{ "name": "g" }]);
        for (before, after, expected) in [
            (None, patch(None, json!([])), Some(now)),
            (None, patch(Some(set), json!([])), Some(set)),
            (Some(patch(Some(old), json!([]))), patch(Some(set), json!([])), Some(old)),
            (Some(patch(None, json!([]))), patch(Some(set), Value::Null), None),
            (Some(patch(Some(old), json!([]))), patch(Some(old), gate.clone()), Some(now)),
            (Some(json!({})), patch(Some(set), gate.clone()), Some(set)),
            (Some(json!({})), patch(None, gate), Some(now)),
        ] {
            let changes = patch_times(before.as_ref(), &after, "2026-06-07T08:09:10.5Z".parse().unwrap());
            let patches = with_times(&after, &changes);
            assert_eq!(text(&patches[0], &["time"]), expected, "{before:?} {after}");
            assert_eq!(json_patch(&changes).as_array().unwrap().len(), changes.len());
        }
    }
}
