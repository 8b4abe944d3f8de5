//! Admission of OptimizationJobs: what the rules of their CRD cannot say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::search::Search;
use super::space::Parameter;
use super::trial::name_of;
use super::{MAX_TRIALS, VARIABLE};
use crate::domain_path::is_rfc1035_label;
use crate::field_error::FieldError;
use crate::names::{EXTENDED, name};
use crate::validate::Verdict;
use crate::value::{at, items, text};

/// Longest name of a TrainJob.
const MAX_NAME_LEN: usize = 63;
/// Most variables of a TrainJob's trainer.
const MAX_VARIABLES: usize = 128;
/// Path of the template.
const TEMPLATE: &str = "spec.trainJobTemplate";

/// Judges a job. Trials cannot report their objective without the feature gate `TrainJobStatus`, which may be turned on
/// later: that it is off is a warning.
pub fn validate(job: &Value, reports: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let mut errors = Vec::new();
    if let Err(found) = Search::of(job) {
        errors.extend(found);
    }
    errors.extend(check_name(job));
    let template = at(job, &["spec", "trainJobTemplate"]);
    errors.extend(check_ttl(template));
    let parameters: Vec<Parameter> = items(job, &["spec", "parameters"])
        .iter()
        .enumerate()
        .filter_map(|(index, parameter)| Parameter::read(parameter, index).ok())
        .collect();
    let mut variables: BTreeMap<String, &str> = BTreeMap::new();
    for (index, parameter) in parameters.iter().enumerate() {
        let variable = parameter.variable();
        if let Some(other) = variables.insert(variable.clone(), &parameter.name) {
            errors.push(FieldError::invalid_text(
                format!("spec.parameters[{index}].name"),
                &parameter.name,
                format!(
                    "must give another environment variable than parameter {other:?}; both give {variable}"
                ),
            ));
        }
    }
    let trainer = at(template, &["spec", "trainer"]);
    let env = items(trainer, &["env"]);
    for (index, variable) in env.iter().enumerate() {
        let name = text(variable, &["name"]).unwrap_or_default();
        if name.starts_with(VARIABLE) {
            let path = format!("{TEMPLATE}.spec.trainer.env[{index}].name");
            errors.push(FieldError::invalid_text(
                path,
                name,
                format!("names with {VARIABLE} are set for each trial"),
            ));
        }
    }
    if env.len() + parameters.len() > MAX_VARIABLES {
        let detail =
            format!("must have at most {MAX_VARIABLES} items, {} parameters included", parameters.len());
        errors.push(FieldError::invalid(format!("{TEMPLATE}.spec.trainer.env"), env.len(), detail));
    }
    let mut used = Vec::new();
    for (path, value) in texts(trainer) {
        for reference in references(value) {
            if !variables.contains_key(reference) {
                let detail = format!("refers to $({reference}), and no parameter gives that variable");
                errors.push(FieldError::invalid_text(path.clone(), value, detail));
            }
            used.push(reference);
        }
    }
    // A program that reads its environment needs no reference; one that is given some of them, most likely all.
    for (variable, parameter) in variables.iter().filter(|_| !used.is_empty()) {
        if !used.contains(&variable.as_str()) {
            verdict.warnings.push(format!(
                "spec.parameters: nothing in the template refers to {parameter:?}: a trial is told it by the environment \
                 variable {variable} only"
            ));
        }
    }
    if !reports {
        verdict.warnings.push(
            "The feature gate TrainJobStatus is off: trials cannot report the metric that is their objective, and \
             those that complete without it count as failed"
                .to_owned(),
        );
    }
    verdict.errors = errors.iter().map(ToString::to_string).collect();
    verdict
}

/// The names of trials are made from the job's, and must be names of TrainJobs.
fn check_name(job: &Value) -> Option<FieldError> {
    let name = name(job);
    let longest = MAX_NAME_LEN - name_of("", MAX_TRIALS - 1).len();
    let detail = if !is_rfc1035_label(name) {
        "must be a lower-case RFC 1035 label, as the names of its TrainJobs".to_owned()
    } else if name.len() > longest {
        format!("must be no more than {longest} characters, for its TrainJobs have longer names")
    } else {
        return None;
    };
    Some(FieldError::invalid_text("metadata.name", name, detail))
}

/// Trials are the record of the search: one that goes would be run again.
fn check_ttl(template: &Value) -> Option<FieldError> {
    let annotation = format!("{EXTENDED}/ttl-seconds-after-finished");
    let detail = "trials must stay while their OptimizationJob does: delete that one to delete them";
    if at(template, &["spec"]).get("ttlSecondsAfterFinished").is_some() {
        return Some(FieldError::forbidden(format!("{TEMPLATE}.spec.ttlSecondsAfterFinished"), detail));
    }
    text(template, &["metadata", "annotations", &annotation])?;
    Some(FieldError::forbidden(format!("{TEMPLATE}.metadata.annotations[{annotation}]"), detail))
}

/// Texts in which Kubernetes expands variables, with their paths.
fn texts(trainer: &Value) -> Vec<(String, &str)> {
    let mut texts = Vec::new();
    for list in ["command", "args"] {
        for (index, value) in items(trainer, &[list]).iter().enumerate() {
            texts.extend(
                value.as_str().map(|text| (format!("{TEMPLATE}.spec.trainer.{list}[{index}]"), text)),
            );
        }
    }
    for (index, variable) in items(trainer, &["env"]).iter().enumerate() {
        let value = text(variable, &["value"]);
        texts.extend(value.map(|text| (format!("{TEMPLATE}.spec.trainer.env[{index}].value"), text)));
    }
    texts
}

/// Variables of ours that a text refers to as `$(NAME)`. `$$` is a dollar sign, as Kubernetes reads it.
fn references(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            if name.starts_with(VARIABLE) {
                found.push(name);
            }
            rest = after;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_as_kubernetes_expands_them() {
        for (text, expected) in [
            ("--lr=$(KUBEFLOW_TRAINER_OPT_LR)", vec!["KUBEFLOW_TRAINER_OPT_LR"]),
            ("$$(KUBEFLOW_TRAINER_OPT_LR)", vec![]),
            ("$(HOME)/$(KUBEFLOW_TRAINER_OPT_A)$(KUBEFLOW_TRAINER_OPT_B", vec!["KUBEFLOW_TRAINER_OPT_A"]),
            ("$KUBEFLOW_TRAINER_OPT_LR ${KUBEFLOW_TRAINER_OPT_LR} $", vec![]),
            ("$é$(KUBEFLOW_TRAINER_OPT_A)", vec!["KUBEFLOW_TRAINER_OPT_A"]),
        ] {
            assert_eq!(references(text), expected, "{text}");
        }
    }
}
