//! What a TrainJob is at, by its conditions and its pods.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::pod::{Trouble, text, trouble};

/// How far a TrainJob is; what somebody has to look at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// A container ended with an error, and is started again.
    Failing,
    /// Something keeps a pod from running.
    Waiting,
    /// Over, and failed.
    Failed,
    /// Suspended.
    Suspended,
    /// Every pod runs, or has done its part.
    Running,
    /// Over, and complete.
    Complete,
}

impl Phase {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Complete => "complete",
        }
    }
}

/// A TrainJob that is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrainJob {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) phase: Phase,
    /// Pods that run or have done their part.
    pub(crate) pods_ready: usize,
    /// Pods there are.
    pub(crate) pods: usize,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// Whether it is over, and complete.
pub(super) fn is_complete(job: &Value) -> bool {
    holds(job, "Complete").is_some()
}

/// What is told of a TrainJob that is not complete, by what was seen of its pods so far. No object is kept: there may be
/// tens of thousands.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why it failed, where it is over.
    failed: Option<String>,
    is_suspended: bool,
    pods: usize,
    ready: usize,
    /// Pods that something keeps from running.
    troubled: usize,
    /// What ended is worse than what waits, maybe for that; else the first counts.
    worst: Option<(String, Trouble)>,
}

impl Seen {
    /// By the TrainJob alone.
    pub(super) fn of(job: &Value) -> Self {
        let failed = holds(job, "Failed").map(|condition| text(&condition["message"]));
        Self { failed, is_suspended: job["spec"]["suspend"] == true, ..Self::default() }
    }

    /// One of its pods. `down` are the nodes that run no pods now.
    pub(super) fn pod(&mut self, pod: &Value, down: &BTreeSet<(String, String)>) {
        self.pods += 1;
        self.ready += usize::from(is_ready(pod));
        let Some(trouble) = trouble(pod, down) else { return };
        self.troubled += 1;
        if self.worst.as_ref().is_none_or(|(_, worst)| trouble.ended && !worst.ended) {
            self.worst = Some((text(&pod["metadata"]["name"]), trouble));
        }
    }

    /// How far it is.
    pub(super) fn phase(&self) -> Phase {
        match &self.worst {
            _ if self.failed.is_some() => Phase::Failed,
            _ if self.is_suspended => Phase::Suspended,
            Some((_, worst)) if worst.ended => Phase::Failing,
            None if self.pods > 0 && self.ready == self.pods => Phase::Running,
            _ => Phase::Waiting,
        }
    }

    /// What is told of it.
    pub(super) fn told(self, namespace: String, name: String) -> TrainJob {
        let phase = self.phase();
        let worst = self.worst.map(|(pod, trouble)| {
            let more = self.troubled - 1;
            let others = if more > 0 { format!(" (and {more} more pods)") } else { String::new() };
            format!("pod {pod}: {}{others}", trouble.why)
        });
        let why = match phase {
            Phase::Running | Phase::Suspended | Phase::Complete => None,
            Phase::Failed => Some([self.failed, worst].into_iter().flatten().collect::<Vec<_>>().join("; ")),
            Phase::Failing => worst,
            Phase::Waiting if self.pods == 0 => Some("it has no pods yet".to_owned()),
            Phase::Waiting => Some(worst.unwrap_or_else(|| "its pods are starting".to_owned())),
        };
        TrainJob { namespace, name, phase, pods_ready: self.ready, pods: self.pods, why }
    }
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["phase"] == "Succeeded" || holds(pod, "Ready").is_some()
}

fn holds<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(condition: Option<&str>) -> Value {
        let conditions: Vec<Value> = condition
            .map(|kind| json!({"type": kind, "status": "True", "message": "jobset failed"}))
            .into_iter()
            .collect();
        json!({"metadata": {"namespace": "a", "name": "b"}, "status": {"conditions": conditions}})
    }

    fn pod(name: &str, ready: bool, container: &Value) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({"metadata": {"name": name}, "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": status}],
            "containerStatuses": [container],
        }})
    }

    fn told(job: &Value, pods: &[Value]) -> (Phase, Option<String>) {
        let mut seen = Seen::of(job);
        for pod in pods {
            seen.pod(pod, &BTreeSet::new());
        }
        let told = seen.told("a".to_owned(), "b".to_owned());
        (told.phase, told.why)
    }

    #[test]
    fn a_job_runs_when_all_its_pods_do() {
        let runs = pod("p-0", true, &json!({"name": "node", "ready": true, "state": {"running": {}}}));
        let starts = pod(
            "p-1",
            false,
            &json!({"name": "node", "state": {"waiting": {"reason": "ContainerCreating"}}}),
        );
        assert_eq!(told(&job(None), std::slice::from_ref(&runs)), (Phase::Running, None));
        let waiting = (Phase::Waiting, Some("its pods are starting".to_owned()));
        assert_eq!(told(&job(None), &[runs, starts]), waiting);
        assert_eq!(told(&job(None), &[]), (Phase::Waiting, Some("it has no pods yet".to_owned())));
    }

    #[test]
    fn what_ended_is_told_before_what_waits() {
        let waits = pod(
            "p-0",
            false,
            &json!({"name": "node", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}}),
        );
        let ended = pod(
            "p-1",
            false,
            &json!({"name": "node", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
        );
        let why = "pod p-1: container node ended: OOMKilled (exit code 137) (and 1 more pods)";
        assert_eq!(told(&job(None), &[waits.clone(), ended.clone()]), (Phase::Failing, Some(why.to_owned())));
        let why = "pod p-0: container node: ImagePullBackOff: m";
        assert_eq!(told(&job(None), &[waits]), (Phase::Waiting, Some(why.to_owned())));
        let why = "jobset failed; pod p-1: container node ended: OOMKilled (exit code 137)";
        assert_eq!(told(&job(Some("Failed")), &[ended]), (Phase::Failed, Some(why.to_owned())));
    }

    #[test]
    fn a_suspended_job_is_no_failing_one() {
        let mut job = job(None);
        job["spec"] = json!({"suspend": true});
        assert_eq!(told(&job, &[]), (Phase::Suspended, None));
    }
}
