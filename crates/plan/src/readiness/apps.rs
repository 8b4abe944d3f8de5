//! Workloads of the `apps` group: counts first, then conditions.

use serde_json::Value;

use super::fields::{conditions, count, int, text, true_condition};
use super::{Readiness, Status};

/// `Some` in-progress verdict when fewer than `wanted` are there yet.
fn fewer(have: i64, wanted: i64, reason: &str, what: &str) -> Option<Readiness> {
    (have < wanted).then(|| Readiness::in_progress(reason, format!("{what}: {have}/{wanted}")))
}

/// `Some` in-progress verdict while more pods exist than are wanted.
fn surplus(have: i64, wanted: i64) -> Option<Readiness> {
    (have > wanted).then(|| {
        let extra = have - wanted;
        Readiness::in_progress("ExtraPods", format!("{extra} more to terminate"))
    })
}

fn wanted_replicas(object: &Value) -> i64 {
    int(object, "/spec/replicas").unwrap_or(1)
}

pub(super) fn deployment(object: &Value) -> Readiness {
    let readiness = rollout(object);
    // Its ReplicaSet cannot make pods: pod security, a quota, a LimitRange refuse them. The counts only say that.
    match readiness.status {
        Status::InProgress => pods_refused(object).unwrap_or(readiness),
        _ => readiness,
    }
}

/// Why pods cannot be created, where that is so.
fn pods_refused(object: &Value) -> Option<Readiness> {
    let failure = true_condition(object, "ReplicaFailure")?;
    let message = if failure.message.is_empty() { "its pods cannot be created" } else { failure.message };
    Some(Readiness::in_progress("ReplicaFailure", message))
}

fn rollout(object: &Value) -> Readiness {
    // Without a deadline the controller sets no Progressing condition.
    let mut progressing =
        int(object, "/spec/progressDeadlineSeconds").is_none_or(|s| s == i64::from(i32::MAX));
    let mut available = false;
    for condition in conditions(object) {
        match condition.kind {
            "Progressing" if condition.reason == "ProgressDeadlineExceeded" => {
                return Readiness::failed(condition.reason, "no progress within progressDeadlineSeconds");
            }
            "Progressing" => {
                progressing |= condition.status == "True" && condition.reason == "NewReplicaSetAvailable";
            }
            "Available" => available |= condition.status == "True",
            _ => {}
        }
    }
    let wanted = wanted_replicas(object);
    let replicas = count(object, "/status/replicas");
    let updated = count(object, "/status/updatedReplicas");
    fewer(replicas, wanted, "LessReplicas", "Replicas")
        .or_else(|| fewer(updated, wanted, "LessUpdated", "Updated"))
        .or_else(|| surplus(replicas, wanted))
        .or_else(|| fewer(count(object, "/status/availableReplicas"), updated, "LessAvailable", "Available"))
        .or_else(|| fewer(count(object, "/status/readyReplicas"), wanted, "LessReady", "Ready"))
        .or_else(|| {
            (!progressing).then(|| {
                Readiness::in_progress("ReplicaSetNotAvailable", "its new ReplicaSet is not yet available")
            })
        })
        .or_else(|| {
            (!available).then(|| Readiness::in_progress("DeploymentNotAvailable", "not yet available"))
        })
        .unwrap_or_else(|| Readiness::current(format!("Available: {replicas}/{wanted}")))
}

pub(super) fn stateful_set(object: &Value) -> Readiness {
    if text(object, "/spec/updateStrategy/type") == Some("OnDelete") {
        return Readiness::current("its pods are replaced by hand (OnDelete)");
    }
    let wanted = wanted_replicas(object);
    let replicas = count(object, "/status/replicas");
    let updated = count(object, "/status/updatedReplicas");
    if let Some(verdict) = fewer(replicas, wanted, "LessReplicas", "Replicas")
        .or_else(|| fewer(count(object, "/status/readyReplicas"), wanted, "LessReady", "Ready"))
        .or_else(|| surplus(replicas, wanted))
    {
        return verdict;
    }
    if let Some(partition) = int(object, "/spec/updateStrategy/rollingUpdate/partition") {
        // Ordinals below the partition stay on the old revision on purpose.
        return fewer(updated, wanted - partition, "PartitionRollout", "Updated")
            .unwrap_or_else(|| Readiness::current(format!("Updated beyond the partition: {updated}")));
    }
    if let Some(verdict) = fewer(count(object, "/status/currentReplicas"), wanted, "LessCurrent", "Current") {
        return verdict;
    }
    if text(object, "/status/currentRevision") != text(object, "/status/updateRevision") {
        return Readiness::in_progress("RevisionMismatch", "its pods are not all of the new revision");
    }
    Readiness::current(format!("Ready: {replicas}/{wanted}"))
}

pub(super) fn daemon_set(object: &Value) -> Readiness {
    // A controller that acted has set both; until then the counts would be zero of zero.
    if int(object, "/metadata/generation").is_none() {
        return Readiness::in_progress("NoGeneration", "it has no generation");
    }
    if int(object, "/status/observedGeneration").is_none() {
        return Readiness::in_progress("NoObservedGeneration", "not yet observed by its controller");
    }
    let Some(wanted) = int(object, "/status/desiredNumberScheduled") else {
        return Readiness::in_progress("NoDesiredNumber", "the number of nodes is not yet known");
    };
    let have = |field: &str| count(object, field);
    fewer(have("/status/currentNumberScheduled"), wanted, "LessCurrent", "Current")
        .or_else(|| fewer(have("/status/updatedNumberScheduled"), wanted, "LessUpdated", "Updated"))
        .or_else(|| fewer(have("/status/numberAvailable"), wanted, "LessAvailable", "Available"))
        .or_else(|| fewer(have("/status/numberReady"), wanted, "LessReady", "Ready"))
        .unwrap_or_else(|| Readiness::current(format!("Ready: {wanted}/{wanted}")))
}

pub(super) fn replica_set(object: &Value) -> Readiness {
    if let Some(refused) = pods_refused(object) {
        return refused;
    }
    let wanted = wanted_replicas(object);
    let replicas = count(object, "/status/replicas");
    fewer(count(object, "/status/fullyLabeledReplicas"), wanted, "LessLabelled", "Labelled")
        .or_else(|| fewer(count(object, "/status/availableReplicas"), wanted, "LessAvailable", "Available"))
        .or_else(|| fewer(count(object, "/status/readyReplicas"), wanted, "LessReady", "Ready"))
        .or_else(|| surplus(replicas, wanted))
        .unwrap_or_else(|| Readiness::current(format!("Available: {replicas}/{wanted}")))
}
