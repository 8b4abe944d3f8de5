//! A trial: a TrainJob made from the template, and its outcome.

use serde_json::{Map, Value, json};

use super::search::Search;
use super::{VARIABLE, objective};
use crate::names::{API_VERSION, EXTENDED, name, namespace, uid};
use crate::status::{COMPLETE, Conditions, FAILED};
use crate::value::{at, items, list_mut, object_mut, text};

/// A trial that was created.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) number: u32,
    /// Name of its TrainJob.
    pub(super) name: String,
    /// In the order of the parameters; an empty text for one that it does not have.
    pub(super) values: Vec<String>,
    pub(super) state: State,
}

/// How far a trial is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// It has not ended; it may be suspended.
    Running,
    /// It completed, with this objective.
    Succeeded(f64),
    /// It is of no use, and why.
    Failed(String),
}

/// Name of the TrainJob of that number.
pub(super) fn name_of(job: &str, number: u32) -> String {
    format!("{job}-trial-{number}")
}

/// Whether a TrainJob is controlled by this job.
pub(super) fn is_of(job: &Value, train_job: &Value) -> bool {
    let owners = items(train_job, &["metadata", "ownerReferences"]);
    owners.iter().any(|owner| owner["controller"] == true && text(owner, &["uid"]) == Some(uid(job)))
}

impl Trial {
    /// The trials among TrainJobs, by number. Others are left out.
    pub(super) fn all(job: &Value, search: &Search, train_jobs: &[Value]) -> Vec<Self> {
        let prefix = name_of(name(job), 0);
        let prefix = prefix.trim_end_matches('0');
        let mut trials: Vec<Self> = train_jobs
            .iter()
            .filter(|train_job| is_of(job, train_job))
            .filter_map(|train_job| {
                let number = name(train_job).strip_prefix(prefix)?.parse().ok()?;
                Some(Self::of(train_job, number, search))
            })
            .collect();
        trials.sort_by_key(|trial| trial.number);
        trials
    }

    fn of(train_job: &Value, number: u32, search: &Search) -> Self {
        let env = items(train_job, &["spec", "trainer", "env"]);
        let value = |variable: String| {
            let found = env.iter().find(|it| text(it, &["name"]) == Some(&variable));
            found.and_then(|it| text(it, &["value"])).unwrap_or_default().to_owned()
        };
        let conditions = Conditions::of(train_job);
        let state = if conditions.is_true(FAILED) {
            let said = |key| conditions.find(FAILED).and_then(|it| text(it, &[key])).unwrap_or_default();
            State::Failed(format!("{}: {}", said("reason"), said("message")))
        } else if conditions.is_true(COMPLETE) {
            match objective::of(train_job, &search.metric) {
                Ok(objective) => State::Succeeded(objective),
                Err(error) => State::Failed(error.to_string()),
            }
        } else {
            State::Running
        };
        Self {
            number,
            name: name(train_job).to_owned(),
            values: search.parameters.iter().map(|it| value(it.variable())).collect(),
            state,
        }
    }
}

/// The TrainJob of a trial.
pub(super) fn train_job(job: &Value, number: u32, values: &[String], search: &Search) -> Value {
    let template = at(job, &["spec", "trainJobTemplate"]);
    let mut trial = json!({
        "apiVersion": API_VERSION,
        "kind": "TrainJob",
        "metadata": {
            "name": name_of(name(job), number),
            "namespace": namespace(job),
            "ownerReferences": [{
                "apiVersion": API_VERSION,
                "kind": "OptimizationJob",
                "name": name(job),
                "uid": uid(job),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": at(template, &["spec"]),
    });
    for field in ["labels", "annotations"] {
        let given = at(template, &["metadata", field]).as_object().cloned().unwrap_or_default();
        trial["metadata"][field] = Value::Object(given);
    }
    if let Some(finalizers) = at(template, &["metadata"]).get("finalizers") {
        trial["metadata"]["finalizers"] = finalizers.clone();
    }
    let named = || search.parameters.iter().zip(values);
    // For `kubectl get trainjobs -l`, and for whoever reads the values without taking a pod apart.
    trial["metadata"]["labels"][format!("{EXTENDED}/optimization-job")] = name(job).into();
    let assigned: Map<String, Value> =
        named().map(|(parameter, value)| (parameter.name.clone(), value.as_str().into())).collect();
    trial["metadata"]["annotations"][format!("{EXTENDED}/parameters")] =
        Value::Object(assigned).to_string().into();
    // First, so that the template's own variables may refer to them.
    object_mut(&mut trial, &["spec", "trainer"]);
    let env = list_mut(&mut trial, &["spec", "trainer", "env"]);
    let variables = named().map(|(parameter, value)| json!({"name": parameter.variable(), "value": value}));
    let given = std::mem::take(env);
    env.extend(variables);
    // Admission refuses these; where it was not asked, theirs must not count more.
    env.extend(
        given.into_iter().filter(|it| !text(it, &["name"]).is_some_and(|it| it.starts_with(VARIABLE))),
    );
    trial
}
