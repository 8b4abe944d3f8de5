//! How many of a workload's pods are ready, and what is wrong with one of them.

use serde_json::Value;

use super::PodFault;
use super::fields::{count, int};

/// A workload that is not ready yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// Pods that are ready.
    pub ready: i64,
    /// Pods that shall be.
    pub wanted: i64,
    /// What is wrong with the first pod with which something is.
    pub fault: Option<PodFault>,
}

impl WorkloadStatus {
    /// The counts of a Deployment or StatefulSet; `None` for other kinds.
    ///
    /// While a Deployment is rolled out its old pods are ready: those are not what is waited for.
    pub fn of(object: &Value) -> Option<Self> {
        let ready = count(object, "/status/readyReplicas");
        let old = || count(object, "/status/replicas") - count(object, "/status/updatedReplicas");
        match object["kind"].as_str() {
            Some(kind @ ("Deployment" | "StatefulSet")) => Some(Self {
                ready: if kind == "Deployment" { (ready - old().max(0)).max(0) } else { ready },
                wanted: int(object, "/spec/replicas").unwrap_or(1),
                fault: None,
            }),
            _ => None,
        }
    }
}
