//! What a TrainJob is at, by its conditions and its pods.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::pod::{NodesDown, Pod, Trouble, text, time};
use super::reason::Reason;

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
    /// Every one of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Failing, Self::Waiting, Self::Failed, Self::Suspended, Self::Running, Self::Complete];

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
    /// How often containers of its pods were started again.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) restarts: u64,
    /// How much of the training is done, in percent, where it reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<u64>,
    /// How long it thinks that it will take still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remaining_seconds: Option<u64>,
    /// Why it does not run, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Reason>,
    /// Since when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// What is kept of a TrainJob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) is_complete: bool,
    /// Why it failed, where it is over.
    failed: Option<String>,
    is_suspended: bool,
    /// Why what it consists of could not be created.
    not_created: Option<String>,
    /// Since when it may run.
    released: Option<Timestamp>,
    progress: Option<u64>,
    remaining_seconds: Option<u64>,
}

impl Job {
    /// Of a TrainJob as it is stored.
    pub(super) fn of(job: &Value) -> Self {
        let message = |kind| holds(job, kind).map(|condition| text(&condition["message"]));
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let mut resumed = conditions.filter(|it| it["type"] == "Suspended" && it["status"] == "False");
        let resumed = resumed.find_map(|condition| time(&condition["lastTransitionTime"]));
        let reported = &job["status"]["trainerStatus"];
        Self {
            is_complete: holds(job, "Complete").is_some(),
            failed: message("Failed"),
            is_suspended: job["spec"]["suspend"] == true,
            not_created: message("ResourcesCreationFailed"),
            released: resumed.or_else(|| time(&job["metadata"]["creationTimestamp"])),
            progress: reported["progressPercentage"].as_u64(),
            remaining_seconds: reported["estimatedRemainingSeconds"].as_u64(),
        }
    }
}

/// What is reported of a TrainJob that is not complete, by what was seen of its pods so far. No object is kept: there may be
/// tens of thousands.
#[derive(Debug, Default)]
pub(super) struct Seen {
    job: Job,
    pods: usize,
    ready: usize,
    restarts: u64,
    /// Pods that something keeps from running.
    troubled: usize,
    /// By [`Reason::weight`]; else the first counts.
    worst: Option<(String, Trouble)>,
    /// Since when the first of those that are not ready is so.
    since: Option<Timestamp>,
}

impl Seen {
    /// By the TrainJob alone.
    pub(super) fn of(job: Job) -> Self {
        Self { job, ..Self::default() }
    }

    /// One of its pods.
    pub(super) fn pod(&mut self, pod: &Pod, down: &NodesDown) {
        self.pods += 1;
        self.ready += usize::from(pod.is_ready);
        self.restarts += pod.restarts;
        let trouble = pod.trouble(down);
        let since = trouble.as_ref().map_or(pod.since, |(_, since)| *since);
        self.since = [self.since, since].into_iter().flatten().min();
        let Some((trouble, _)) = trouble else { return };
        self.troubled += 1;
        if self.worst.as_ref().is_none_or(|(_, worst)| trouble.reason.weight() > worst.reason.weight()) {
            self.worst = Some((pod.name.clone(), trouble));
        }
    }

    /// How far it is.
    pub(super) fn phase(&self) -> Phase {
        match &self.worst {
            _ if self.job.failed.is_some() => Phase::Failed,
            _ if self.job.is_suspended => Phase::Suspended,
            Some((_, worst)) if worst.reason.is_end() => Phase::Failing,
            None if self.pods > 0 && self.ready == self.pods => Phase::Running,
            _ => Phase::Waiting,
        }
    }

    /// Why it does not run, and since when; `None` of one that is not to run, or does.
    pub(super) fn wait(&self) -> Option<(Reason, Option<Timestamp>)> {
        let reason = match (self.phase(), &self.worst) {
            (Phase::Failing | Phase::Waiting, Some((_, worst))) => worst.reason,
            (Phase::Waiting, None) if self.pods > 0 => Reason::Starting,
            (Phase::Waiting, None) if self.job.not_created.is_some() => Reason::NotCreated,
            (Phase::Waiting, None) => Reason::NoPods,
            _ => return None,
        };
        Some((reason, if self.pods > 0 { self.since } else { self.job.released }))
    }

    /// What keeps a pod of it from running, where it is to run.
    pub(super) fn trouble(&self) -> Option<String> {
        self.wait()?;
        self.told_of_worst()
    }

    /// What is reported of its pods.
    fn told_of_worst(&self) -> Option<String> {
        let (pod, trouble) = self.worst.as_ref()?;
        let more = self.troubled - 1;
        let others = if more > 0 { format!(" (and {more} more pods)") } else { String::new() };
        Some(format!("pod {pod}: {}{others}", trouble.why))
    }

    /// What it reports of itself while it runs, in percent.
    pub(super) fn progress(&self) -> Option<u64> {
        self.job.progress.filter(|_| self.phase() == Phase::Running)
    }

