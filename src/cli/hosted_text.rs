//! Hosted workloads, as shown by `status`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::output::columns;

/// A hosted workload in the daemon's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostedStatus {
    component: String,
    name: String,
    wanted: bool,
    state: String,
    since: Timestamp,
    ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_try: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    at: Timestamp,
    message: String,
    log: Vec<String>,
}

/// A table of them, and the log lines of those that are not ready.
pub(crate) fn hosted_text(hosted: &[HostedStatus]) -> String {
    let rows = hosted.iter().map(|it| {
        let next = it.next_try.map(|at| format!("{at:.0}")).unwrap_or_default();
        let failure = it.failure.as_ref().map(|it| format!("{} at {:.0}", it.message, it.at));
        vec![
            it.name.clone(),
            it.state_text(),
            format!("{:.0}", it.since),
            it.restarts.to_string(),
            next,
            failure.unwrap_or_default(),
        ]
    });
    let head = ["HOSTED HERE", "IS", "SINCE", "RESTARTS", "NEXT TRY", "LAST FAILURE"];
    let mut text = columns(&head, rows.collect::<Vec<_>>());
    for it in hosted.iter().filter(|it| it.wanted && !it.ready) {
        let Some(failure) = it.failure.as_ref().filter(|failure| !failure.log.is_empty()) else { continue };
        text.push_str(&format_log(&it.name, &failure.log));
    }
    text
}

fn format_log(name: &str, log: &[String]) -> String {
    let lines: Vec<String> = log.iter().map(|line| format!("  {line}\n")).collect();
    format!("\nthe last lines of {name}:\n{}", lines.concat())
}

impl HostedStatus {
    fn state_text(&self) -> String {
        match (&self.waiting, self.ready, self.wanted) {
            (_, true, _) => format!("{}, ready", self.state),
            (Some(waiting), ..) => format!("{}, waiting for {waiting}", self.state),
            (None, _, false) => format!("{}, not wanted", self.state),
            (None, ..) => self.state.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unready_workload_shows_why_with_its_last_log_lines() {
        let hosted: Vec<HostedStatus> = serde_json::from_value(json!([
            {"component": "trainer", "name": "reconciler", "wanted": true, "state": "backoff", "ready": false,
             "since": "2026-01-01T00:00:05Z", "readySince": "2026-01-01T00:00:05Z", "restarts": 3, "checks": [],
             "nextTry": "2026-01-01T00:00:09Z", "failure": {"at": "2026-01-01T00:00:05Z", "cause": {"code": "ended"},
             "message": "it exited with code 1", "log": ["no such port", "the manager ended"]}},
            {"component": "data-cache", "name": "cache-head", "wanted": true, "state": "initial", "ready": false,
             "since": "2026-01-01T00:00:00Z", "restarts": 0, "waiting": "check alive of cache-worker-1"},
            {"component": "data-cache", "name": "cache-worker-1", "wanted": true, "state": "running", "ready": true,
             "since": "2026-01-01T00:00:00Z", "restarts": 0, "pid": 7,
             "failure": {"at": "2026-01-01T00:00:05Z", "message": "it ended", "log": ["old"]}},
        ]))
        .unwrap();
        insta::assert_snapshot!(hosted_text(&hosted));
        assert_eq!(hosted_text(&[]), "");
    }
}
