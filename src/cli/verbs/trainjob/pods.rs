//! The pods of a TrainJob, as far as their logs matter.

use std::fmt::Write as _;

use serde_json::Value;
use trainerd_cluster::ListParams;

use super::target::Target;

/// Label of the JobSet that a pod belongs to.
const JOB_SET: &str = "jobset.sigs.k8s.io/jobset-name";
/// Which of the JobSet's jobs.
const STEP: &str = "jobset.sigs.k8s.io/replicatedjob-name";
/// Which replica of that job.
const REPLICA: &str = "jobset.sigs.k8s.io/job-index";
/// Which pod of that replica.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A selection of the pods of a TrainJob.
#[derive(Clone, Debug, Default)]
pub(super) struct PodSelection {
    pub(super) step: Option<String>,
    pub(super) index: Option<u32>,
    /// The container of each; without it the first.
    pub(super) container: Option<String>,
}

impl PodSelection {
    /// How to list them.
    pub(super) fn list(&self, target: &Target, name: &str) -> ListParams {
        let mut selector = format!("{JOB_SET}={name}");
        for (label, value) in [(STEP, self.step.clone()), (INDEX, self.index.map(|index| index.to_string()))]
        {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = write!(selector, ",{label}={value}");
            }
        }
        ListParams {
            namespace: Some(target.namespace.clone()),
            label_selector: Some(selector),
            ..ListParams::default()
        }
    }

    /// In words, for an error.
    pub(super) fn words(&self) -> String {
        let step = self.step.as_ref().map(|step| format!(" of step {step}"));
        let index = self.index.map(|index| format!(" with index {index}"));
        format!("there is no pod{}{}", step.unwrap_or_default(), index.unwrap_or_default())
    }
}

/// A container whose log can be read, or will be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    /// `node-0`: what its lines are marked with.
    pub(super) label: String,
    pub(super) created: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) container: String,
    pub(super) phase: Phase,
}

/// Whether a container has begun.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It has not, for that reason.
    Waiting(String),
    /// It runs.
    Running,
    /// It has ended, and does not start again.
    Ended,
}

impl Source {
    /// The container of a pod that is asked for.
    pub(super) fn of(pod: &Value, which: &PodSelection) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &pod["metadata"];
        let label = |name: &str| metadata["labels"][name].as_str();
        let first = || pod["spec"]["containers"][0]["name"].as_str().map(str::to_owned);
        let container = which.container.clone().or_else(first)?;
        let replica = label(REPLICA).filter(|index| *index != "0").map(|index| format!("-{index}"));
        let index = label(INDEX).unwrap_or("0");
        Some(Self {
            label: format!("{}{}-{index}", label(STEP).unwrap_or_default(), replica.unwrap_or_default()),
            created: text(&metadata["creationTimestamp"]),
            pod: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            phase: phase(pod, &container),
            container,
        })
    }
}

fn phase(pod: &Value, container: &str) -> Phase {
    let status = &pod["status"];
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut all = lists.iter().flat_map(|list| status[list].as_array().into_iter().flatten());
    let found = all.find(|one| one["name"] == container).unwrap_or(&Value::Null);
    if found["state"]["running"].is_object() {
        return Phase::Running;
    }
    let pod_is_over = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    let restarts = pod["spec"]["restartPolicy"] != "Never" && !pod_is_over;
    if found["state"]["terminated"].is_object() {
        return if restarts { Phase::Running } else { Phase::Ended };
    }
    if pod_is_over {
        return Phase::Ended;
    }
    // Where a container crashed and will be tried again, its last run can be read.
    if found["lastState"]["terminated"].is_object() {
        return Phase::Running;
    }
    let waits = found["state"]["waiting"]["reason"].as_str();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let unscheduled = conditions
        .filter(|it| it["type"] == "PodScheduled" && it["status"] == "False")
        .find_map(|it| it["message"].as_str());
    Phase::Waiting(unscheduled.or(waits).unwrap_or("it has not been started").to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_named_by_step_and_index() {
        let pod = |state: Value, more: Value| {
            let mut pod = json!({
                "metadata": {"name": "p", "labels": {STEP: "node", REPLICA: "0", INDEX: "1"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "node"}, {"name": "side"}]},
                "status": {"containerStatuses": [{"name": "node", "state": state}]},
            });
            for (key, value) in more.as_object().into_iter().flatten() {
                pod["status"][key] = value.clone();
            }
            Source::of(&pod, &PodSelection::default()).unwrap()
        };
        let waiting = pod(json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({}));
        assert_eq!((waiting.label.as_str(), waiting.container.as_str()), ("node-1", "node"));
        assert_eq!(waiting.phase, Phase::Waiting("ImagePullBackOff".to_owned()));
        assert_eq!(pod(json!({"running": {}}), json!({})).phase, Phase::Running);
        assert_eq!(pod(json!({"terminated": {}}), json!({})).phase, Phase::Ended);
        assert_eq!(pod(json!({}), json!({"phase": "Failed"})).phase, Phase::Ended);
        let unscheduled = json!([{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}]);
        let unscheduled = pod(json!({}), json!({"conditions": unscheduled}));
        assert_eq!(unscheduled.phase, Phase::Waiting("Insufficient cpu".to_owned()));
    }
}
