//! Whether one object is ready, judged from the object alone.
//!
//! Built-in kinds follow kstatus (kubernetes-sigs/cli-utils): deletion first, then
//! `observedGeneration`, then the standard `Reconciling` and `Stalled` conditions, then the rule of the
//! kind. The kinds of this stack that kstatus does not know have rules of their own. What one object
//! cannot show (endpoints behind a webhook, whether it admits) is not judged here.

mod api;
mod apps;
mod batch;
mod core;
mod fields;
mod jobs;
mod pod;
pub mod waits;
mod workload_status;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::fields::{conditions, int, text};
pub use self::pod::{PodFault, pod_fault, pod_reason};
pub use self::workload_status::WorkloadStatus;
use crate::object::ObjectKey;

/// How far an object is from what its specification asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// It is as specified.
    Current,
    /// It is on its way.
    InProgress,
    /// It will not get there without help.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// The verdict on one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// How far it is.
    pub status: Status,
    /// One CamelCase word, kstatus's where kstatus has one, or what the object's own condition says.
    pub reason: String,
    /// One line for people; may be empty where the object's own condition says nothing.
    pub message: String,
}

/// The kstatus condition that stands for a verdict; its status is always `True`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// `Reconciling` or `Stalled`.
    pub kind: &'static str,
    /// The verdict's reason.
    pub reason: &'a str,
    /// The verdict's message.
    pub message: &'a str,
}

impl Readiness {
    fn new(status: Status, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into() }
    }

    fn current(message: impl Into<String>) -> Self {
        Self::new(Status::Current, "Current", message)
    }

    fn in_progress(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Status::InProgress, reason, message)
    }

    fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Status::Failed, reason, message)
    }

    /// Whether the object is as specified.
    pub fn is_current(&self) -> bool {
        self.status == Status::Current
    }

    /// The kstatus condition of this verdict: `Reconciling` in progress, `Stalled` when failed, else none.
    pub fn condition(&self) -> Option<Condition<'_>> {
        let kind = match self.status {
            Status::InProgress => "Reconciling",
            Status::Failed => "Stalled",
            Status::Current | Status::Terminating => return None,
        };
        Some(Condition { kind, reason: &self.reason, message: &self.message })
    }
}

/// Judges `object`, as the API server returned it, at the instant `now`.
///
/// Fields of an unexpected type count as absent: an object that nobody has acted on yet and one that
/// cannot be understood are both not ready by any rule that needs the field.
pub fn compute(object: &Value, now: Timestamp) -> Readiness {
    if let Some(verdict) = generic(object) {
        return verdict;
    }
    let group = text(object, "/apiVersion").and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
    match (group, text(object, "/kind").unwrap_or_default()) {
        ("", "Pod") => core::pod(object, now),
        ("", "Service") => core::service(object),
        ("", "PersistentVolumeClaim") => core::persistent_volume_claim(object),
        ("", "Namespace") => core::namespace(object),
        ("", "Endpoints") => core::endpoints(object),
        ("discovery.k8s.io", "EndpointSlice") => core::endpoint_slice(object),
        ("apps", "Deployment") => apps::deployment(object),
        ("apps", "StatefulSet") => apps::stateful_set(object),
        ("apps", "DaemonSet") => apps::daemon_set(object),
        ("apps", "ReplicaSet") => apps::replica_set(object),
        ("batch", "Job") => batch::job(object),
        ("batch", "CronJob") => Readiness::current("a CronJob needs nothing to be ready"),
        ("policy", "PodDisruptionBudget") => Readiness::current("observed by the disruption controller"),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => api::crd(object),
        ("apiregistration.k8s.io", "APIService") => api::api_service(object),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => api::webhook_configuration(object),
        ("jobset.x-k8s.io", "JobSet") => jobs::job_set(object),
        ("leaderworkerset.x-k8s.io", "LeaderWorkerSet") => jobs::leader_worker_set(object),
        ("trainer.kubeflow.org", "TrainJob") => jobs::train_job(object),
        _ => by_ready_condition(object),
    }
}

/// Whether objects of a kind are ready as soon as they exist, whatever they hold: their metadata suffices.
pub fn by_existence(key: &ObjectKey) -> bool {
    match key.group.as_str() {
        "" => matches!(key.kind.as_str(), "ConfigMap" | "Secret" | "ServiceAccount"),
        "rbac.authorization.k8s.io" => true,
        _ => false,
    }
}

/// What holds for every kind, before its own rule is asked.
fn generic(object: &Value) -> Option<Readiness> {
    if text(object, "/metadata/deletionTimestamp").is_some() {
        return Some(Readiness::new(Status::Terminating, "Terminating", deletion(object)));
    }
    if let (Some(generation), Some(observed)) =
        (int(object, "/metadata/generation"), int(object, "/status/observedGeneration"))
        && generation != observed
    {
        let message = format!("generation {generation} not yet observed, only {observed}");
        return Some(Readiness::in_progress("LatestGenerationNotObserved", message));
    }
    conditions(object).filter(|c| c.status == "True").find_map(|c| match c.kind {
        "Reconciling" => Some(Readiness::in_progress(c.reason, c.message)),
        "Stalled" => Some(Readiness::failed(c.reason, c.message)),
        _ => None,
    })
}

fn deletion(object: &Value) -> String {
    let finalizers: Vec<_> =
        fields::list(object, "/metadata/finalizers").iter().filter_map(Value::as_str).collect();
    if finalizers.is_empty() {
        "being deleted".to_owned()
    } else {
        format!("being deleted, waiting for finalizers {}", finalizers.join(", "))
    }
}

/// The rule for kinds without one: a `Ready` condition rules; nothing to say means ready.
fn by_ready_condition(object: &Value) -> Readiness {
    match conditions(object).find(|c| c.kind == "Ready") {
        Some(ready) if ready.status == "True" => Readiness::current("Ready"),
        Some(ready) => Readiness::in_progress(ready.reason, ready.message),
        None => Readiness::current("present"),
    }
}

#[cfg(test)]
mod tests;
