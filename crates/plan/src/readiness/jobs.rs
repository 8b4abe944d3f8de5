//! JobSet, LeaderWorkerSet and TrainJob: terminal conditions first, as their controllers set them.

use serde_json::Value;

use super::Readiness;
use super::fields::{conditions, count, flag, int, list, text, true_condition};

/// Failed, completed or suspended on purpose: what ends the question. The first terminal condition
/// wins: a JobSet that fails while its last pod completes can carry both.
fn terminal(object: &Value, completed: &str) -> Option<Readiness> {
    conditions(object).filter(|c| c.status == "True").find_map(|c| match c.kind {
        "Failed" => Some(Readiness::failed(
            if c.reason.is_empty() { "Failed" } else { c.reason },
            if c.message.is_empty() { "failed" } else { c.message },
        )),
        kind if kind == completed => Some(Readiness::current("complete")),
        "Suspended" if flag(object, "/spec/suspend") => Some(Readiness::current("suspended, as specified")),
        _ => None,
    })
}

/// `Some` message naming the first job group that does not yet run as wanted.
fn waiting_group<'a>(groups: impl Iterator<Item = (&'a str, i64, i64)>) -> Option<String> {
    groups
        .filter(|(_, running, wanted)| running < wanted)
        .map(|(name, running, wanted)| format!("{name}: {running}/{wanted} jobs ready"))
        .next()
}

/// Jobs of a group whose pods are ready, or which are past that.
fn running(status: &Value) -> i64 {
    count(status, "/ready") + count(status, "/succeeded")
}

pub(super) fn job_set(object: &Value) -> Readiness {
    if let Some(verdict) = terminal(object, "Completed") {
        return verdict;
    }
    let statuses = list(object, "/status/replicatedJobsStatus");
    if statuses.is_empty() {
        return Readiness::in_progress("JobSetNotStarted", "not yet started");
    }
    let groups = list(object, "/spec/replicatedJobs").iter().map(|job| {
        let name = text(job, "/name").unwrap_or_default();
        let status = statuses.iter().find(|s| text(s, "/name") == Some(name));
        (name, status.map_or(0, running), int(job, "/replicas").unwrap_or(1))
    });
    match waiting_group(groups) {
        Some(message) => Readiness::in_progress("JobsNotReady", message),
        None => Readiness::current("running"),
    }
}

pub(super) fn train_job(object: &Value) -> Readiness {
    if let Some(verdict) = terminal(object, "Complete") {
        return verdict;
    }
    let statuses = list(object, "/status/jobsStatus");
    if statuses.is_empty() {
        return Readiness::in_progress("TrainJobNotStarted", "not yet started");
    }
    // The wanted number of jobs stands in the runtime, not here: at least one, and all that are active.
    let groups = statuses.iter().map(|status| {
        let done = count(status, "/succeeded");
        let wanted = (count(status, "/active") + done).max(1);
        (text(status, "/name").unwrap_or_default(), running(status), wanted)
    });
    match waiting_group(groups) {
        Some(message) => Readiness::in_progress("JobsNotReady", message),
        None => Readiness::current("running"),
    }
}

pub(super) fn leader_worker_set(object: &Value) -> Readiness {
    let wanted = int(object, "/spec/replicas").unwrap_or(1);
    // Groups below the partition stay on the old revision on purpose.
    let partition = count(object, "/spec/rolloutStrategy/rollingUpdateConfiguration/partition");
    let counted = [
        ("LessReplicas", "Replicas", "/status/replicas", wanted),
        ("LessUpdated", "Updated", "/status/updatedReplicas", wanted - partition),
        ("LessReady", "Ready", "/status/readyReplicas", wanted),
    ];
    for (reason, what, field, needed) in counted {
        let have = count(object, field);
        if have < needed {
            return Readiness::in_progress(reason, format!("{what}: {have}/{needed} groups"));
        }
    }
    if true_condition(object, "UpdateInProgress").is_some() {
        return Readiness::in_progress("UpdateInProgress", "a rolling update is in progress");
    }
    match true_condition(object, "Available") {
        Some(_) => Readiness::current(format!("Ready: {wanted}/{wanted} groups")),
        None => Readiness::in_progress("LeaderWorkerSetNotAvailable", "not yet available"),
    }
}
