//! What a TrainJob says of itself, in a few words.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Where a TrainJob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum State {
    /// It waits to be resumed.
    Suspended,
    /// None of its pods is ready.
    Pending,
    /// Some of its pods are ready.
    Running,
    /// It ended well.
    Complete,
    /// It ended, and not well.
    Failed,
    /// It is being deleted.
    Deleting,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suspended => "Suspended",
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::Deleting => "Deleting",
        })
    }
}

/// One of the jobs that a TrainJob consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) ready: i64,
    pub(super) active: i64,
    pub(super) succeeded: i64,
    pub(super) failed: i64,
}

/// A figure that the training reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) value: String,
}

/// A TrainJob at a glance. Its JSON shape is a public contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TrainJobSummary {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) state: State,
    /// Reason and message of the condition that the state comes from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
    /// What keeps a pod from running, where somebody looks at its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// `ClusterTrainingRuntime/torch-distributed`.
    pub(super) runtime: String,
    /// RFC 3339.
    pub(super) created: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<Step>,
    /// How much of the training is done, in percent, where it reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<u64>,
    /// How long it thinks that it will take still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remaining_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) metrics: Vec<Metric>,
}

impl TrainJobSummary {
    /// Of a TrainJob as it is stored.
    pub(super) fn of(job: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (status, metadata) = (&job["status"], &job["metadata"]);
        let (state, condition) = state(job);
        let said = |key: &str| condition.map(|condition| text(&condition[key])).unwrap_or_default();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let count = |value: &Value| value.as_i64().unwrap_or_default();
        let runtime = &job["spec"]["runtimeRef"];
        let kind = runtime["kind"].as_str().unwrap_or("ClusterTrainingRuntime");
        Self {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            state,
            reason: said("reason"),
            message: said("message"),
            why: None,
            runtime: format!("{kind}/{}", runtime["name"].as_str().unwrap_or_default()),
            created: text(&metadata["creationTimestamp"]),
            steps: list(&status["jobsStatus"])
                .iter()
                .map(|step| Step {
                    name: text(&step["name"]),
                    ready: count(&step["ready"]),
                    active: count(&step["active"]),
                    succeeded: count(&step["succeeded"]),
                    failed: count(&step["failed"]),
                })
                .collect(),
            progress: status["trainerStatus"]["progressPercentage"].as_u64(),
            remaining_seconds: status["trainerStatus"]["estimatedRemainingSeconds"].as_u64(),
            metrics: list(&status["trainerStatus"]["metrics"])
                .iter()
                .map(|metric| Metric { name: text(&metric["name"]), value: text(&metric["value"]) })
                .collect(),
        }
    }

    /// Whether it has come to its end.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Complete | State::Failed)
    }

    /// Its jobs in a line: `node 2/2 ready`; those that are done are told as such.
    pub(super) fn steps_text(&self) -> String {
        let steps = self.steps.iter().map(|step| {
            let Step { name, ready, active, succeeded, failed } = step;
            let mut parts = Vec::new();
            for (count, what) in [(succeeded, "succeeded"), (failed, "failed")] {
                if *count > 0 {
                    parts.push(format!("{count} {what}"));
                }
            }
            if *active > 0 || parts.is_empty() {
                parts.insert(0, format!("{ready} ready, {active} active"));
            }
            format!("{name}: {}", parts.join(", "))
        });
        steps.collect::<Vec<_>>().join("; ")
    }

    /// What the training reports, in a line: `42 %, 3m left, loss=0.1`.
    pub(super) fn progress_text(&self) -> String {
        let percent = self.progress.map(|percent| format!("{percent} %"));
        let left = self.remaining_seconds.filter(|_| !self.has_ended());
        let left = left.map(|seconds| format!("{} left", span(seconds)));
        let metrics = self.metrics.iter().map(|metric| format!("{}={}", metric.name, metric.value));
        percent.into_iter().chain(left).chain(metrics).collect::<Vec<_>>().join(", ")
    }
}

/// Seconds in the two largest units that they have.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, minutes) => format!("{minutes}m{rest}s"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

/// The state, and the condition that says so.
fn state(job: &Value) -> (State, Option<&Value>) {
    let conditions = || job["status"]["conditions"].as_array().into_iter().flatten();
    let holds = |kind: &str| conditions().find(|it| it["type"] == kind && it["status"] == "True");
    if job["metadata"]["deletionTimestamp"].is_string() {
        return (State::Deleting, None);
    }
    for (kind, state) in [("Failed", State::Failed), ("Complete", State::Complete)] {
        if let Some(condition) = holds(kind) {
            return (state, Some(condition));
        }
    }
    if job["spec"]["suspend"] == true {
        return (State::Suspended, holds("Suspended"));
    }
    let steps = job["status"]["jobsStatus"].as_array();
    let runs = steps.into_iter().flatten().any(|step| step["ready"].as_i64().unwrap_or_default() > 0);
    // Why nothing could be built, where the controller says so.
    (if runs { State::Running } else { State::Pending }, holds("ResourcesCreationFailed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_state_follows_from_conditions_and_counts() {
        let condition = |kind: &str| json!([{"type": kind, "status": "True", "reason": "R", "message": "M"}]);
        let step =
            |ready: i64| json!([{"name": "node", "ready": ready, "active": 2, "succeeded": 0, "failed": 0}]);
        for (job, state, reason) in [
            (json!({}), State::Pending, ""),
            (json!({"spec": {"suspend": true}}), State::Suspended, ""),
            (json!({"status": {"jobsStatus": step(0)}}), State::Pending, ""),
            (json!({"status": {"jobsStatus": step(1)}}), State::Running, ""),
            (json!({"status": {"conditions": condition("Complete")}}), State::Complete, "R"),
            (
                json!({"spec": {"suspend": true}, "status": {"conditions": condition("Failed")}}),
                State::Failed,
                "R",
            ),
            (json!({"status": {"conditions": condition("ResourcesCreationFailed")}}), State::Pending, "R"),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), State::Deleting, ""),
        ] {
            let summary = TrainJobSummary::of(&job);
            assert_eq!((summary.state, summary.reason.as_str()), (state, reason), "{job}");
        }
    }

    #[test]
    fn reported_progress_is_one_line() {
        let summary = TrainJobSummary::of(&json!({"status": {
            "jobsStatus": [
                {"name": "dataset-initializer", "ready": 0, "active": 0, "succeeded": 1, "failed": 0},
                {"name": "node", "ready": 1, "active": 2, "succeeded": 0, "failed": 1},
            ],
            "trainerStatus": {
                "progressPercentage": 42, "estimatedRemainingSeconds": 187,
                "metrics": [{"name": "loss", "value": "0.1"}],
            },
        }}));
        assert_eq!(
            summary.steps_text(),
            "dataset-initializer: 1 succeeded; node: 1 ready, 2 active, 1 failed"
        );
        assert_eq!(summary.progress_text(), "42 %, 3m7s left, loss=0.1");
        assert_eq!([0, 59, 3_600, 90_000].map(span), ["0s", "59s", "1h0m", "1d1h"]);
    }
}
