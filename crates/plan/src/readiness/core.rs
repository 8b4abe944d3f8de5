//! Kinds of the core group, and what Services resolve to.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::fields::{list, text, true_condition};
use super::pod::{containers_waiting_for, pod_reason, unschedulable};
use super::{Readiness, Status};

/// How long the scheduler gets before a pod counts as unschedulable: kstatus's bound.
const SCHEDULE_WINDOW: SignedDuration = SignedDuration::from_secs(15);

pub(super) fn pod(object: &Value, now: Timestamp) -> Readiness {
    let why = |otherwise: &str| pod_reason(object).unwrap_or_else(|| otherwise.to_owned());
    match text(object, "/status/phase") {
        Some("Succeeded") => Readiness::current("finished, succeeded"),
        // kstatus: a finished pod is as specified; who owns it judges its failure.
        Some("Failed") => Readiness::current(format!("finished, failed: {}", why("no reason given"))),
        Some("Running") => {
            if true_condition(object, "Ready").is_some() {
                Readiness::current("ready")
            } else if containers_waiting_for(object, "CrashLoopBackOff") {
                Readiness::failed("ContainerCrashLooping", why("a container keeps crashing"))
            } else {
                Readiness::in_progress("PodRunningNotReady", why("running, not yet ready"))
            }
        }
        Some("Pending") => match unschedulable(object) {
            Some(message) if fresh(object, now) => Readiness::in_progress("PodNotScheduled", message),
            Some(message) => Readiness::failed("PodUnschedulable", message),
            None => Readiness::in_progress("PodPending", why("pending")),
        },
        None => Readiness::in_progress("PodNotObserved", why("not yet observed")),
        Some(phase) => Readiness::in_progress("PodPhaseUnknown", format!("in phase {phase}")),
    }
}

fn fresh(object: &Value, now: Timestamp) -> bool {
    text(object, "/metadata/creationTimestamp")
        .and_then(|t| t.parse::<Timestamp>().ok())
        .is_some_and(|created| now.duration_since(created) < SCHEDULE_WINDOW)
}

pub(super) fn service(object: &Value) -> Readiness {
    if text(object, "/spec/type") == Some("LoadBalancer") && text(object, "/spec/clusterIP").is_none() {
        return Readiness::in_progress("NoIPAssigned", "no cluster IP yet");
    }
    Readiness::current("present")
}

pub(super) fn persistent_volume_claim(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        Some("Bound") => Readiness::current("bound"),
        phase => {
            Readiness::in_progress("NotBound", format!("not bound: {}", phase.unwrap_or("no phase yet")))
        }
    }
}

pub(super) fn namespace(object: &Value) -> Readiness {
    if text(object, "/status/phase") == Some("Terminating") {
        return Readiness::new(Status::Terminating, "Terminating", "being deleted");
    }
    Readiness::current("present")
}

pub(super) fn endpoints(object: &Value) -> Readiness {
    let some = list(object, "/subsets").iter().any(|subset| !list(subset, "/addresses").is_empty());
    at_least_one(some)
}

/// `ready` absent means unknown, which consumers are to take for ready (EndpointConditions).
pub(super) fn endpoint_slice(object: &Value) -> Readiness {
    at_least_one(list(object, "/endpoints").iter().any(|endpoint| {
        endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true)
            && !list(endpoint, "/addresses").is_empty()
    }))
}

fn at_least_one(ready: bool) -> Readiness {
    if ready {
        Readiness::current("has a ready endpoint")
    } else {
        Readiness::in_progress("NoReadyEndpoint", "no ready endpoint")
    }
}
