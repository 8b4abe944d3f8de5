//! What is wrong after a run, and what a daemon says of it.

use std::collections::BTreeSet;

use serde_json::Value;
use trainerd_cluster::lease::Identity;

use super::State;
use crate::stack::{NAMESPACE, RECORD};

/// The process of a holder of the lease.
pub(super) fn process(holder: &str) -> Option<u32> {
    Some(holder.parse::<Identity>().ok()?.process?.pid)
}

/// What is missing, different or left over.
pub(super) fn differences(found: &State, expected: &State) -> Vec<String> {
    let mut differences = found.differences(expected);
    differences.extend(found.orphans(expected).into_iter().map(|key| format!("{key} is left over")));
    differences
}

/// A state without revisions: how many there are depends on the way, and they are judged by themselves.
pub(super) fn without_history(mut state: State) -> State {
    let history = ["r", "c-"].map(|what| format!("/registry/secrets/{NAMESPACE}/{RECORD}-{what}"));
    // `ruler` begins like a revision.
    let is_history = |key: &String| {
        let rest = history.iter().find_map(|prefix| key.strip_prefix(prefix.as_str()));
        rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()))
    };
    state.keys.retain(|key| !is_history(key));
    state
}

/// What is wrong with a record, given the Secrets of revisions and chunks.
pub(super) fn record_errors(record: &Value, secrets: &[Value]) -> Vec<String> {
    let mut troubles = Vec::new();
    let results = record["results"].as_object().cloned().unwrap_or_default();
    let current = record["current"].as_u64().map(|number| number.to_string()).unwrap_or_default();
    if results.get(&current).is_none_or(|outcome| outcome["result"] != "deployed") {
        troubles.push(format!("the current revision {current:?} is not deployed: {record}"));
    }
    let newest = results.keys().filter_map(|number| number.parse::<u64>().ok()).max().unwrap_or_default();
    let mut chunks = BTreeSet::new();
    let mut revisions = BTreeSet::new();
    for secret in secrets {
        let name = secret["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(number) = name.strip_prefix(RECORD).and_then(|rest| rest.strip_prefix("-r")) {
            revisions.insert(number.to_owned());
            // One that was stored, but not begun, is replaced by the next of its number.
            let known = results.contains_key(number) || number.parse() == Ok(newest + 1);
            if !known {
                troubles.push(format!("{name} is left over"));
            }
            let used = secret["metadata"]["annotations"]["trainerd.dev/chunks"].as_str().unwrap_or_default();
            chunks.extend(used.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    let there: BTreeSet<String> =
        secrets.iter().filter_map(|secret| secret["metadata"]["name"].as_str().map(str::to_owned)).collect();
    troubles.extend(chunks.difference(&there).map(|name| format!("chunk {name} is missing")));
    let lost = results.keys().filter(|number| !revisions.contains(*number));
    troubles.extend(lost.map(|number| format!("revision {number} is missing")));
    troubles
}

/// What a view says, in short; and whether it tells why the installation is not ready.
pub(super) fn summary(view: &Value) -> (String, bool) {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let reason = view["reason"]["message"].as_str().unwrap_or_default();
    let waits: Vec<String> = array(&view["plan"]["waiting"])
        .iter()
        .map(|wait| wait["text"].as_str().unwrap_or_default().to_owned())
        .chain(
            array(&view["outlook"]["objects"])
                .iter()
                .filter(|object| !object["waiting"].is_null())
                .map(|object| format!("{}: {}", object["object"]["name"], object["waiting"])),
        )
        .chain(array(&view["outlook"]["drift"]).iter().map(|drift| {
            format!("{} {} is {}", drift["object"]["kind"], drift["object"]["name"], drift["state"])
        }))
        .collect();
    let phase = view["phase"].as_str().unwrap_or("no answer");
    let is_unready = !matches!(phase, "ready" | "no answer");
    let says_why = is_unready && (!reason.is_empty() || !waits.is_empty());
    let cause = &view["reason"];
    (format!("phase {phase}, reason {cause}, waits {waits:?}, plan {}", view["plan"]["error"]), says_why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_complete_or_names_what_is_missing() {
        let secret = |name: &str, chunks: &str| {
            json!({"metadata": {"name": format!("{RECORD}-{name}"),
            "annotations": {"trainerd.dev/chunks": chunks}}})
        };
        let record =
            json!({"current": 2, "results": {"1": {"result": "deployed"}, "2": {"result": "deployed"}}});
        let chunk = format!("{RECORD}-c-a");
        let mut secrets =
            vec![secret("r1", &chunk), secret("r2", &chunk), secret("r3", ""), secret("c-a", "")];
        assert_eq!(record_errors(&record, &secrets), [""; 0]);
        secrets.push(secret("r4", ""));
        secrets.remove(0);
        secrets.retain(|secret| secret["metadata"]["name"] != chunk);
        let found = record_errors(&record, &secrets);
        assert_eq!(
            found,
            [
                format!("{RECORD}-r4 is left over"),
                format!("chunk {chunk} is missing"),
                "revision 1 is missing".to_owned()
            ]
        );
        let failed = json!({"current": 1, "results": {"1": {"result": "failed"}}});
        assert_eq!(record_errors(&failed, &[secret("r1", "")]).len(), 1);
    }

    #[test]
    fn only_revisions_and_chunks_are_history() {
        let key = |name: &str| format!("/registry/secrets/{NAMESPACE}/{RECORD}{name}");
        let state = State {
            objects: BTreeMap::new(),
            keys: ["", "-r12", "-c-0a1f", "-ruler", "-paused"].map(key).into(),
            open: None,
            holder: None,
            results: Vec::new(),
        };
        assert_eq!(without_history(state).keys, ["", "-ruler", "-paused"].map(key).into());
    }

    #[test]
    fn a_status_without_a_reason_is_rejected() {
        let idle = json!({"phase": "waiting", "outlook": {"objects": [{"waiting": null}], "drift": []}});
        assert!(!summary(&idle).1);
        assert!(!summary(&Value::Null).1);
        let waits = json!({"phase": "running", "plan": {"waiting": [{"text": "0/1"}]}});
        assert!(summary(&waits).1);
        assert!(summary(&json!({"phase": "held", "reason": {"message": "held by x"}})).1);
    }
}
