//! Admission of TrainJobs.

use serde_json::Value;

use crate::field_error::{self, FieldError};
use crate::info::{Info, deprecation, is_deprecated};
use crate::plugins::{flux, jobset, mpi, torch, volcano, xgboost};
use crate::runtime_ref::{RuntimeError, RuntimeKind, runtime_kind};
use crate::value::at;
use crate::{Compatibility, Facts, wire};

/// What admission says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Shown to whoever asked, admitted or not.
    pub warnings: Vec<String>,
    /// Why it is not admitted; empty when it is.
    pub errors: Vec<String>,
}

impl Verdict {
    /// The message of a denial: 403 `Forbidden`. `None` when the object is admitted.
    pub fn message(&self) -> Option<String> {
        field_error::aggregate(&self.errors)
    }

    fn denied(error: &impl ToString) -> Self {
        Self { warnings: Vec::new(), errors: vec![error.to_string()] }
    }
}

/// Whether the runtime must be looked up to judge this request. An update that changes nothing but `suspend` is
/// admitted without: finalizers must go and jobs be suspended also when the runtime is gone.
pub fn needs_runtime(compatibility: Compatibility, old: Option<&Value>, new: &Value) -> bool {
    let Some(old) = old.filter(|_| compatibility == Compatibility::Extended) else { return true };
    let spec = |train_job: &Value| {
        let mut spec = wire::normal_object("TrainJobSpec", at(train_job, &["spec"]));
        spec.remove("suspend");
        spec
    };
    spec(old) != spec(new)
}

/// Judges the creation of a TrainJob, or its update from `old`.
pub fn validate(
    runtime: Result<&Value, &RuntimeError>,
    old: Option<&Value>,
    new: &Value,
    facts: &Facts<'_>,
) -> Verdict {
    let kind = match runtime_kind(new) {
        Ok(kind) => kind,
        Err(unsupported) => return Verdict::denied(&unsupported),
    };
    if !needs_runtime(facts.compatibility, old, new) {
        return Verdict::default();
    }
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(RuntimeError::Live { answer, .. }) => return Verdict::denied(&missing(kind, new, answer)),
        Err(error) => return Verdict::denied(error),
    };
    let mut warnings = Vec::new();
    if kind == RuntimeKind::Cluster && is_deprecated(runtime) {
        warnings.push(deprecation("Referenced ", runtime));
    }
    let mut errors = Vec::new();
    match Info::new(runtime, new, facts.profile) {
        Ok(mut info) => {
            let original = match facts.compatibility {
                Compatibility::Upstream => info.template.clone(),
                Compatibility::Extended => {
                    wire::normal("JobSetSpec", at(runtime, &["spec", "template", "spec"]))
                }
            };
            // In byte order of the plugins' names.
            flux::validate(&mut info, &mut errors);
            jobset::validate(&info.template, &original, old, new, facts, &mut errors);
            mpi::validate(&mut info, &mut errors);
            torch::validate(&mut info, new, &mut errors);
            volcano::validate(&info, facts, &mut errors, &mut warnings);
            xgboost::validate(&info, &mut errors);
        }
        Err(error) => return Verdict { warnings, errors: vec![error.to_string()] },
    }
    Verdict { warnings, errors: errors.iter().map(ToString::to_string).collect() }
}

fn missing(kind: RuntimeKind, train_job: &Value, answer: &str) -> FieldError {
    // The capital is upstream's.
    let (path, what) = match kind {
        RuntimeKind::Namespaced => ("spec.runtimeRef", "trainingRuntime"),
        RuntimeKind::Cluster => ("spec.RuntimeRef", "clusterTrainingRuntime"),
    };
    let value = wire::json("RuntimeRef", at(train_job, &["spec", "runtimeRef"]));
    let detail = format!("{answer}: specified {what} must be created before the TrainJob is created");
    FieldError::invalid(path, value, detail)
}
