//! The status of a TrainJob, and what else one pass does beside building objects.

mod conditions;
mod deadline;
mod events;
mod optional;
mod search;
mod ttl;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use self::events::{Event, EventKind};
use crate::Compatibility;
use crate::names::{CONTROLLER, name};
use crate::runtime_ref::{not_found, runtime_kind};
use crate::value::{at, items, text};
use conditions::SUSPENDED;
pub(crate) use conditions::{COMPLETE, Conditions, FAILED, NewCondition};

/// Reason of a TrainJob that ran too long.
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
/// Reason of a TrainJob whose runtime is of an unknown kind.
const NOT_SUPPORTED: &str = "TrainingRuntimeNotSupported";
/// Reason of the event, and of our condition, when objects cannot be made.
const CREATION_FAILED: &str = "TrainJobResourcesCreationFailed";
/// Our condition for it.
const CREATION_FAILED_TYPE: &str = "ResourcesCreationFailed";

/// What asking for the JobSet gave, after objects were applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JobSetLookup<'a> {
    /// There it is.
    Found(&'a Value),
    /// There is none.
    Absent,
    /// The API server's words.
    Failed(&'a str),
}

/// What a pass has done and seen so far.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The TrainJob as it was read.
    pub train_job: &'a Value,
    /// The JobSet of its name.
    pub job_set: JobSetLookup<'a>,
    /// Whether this pass created the JobSet.
    pub job_set_created: bool,
    /// Whether the PodGroup of either scheduler exists.
    pub has_pod_group: bool,
    /// Why objects could not be built or applied.
    pub failure: Option<&'a str>,
    /// Of a trial whose OptimizationJob has failed: what that says.
    pub search_failed: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
    /// Whose behaviour is asked for.
    pub compatibility: Compatibility,
}

/// What is to be done beside writing the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Delete the JobSet, in the background. That it is gone is no error; another error is only logged.
    DeleteJobSet,
    /// Delete our PodGroups, each only if it has the UID that was read.
    DeletePodGroups,
    /// Delete the TrainJob, in the foreground, only with this UID and resource version.
    DeleteTrainJob {
        /// Its UID.
        uid: String,
        /// Its resource version.
        resource_version: String,
    },
}

/// What becomes of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The status; null when it is empty.
    pub status: Value,
    /// Whether it differs from what was read, so that it must be written.
    pub is_changed: bool,
    /// When to look again. Not to be heeded beside an error, which has its own back-off.
    pub requeue: Option<Timestamp>,
    /// What else to do, in order.
    pub actions: Vec<Action>,
    /// What to tell.
    pub events: Vec<Event>,
    /// What went wrong, several errors on lines of their own; the pass is to be repeated then.
    pub error: Option<String>,
}

/// Whether this controller looks after the TrainJob at all. Otherwise a pass ends before it begins.
pub fn is_ours(train_job: &Value) -> bool {
    text(train_job, &["spec", "managedBy"]).is_none_or(|manager| manager == CONTROLLER)
}

/// Whether a condition says that the TrainJob has ended.
pub fn is_finished(train_job: &Value) -> bool {
    Conditions::of(train_job).is_finished()
}

/// Whether a pass builds and applies objects: not of an unsupported runtime, not for a TrainJob that has ended, and not,
/// unlike upstream, for one that is being deleted.
pub fn builds_objects(train_job: &Value, compatibility: Compatibility) -> bool {
    is_ours(train_job)
        && runtime_kind(train_job).is_ok()
        && !is_finished(train_job)
        && !(compatibility == Compatibility::Extended && is_deleting(train_job))
}

fn is_deleting(train_job: &Value) -> bool {
    text(train_job, &["metadata", "deletionTimestamp"]).is_some()
}

fn is_suspended(train_job: &Value) -> bool {
    at(train_job, &["spec", "suspend"]).as_bool() == Some(true)
}

