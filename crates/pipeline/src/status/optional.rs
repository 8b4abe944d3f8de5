//! What our compatibility shows beside upstream's status. Times and phases are asked for by annotations, because clients of
//! upstream take a TrainJob with any condition for one that does not run yet.

use serde_json::{Map, Value};

use super::conditions::{Conditions, NewCondition};
use super::{Action, CREATION_FAILED, CREATION_FAILED_TYPE, JobSetLookup, Pass, events, is_suspended};
use crate::defaulting::format_time;
use crate::info::ancestor;
use crate::names::{EXTENDED, TRAINER};
use crate::value::{at, items, text};

const PENDING: &str = "Pending";
const RUNNING: &str = "Running";

fn is_requested(pass: &Pass<'_>, what: &str) -> bool {
    text(pass.train_job, &["metadata", "annotations", &format!("{EXTENDED}/{what}")]) == Some("true")
}

/// A condition while objects cannot be made; gone once they can.
pub(super) fn creation_failed(conditions: &mut Conditions, pass: &Pass<'_>) {
    match pass.failure {
        None => conditions.remove(CREATION_FAILED_TYPE),
        Some(failure) => conditions.set(
            &NewCondition {
                kind: CREATION_FAILED_TYPE,
                status: "True",
                reason: CREATION_FAILED,
                message: &events::failure_note(failure),
            },
            pass.now,
        ),
    }
}

/// When the TrainJob began and ended.
pub(super) fn times(status: &mut Map<String, Value>, conditions: &Conditions, pass: &Pass<'_>) {
    if !is_requested(pass, "timestamps") {
        return;
    }
    let has_job_set = matches!(pass.job_set, JobSetLookup::Found(job_set) if at(job_set, &["spec", "suspend"]).as_bool() != Some(true));
    if conditions.is_finished() {
        if let Some(time) = conditions.terminal().and_then(|one| one.get("lastTransitionTime")) {
            status.insert("completionTime".into(), time.clone());
        }
    } else if is_suspended(pass.train_job) {
        status.remove("startTime");
    } else if has_job_set {
        status.entry("startTime").or_insert_with(|| format_time(pass.now).into());
    }
}

/// Exactly one of two conditions while the TrainJob is in progress, last so that `kubectl get` shows it.
pub(super) fn phases(conditions: &mut Conditions, pass: &Pass<'_>) {
    let is_under_way =
        is_requested(pass, "phase-conditions") && !conditions.is_finished() && !is_suspended(pass.train_job);
    if !is_under_way {
        conditions.remove(PENDING);
        conditions.remove(RUNNING);
        return;
    }
    let (kind, other, reason, message) = match pass.job_set {
        JobSetLookup::Found(job_set) if is_training(job_set) => {
            (RUNNING, PENDING, "TrainersReady", "All training Jobs are ready")
        }
        _ => (PENDING, RUNNING, "TrainersNotReady", "Some training Job is not ready yet"),
    };
    conditions.remove(other);
    conditions.set(&NewCondition { kind, status: "True", reason, message }, pass.now);
    conditions.move_last(kind);
}

/// Whether every training Job is ready or done.
fn is_training(job_set: &Value) -> bool {
    let mut trainers = items(job_set, &["spec", "replicatedJobs"])
        .iter()
        .filter(|job| ancestor(job) == Some(TRAINER))
        .peekable();
    let is_ready = |job: &Value| {
        let name = text(job, &["name"]);
        let statuses = items(job_set, &["status", "replicatedJobsStatus"]);
        let count = |status: &Value, key: &str| at(status, &[key]).as_i64().unwrap_or(0);
        statuses.iter().find(|status| text(status, &["name"]) == name).is_some_and(|status| {
            count(status, "ready") + count(status, "succeeded")
                >= at(job, &["replicas"]).as_i64().unwrap_or(1)
        })
    };
    trainers.peek().is_some() && trainers.all(is_ready)
}

/// A PodGroup of a TrainJob that has ended holds capacity of its queue until it goes.
pub(super) fn release_pod_groups(conditions: &Conditions, pass: &Pass<'_>, actions: &mut Vec<Action>) {
    let is_idle = match pass.job_set {
        JobSetLookup::Found(job_set) => items(job_set, &["status", "replicatedJobsStatus"])
            .iter()
            .all(|job| at(job, &["active"]).as_i64().unwrap_or(0) == 0),
        JobSetLookup::Absent => true,
        JobSetLookup::Failed(_) => false,
    };
    if pass.has_pod_group && conditions.is_finished() && is_idle {
        actions.push(Action::DeletePodGroups);
    }
}
