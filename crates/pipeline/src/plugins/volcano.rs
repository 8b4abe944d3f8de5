//! Gangs of Volcano.

use serde_json::{Value, json};

use super::gang;
use crate::field_error::FieldError;
use crate::info::{Info, POD_SPEC};
use crate::names::{name, owned};
use crate::runtime_ref::not_found;
use crate::value::{at, is_true, items, text};
use crate::{BuildProfile, Compatibility, Facts, Lookup, go};

const QUEUE: &str = "scheduling.volcano.sh/queue-name";

/// Classes that Kubernetes brings itself.
const BUILT_IN: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

/// Pods say which gang is theirs.
pub(crate) fn enforce(info: &mut Info, train_job: &Value) {
    if at(&info.pod_group_policy, &["volcano"]).is_object() {
        info.pod_annotations.insert("scheduling.k8s.io/group-name".into(), name(train_job).to_owned());
    }
}

fn classes(info: &Info) -> impl Iterator<Item = &str> {
    let jobs = items(&info.template, &["replicatedJobs"]).iter();
    jobs.filter_map(|job| text(at(job, &POD_SPEC), &["priorityClassName"]))
}

/// PriorityClasses that admission of the TrainJob asks for, by name.
pub fn priority_classes(runtime: &Value, train_job: &Value) -> Vec<String> {
    let Ok(info) = Info::new(runtime, train_job, BuildProfile::Upstream) else { return Vec::new() };
    if !at(&info.pod_group_policy, &["volcano"]).is_object() {
        return Vec::new();
    }
    let mut names: Vec<_> = requested(&info).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// Classes up to the first of Kubernetes' own, which ends the check.
fn requested(info: &Info) -> impl Iterator<Item = &str> {
    classes(info).take_while(|class| !BUILT_IN.contains(class))
}

/// The PodGroup, where there is none or the TrainJob is suspended.
pub(crate) fn build(info: &Info, train_job: &Value, facts: &Facts<'_>) -> Option<Value> {
    let policy = at(&info.pod_group_policy, &["volcano"]);
    let is_kept = facts.volcano_pod_group && !is_true(train_job, &["spec", "suspend"]);
    if !policy.is_object() || is_kept {
        return None;
    }
    let mut group = owned("scheduling.volcano.sh/v1beta1", "PodGroup", name(train_job), train_job);
    group["spec"] = gang(info);
    if let Some(queue) = info.annotations.get(QUEUE) {
        group["spec"]["queue"] = queue.clone();
    }
    if let Some(class) = classes(info).last() {
        group["spec"]["priorityClassName"] = class.into();
    }
    let topology = at(policy, &["networkTopology"]);
    if topology.is_object() {
        // The CRD's defaults where there is nothing.
        group["spec"]["networkTopology"] = json!({
            "mode": text(topology, &["mode"]).unwrap_or("hard"),
            "highestTierAllowed": at(topology, &["highestTierAllowed"]).as_i64().unwrap_or(1),
        });
    }
    Some(group)
}

/// Queue and PriorityClasses.
pub(crate) fn validate(
    info: &Info,
    facts: &Facts<'_>,
    errors: &mut Vec<FieldError>,
    warnings: &mut Vec<String>,
) {
    if !at(&info.pod_group_policy, &["volcano"]).is_object() {
        return;
    }
    if info.annotations.get(QUEUE).and_then(Value::as_str) == Some("") {
        let path = format!("spec.annotations[{QUEUE}]");
        errors.push(FieldError::invalid_text(path, "", "Volcano queue name must not be empty"));
    }
    for class in requested(info) {
        let answer = match facts.priority_classes.get(class) {
            Some(Lookup::Found) => continue,
            Some(Lookup::Forbidden) if facts.compatibility == Compatibility::Extended => {
                warnings.push(format!(
                    "failed to check whether PriorityClass {} exists: not permitted",
                    go::quoted(class)
                ));
                continue;
            }
            Some(Lookup::Forbidden) => "forbidden".to_owned(),
            Some(Lookup::Failed(answer)) => answer.clone(),
            None => not_found("priorityclasses.scheduling.k8s.io", class),
        };
        let detail = format!("PriorityClass {} doesn't exist: {answer}", go::quoted(class));
        errors.push(FieldError::invalid_text("spec.templateSpec.priorityClassName", class, detail));
    }
}