/// Decides on the status after objects were applied, or could not be.
pub fn reconcile(pass: &Pass<'_>) -> Outcome {
    let mut before = at(pass.train_job, &["status"]).as_object().cloned().unwrap_or_default();
    before.retain(|_, value| !is_empty(value));
    let mut status = before.clone();
    let mut conditions = Conditions::of(pass.train_job);
    let was = conditions.clone();
    let mut outcome = Outcome {
        status: Value::Null,
        is_changed: false,
        requeue: None,
        actions: Vec::new(),
        events: Vec::new(),
        error: None,
    };
    let mut errors = Vec::new();
    let unsupported = runtime_kind(pass.train_job).err();
    if let Some(unsupported) = &unsupported {
        conditions.set(
            &NewCondition {
                kind: FAILED,
                status: "True",
                reason: NOT_SUPPORTED,
                message: &unsupported.to_string(),
            },
            pass.now,
        );
    } else if let Some(failure) = pass.failure {
        errors.push(failure.to_owned());
        outcome.events.push(events::creation_failed(failure));
    }
    set_suspended(&mut conditions, pass);
    if unsupported.is_none() {
        match copy_job_set(&mut status, &mut conditions, pass) {
            Ok(()) => {}
            Err(error) => errors.push(error),
        }
        outcome.requeue = deadline::check(&mut conditions, pass, &mut outcome.actions);
        search::check(&mut conditions, pass, &mut outcome.actions);
    }
    if pass.compatibility == Compatibility::Extended {
        optional::creation_failed(&mut conditions, pass);
        optional::times(&mut status, &conditions, pass);
        optional::phases(&mut conditions, pass);
        optional::release_pod_groups(&conditions, pass, &mut outcome.actions);
        events::transitions(&was, &conditions, pass, &mut outcome.events);
        let ends = ttl::check(&conditions, &was, pass, &mut outcome);
        outcome.requeue = outcome.requeue.into_iter().chain(ends).min();
    } else if unsupported.is_some() {
        events::transitions(&was, &conditions, pass, &mut outcome.events);
    }
    conditions.store(&mut status);
    outcome.is_changed = status != before;
    outcome.status = if status.is_empty() { Value::Null } else { Value::Object(status) };
    outcome.error = (!errors.is_empty()).then(|| errors.join("\n"));
    outcome
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn set_suspended(conditions: &mut Conditions, pass: &Pass<'_>) {
    let (status, reason, message) = if is_suspended(pass.train_job) {
        ("True", "Suspended", "TrainJob is suspended")
    } else if conditions.is_true(SUSPENDED) {
        ("False", "Resumed", "TrainJob is resumed")
    } else {
        return;
    };
    conditions.set(&NewCondition { kind: SUSPENDED, status, reason, message }, pass.now);
}

/// Takes over how the JobSet ended and how its Jobs are.
fn copy_job_set(
    status: &mut Map<String, Value>,
    conditions: &mut Conditions,
    pass: &Pass<'_>,
) -> Result<(), String> {
    let job_set = match pass.job_set {
        JobSetLookup::Found(job_set) => job_set,
        JobSetLookup::Absent if conditions.is_finished() => return Ok(()),
        // A TrainJob that is being deleted is not built again.
        JobSetLookup::Absent
            if pass.compatibility == Compatibility::Extended && is_deleting(pass.train_job) =>
        {
            return Ok(());
        }
        JobSetLookup::Absent => return Err(not_found("jobsets.jobset.x-k8s.io", name(pass.train_job))),
        JobSetLookup::Failed(answer) => return Err(answer.to_owned()),
    };
    let exceeded =
        conditions.find(FAILED).filter(|one| text(one, &["reason"]) == Some(DEADLINE_EXCEEDED)).cloned();
    for (theirs, ours) in [("Completed", COMPLETE), ("Failed", FAILED)] {
        let found =
            items(job_set, &["status", "conditions"]).iter().find(|one| text(one, &["type"]) == Some(theirs));
        let Some(found) = found.filter(|one| text(one, &["status"]) == Some("True")) else { continue };
        // Of two ends the first counts; upstream copies both.
        if pass.compatibility == Compatibility::Extended
            && conditions.is_finished()
            && !conditions.is_true(ours)
        {
            continue;
        }
        conditions.copy(found, ours, pass.now);
    }
    if let Some(exceeded) = exceeded {
        conditions.copy(&exceeded, FAILED, pass.now);
    }
    let jobs: Vec<Value> =
        items(job_set, &["status", "replicatedJobsStatus"]).iter().map(job_status).collect();
    if jobs.is_empty() {
        status.remove("jobsStatus");
    } else {
        status.insert("jobsStatus".into(), jobs.into());
    }
    Ok(())
}

fn job_status(job: &Value) -> Value {
    let count = |key: &str| at(job, &[key]).as_i64().unwrap_or(0);
    serde_json::json!({
        "name": text(job, &["name"]).unwrap_or_default(),
        "ready": count("ready"),
        "succeeded": count("succeeded"),
        "failed": count("failed"),
        "active": count("active"),
        "suspended": count("suspended"),
    })
}
