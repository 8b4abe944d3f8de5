//! What a TrainJob may ask of the template of its runtime.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::invalid_runtime_ref;
use crate::field_error::FieldError;
use crate::info::POD_SPEC;
use crate::names::{DATASET_INITIALIZER, MODEL_INITIALIZER, NODE};
use crate::value::{at, is_true, items, text};
use crate::{Facts, domain_path, wire};

const PATCHES: &str = "spec.runtimePatches";
const INITIALIZER_VOLUME: &str = "initializer";

/// Checks the new TrainJob against the template with its patches, whose Jobs are found by their names, and its change
/// from the old one. What patches name must be in `original`, for which upstream takes the patched template.
pub(crate) fn validate(
    template: &Value,
    original: &Value,
    old: Option<&Value>,
    new: &Value,
    facts: &Facts<'_>,
    errors: &mut Vec<FieldError>,
) {
    for (key, name, config) in
        [("dataset", DATASET_INITIALIZER, "datasetConfig"), ("model", MODEL_INITIALIZER, "modelConfig")]
    {
        if at(new, &["spec", "initializer", key]).is_object() {
            errors.extend(initializer(template, name, config).map(|detail| invalid_runtime_ref(new, detail)));
        }
    }
    if let Some(old) = old {
        immutability(old, new, facts, errors);
    }
    for patch in items(new, &["spec", "runtimePatches"]) {
        let manager = text(patch, &["manager"]).unwrap_or_default();
        errors.extend(domain_path::check(&format!("{PATCHES}.manager"), manager));
        let jobs = items(patch, &["trainingRuntimeSpec", "template", "spec", "replicatedJobs"]);
        for job in jobs {
            targets(original, job, |detail| {
                let value = wire::json("[]RuntimePatch", at(new, &["spec", "runtimePatches"]));
                errors.push(FieldError::invalid(PATCHES, value, detail));
            });
        }
    }
}

fn job_named<'v>(template: &'v Value, name: &str) -> Option<&'v Value> {
    // Of several with one name, the last is the one whose containers are known.
    items(template, &["replicatedJobs"]).iter().rev().find(|job| text(job, &["name"]) == Some(name))
}

fn container_names(job: &Value) -> BTreeSet<&str> {
    let spec = at(job, &POD_SPEC);
    let all = items(spec, &["initContainers"]).iter().chain(items(spec, &["containers"]));
    all.filter_map(|container| text(container, &["name"])).collect()
}

/// What the initializer lacks.
fn initializer(template: &Value, name: &str, config: &str) -> Option<String> {
    let Some(job) = job_named(template, name) else {
        return Some(format!("must have {name} job when trainJob is configured with input {config}"));
    };
    if !container_names(job).contains(name) {
        return Some(format!("must have container with name - {name} in the {name} job"));
    }
    let jobs = items(template, &["replicatedJobs"]).iter().filter(|job| text(job, &["name"]) == Some(name));
    let containers = jobs.flat_map(|job| items(at(job, &POD_SPEC), &["containers"]));
    let mut mounts = containers
        .filter(|container| text(container, &["name"]) == Some(name))
        .flat_map(|container| items(container, &["volumeMounts"]));
    if mounts.any(|mount| text(mount, &["name"]) == Some(INITIALIZER_VOLUME)) {
        return None;
    }
    Some(format!(
        "must have volumeMount with name - {INITIALIZER_VOLUME} in container {name} of the {name} job"
    ))
}

/// Patches change only while suspended, before or after, and while no pod of the JobSet is left.
fn immutability(old: &Value, new: &Value, facts: &Facts<'_>, errors: &mut Vec<FieldError>) {
    let patches =
        |train_job: &Value| wire::normal("[]RuntimePatch", at(train_job, &["spec", "runtimePatches"]));
    if is_same(&patches(old), &patches(new)) {
        return;
    }
    if !is_true(old, &["spec", "suspend"]) && !is_true(new, &["spec", "suspend"]) {
        let detail =
            "RuntimePatches can only be modified when the TrainJob is suspended before or after the update";
        errors.push(FieldError::forbidden(PATCHES, detail));
        return;
    }
    let Some(live) = facts.job_set else { return };
    for job in items(live, &["status", "replicatedJobsStatus"]) {
        if at(job, &["active"]).as_i64().unwrap_or(0) > 0 {
            let name = text(job, &["name"]).unwrap_or_default();
            let detail = format!(
                "RuntimePatches cannot be modified when the JobSet's ReplicatedJob {name} is still active"
            );
            errors.push(FieldError::forbidden(PATCHES, detail));
        }
    }
}

/// Whether two lists of patches are one. An absent list is an empty one.
pub(crate) fn is_same(a: &Value, b: &Value) -> bool {
    a == b || items(a, &[]).is_empty() && items(b, &[]).is_empty()
}

/// What a patch of a Job names must exist, and variables of the containers that a TrainJob configures are not patched.
fn targets(template: &Value, patch: &Value, mut refuse: impl FnMut(String)) {
    let name = text(patch, &["name"]).unwrap_or_default();
    let Some(job) = job_named(template, name) else {
        refuse("must not have replicated job that doesn't exist in the runtime job template".to_owned());
        return;
    };
    let known = container_names(job);
    let spec = at(patch, &POD_SPEC);
    for container in items(spec, &["initContainers"]) {
        if !known.contains(text(container, &["name"]).unwrap_or_default()) {
            refuse(format!("must not have initContainer that doesn't exist in the runtime job {name}"));
        }
    }
    for container in items(spec, &["containers"]) {
        let container_name = text(container, &["name"]).unwrap_or_default();
        let is_configured = [DATASET_INITIALIZER, MODEL_INITIALIZER, NODE].contains(&container_name);
        if !known.contains(container_name) {
            refuse(format!("must not have container that doesn't exist in the runtime job {name}"));
        } else if is_configured && !items(container, &["env"]).is_empty() {
            refuse(format!(
                "must not have envs for the {DATASET_INITIALIZER}, {MODEL_INITIALIZER}, {NODE} containers"
            ));
        }
    }
}