    /// What is reported of it.
    pub(super) fn told(self, namespace: String, name: String) -> TrainJob {
        let (phase, wait, worst) = (self.phase(), self.wait(), self.told_of_worst());
        let why = match phase {
            Phase::Running | Phase::Suspended | Phase::Complete => None,
            Phase::Failed => {
                Some([self.job.failed, worst].into_iter().flatten().collect::<Vec<_>>().join("; "))
            }
            Phase::Failing => worst,
            Phase::Waiting if self.pods == 0 => {
                Some(self.job.not_created.unwrap_or_else(|| "it has no pods yet".to_owned()))
            }
            Phase::Waiting => Some(worst.unwrap_or_else(|| "its pods are starting".to_owned())),
        };
        let (reason, since) = wait.map_or((None, None), |(reason, since)| (Some(reason), since));
        TrainJob {
            namespace,
            name,
            phase,
            pods_ready: self.ready,
            pods: self.pods,
            restarts: self.restarts,
            progress: self.job.progress,
            remaining_seconds: self.job.remaining_seconds.filter(|_| phase == Phase::Running),
            reason,
            since,
            why,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
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
        let mut seen = Seen::of(Job::of(job));
        for pod in pods {
            seen.pod(&Pod::of(pod), &NodesDown::new());
        }
        let told = seen.told("a".to_owned(), "b".to_owned());
        (told.phase, told.why)
    }

    #[test]
    fn a_job_is_running_when_all_its_pods_are() {
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
    fn finished_states_precede_waiting_ones() {
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
        assert_eq!(told(&job(None), std::slice::from_ref(&waits)), (Phase::Waiting, Some(why.to_owned())));
        let mut preempted = pod("p-2", false, &json!({"name": "node", "state": {"running": {}}}));
        let target = json!({"type": "DisruptionTarget", "status": "True", "reason": "R", "message": "m"});
        preempted["status"]["conditions"].as_array_mut().unwrap().push(target);
        let why = "pod p-2: R: m (and 1 more pods)";
        assert_eq!(told(&job(None), &[waits, preempted]), (Phase::Waiting, Some(why.to_owned())));
        let why = "jobset failed; pod p-1: container node ended: OOMKilled (exit code 137)";
        assert_eq!(told(&job(Some("Failed")), &[ended]), (Phase::Failed, Some(why.to_owned())));
    }

    #[test]
    fn a_wait_has_a_reason_and_a_start_time() {
        let at = |second: u8| format!("2026-01-01T00:00:{second:02}Z");
        let wait = |job: &Value, pods: &[Value]| {
            let mut seen = Seen::of(Job::of(job));
            for pod in pods {
                seen.pod(&Pod::of(pod), &NodesDown::new());
            }
            seen.wait().map(|(reason, since)| (reason, since.map(|since| since.to_string())))
        };
        let mut made = job(None);
        made["metadata"]["creationTimestamp"] = at(1).into();
        assert_eq!(wait(&made, &[]), Some((Reason::NoPods, Some(at(1)))));
        made["status"]["conditions"] =
            json!([{"type": "Suspended", "status": "False", "lastTransitionTime": at(9)}]);
        assert_eq!(wait(&made, &[]), Some((Reason::NoPods, Some(at(9)))), "it did not wait while suspended");
        let refused = job(Some("ResourcesCreationFailed"));
        assert_eq!(wait(&refused, &[]), Some((Reason::NotCreated, None)));
        assert_eq!(told(&refused, &[]), (Phase::Waiting, Some("jobset failed".to_owned())));

        let waits = |second: u8| {
            let mut pod =
                pod("p", false, &json!({"name": "node", "state": {"waiting": {"reason": "ErrImagePull"}}}));
            pod["status"]["conditions"][0]["lastTransitionTime"] = at(second).into();
            pod
        };
        let runs = pod("p-0", true, &json!({"name": "node", "ready": true, "state": {"running": {}}}));
        let since = Some(at(20));
        assert_eq!(wait(&made, &[waits(30), runs.clone(), waits(20)]), Some((Reason::ImagePull, since)));
        assert_eq!(wait(&made, &[runs]), None);
        assert_eq!(wait(&job(Some("Failed")), &[waits(20)]), None, "it is over");
    }

    #[test]
    fn reported_progress_is_shown_and_the_remaining_time_only_while_running() {
        let mut reports = job(None);
        reports["status"]["trainerStatus"] =
            json!({"progressPercentage": 40, "estimatedRemainingSeconds": 90});
        let runs = pod("p-0", true, &json!({"name": "node", "ready": true, "state": {"running": {}}}));
        for (pods, running) in [(&[][..], false), (&[runs][..], true)] {
            let mut seen = Seen::of(Job::of(&reports));
            for pod in pods {
                seen.pod(&Pod::of(pod), &NodesDown::new());
            }
            assert_eq!(seen.progress().is_some(), running);
            let told = seen.told("a".to_owned(), "b".to_owned());
            assert_eq!((told.progress, told.remaining_seconds.is_some()), (Some(40), running));
        }
    }

    #[test]
    fn a_suspended_job_is_not_failing() {
        let mut job = job(None);
        job["spec"] = json!({"suspend": true});
        assert_eq!(told(&job, &[]), (Phase::Suspended, None));
    }
}
