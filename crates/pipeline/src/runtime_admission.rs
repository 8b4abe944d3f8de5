//! Admission of TrainingRuntimes and ClusterTrainingRuntimes.

use serde_json::Value;

use crate::field_error::FieldError;
use crate::info::{POD_SPEC, ancestor, deprecation, is_deprecated};
use crate::names::{CLUSTER_TRAINING_RUNTIME, DATASET_INITIALIZER, MODEL_INITIALIZER, NODE, TRAINER};
use crate::validate::Verdict;
use crate::value::{at, items, text};
use crate::{Compatibility, wire};

/// Judges the creation of a runtime, or its update. Upstream does not look at updates of namespaced runtimes.
pub fn validate(runtime: &Value, is_update: bool, compatibility: Compatibility) -> Verdict {
    let is_cluster = text(runtime, &["kind"]) == Some(CLUSTER_TRAINING_RUNTIME);
    if !is_cluster && is_update && compatibility == Compatibility::Upstream {
        return Verdict::default();
    }
    let mut verdict = Verdict::default();
    if is_cluster && !is_update && is_deprecated(runtime) {
        verdict.warnings.push(deprecation("", runtime));
    }
    let template = wire::normal("JobSetSpec", at(runtime, &["spec", "template", "spec"]));
    let errors =
        items(&template, &["replicatedJobs"]).iter().enumerate().flat_map(|(at, job)| check(at, job));
    verdict.errors = errors.map(|error| error.to_string()).collect();
    verdict
}

/// Jobs that a TrainJob configures run once, and have the container that it configures.
fn check(index: usize, job: &Value) -> Vec<FieldError> {
    let Some(ancestor) = ancestor(job) else { return Vec::new() };
    let container = match ancestor {
        TRAINER => NODE,
        DATASET_INITIALIZER | MODEL_INITIALIZER => ancestor,
        _ => return Vec::new(),
    };
    let path = format!("spec.template.spec.replicatedJobs[{index}]");
    let mut errors = Vec::new();
    let replicas = at(job, &["replicas"]).as_i64().unwrap_or(0);
    if replicas != 1 {
        errors.push(FieldError::invalid(format!("{path}.replicas"), replicas, "always must be 1"));
    }
    let containers = at(at(job, &POD_SPEC), &["containers"]);
    if !items(containers, &[]).iter().any(|one| text(one, &["name"]) == Some(container)) {
        errors.push(FieldError::invalid(
            format!("{path}.template.spec.template.spec.containers"),
            wire::json("[]Container", containers),
            format!("must contain the required container for the ancestor: {ancestor}"),
        ));
    }
    errors
}
