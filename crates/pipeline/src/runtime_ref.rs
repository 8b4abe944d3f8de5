//! Which runtime a TrainJob refers to.

use std::fmt;

use serde_json::Value;

use crate::names::{CLUSTER_TRAINING_RUNTIME, GROUP, TRAINING_RUNTIME, name, namespace};
use crate::value::text;

/// Kinds of runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// `TrainingRuntime`, in the namespace of the TrainJob.
    Namespaced,
    /// `ClusterTrainingRuntime`.
    Cluster,
}

impl RuntimeKind {
    /// The kind in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaced => TRAINING_RUNTIME,
            Self::Cluster => CLUSTER_TRAINING_RUNTIME,
        }
    }
}

/// A reference to a kind that there is no runtime of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsupported runtime: {key}")]
pub struct UnsupportedRuntime {
    /// `<kind>.<group>`, or `<kind>` alone.
    pub key: String,
}

/// The kind of runtime that a TrainJob refers to.
///
/// # Errors
/// When it is none that we know.
pub fn runtime_kind(train_job: &Value) -> Result<RuntimeKind, UnsupportedRuntime> {
    let of = |key: &str| text(train_job, &["spec", "runtimeRef", key]).unwrap_or_default();
    match (of("apiGroup"), of("kind")) {
        (GROUP, TRAINING_RUNTIME) => Ok(RuntimeKind::Namespaced),
        (GROUP, CLUSTER_TRAINING_RUNTIME) => Ok(RuntimeKind::Cluster),
        ("", kind) => Err(UnsupportedRuntime { key: kind.to_owned() }),
        (group, kind) => Err(UnsupportedRuntime { key: format!("{kind}.{group}") }),
    }
}

/// Why the runtime of a TrainJob cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeError {
    /// The API server's answer to a request for the live runtime, in its words.
    Live {
        /// Kind that was asked for.
        kind: RuntimeKind,
        /// The API server's words.
        answer: String,
    },
    /// The snapshot is not to be used.
    Snapshot {
        /// Kind that is expected.
        kind: RuntimeKind,
        /// What is wrong with it.
        cause: crate::snapshot::SnapshotError,
    },
    /// The snapshot could not be read, in the API server's words.
    SnapshotUnreadable {
        /// Kind that is expected.
        kind: RuntimeKind,
        /// The API server's words.
        answer: String,
    },
    /// The snapshot could not be written, in the API server's words.
    SnapshotNotWritten(String),
}

impl std::error::Error for RuntimeError {}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reading = |kind: &RuntimeKind| match kind {
            RuntimeKind::Namespaced => "unable to get runtime snapshot",
            RuntimeKind::Cluster => "getting runtime snapshot",
        };
        match self {
            Self::Live { kind: RuntimeKind::Namespaced, answer } => {
                write!(f, "TrainingRuntime specified in TrainJob is not found: {answer}")
            }
            Self::Live { kind: RuntimeKind::Cluster, answer } => {
                write!(f, "not found ClusterTrainingRuntime specified in TrainJob: {answer}")
            }
            Self::Snapshot { kind, cause } => write!(f, "{}: {cause}", reading(kind)),
            Self::SnapshotUnreadable { kind, answer } => write!(f, "{}: {answer}", reading(kind)),
            Self::SnapshotNotWritten(answer) => {
                write!(f, "creating runtime snapshot: applying runtime snapshot ConfigMap: {answer}")
            }
        }
    }
}

/// What the API server says of an object that does not exist, for example
/// `jobsets.jobset.x-k8s.io "a" not found`.
pub fn not_found(resource: &str, name: &str) -> String {
    format!("{resource} {} not found", crate::go::quoted(name))
}

/// What the API server says when the TrainJob's runtime does not exist.
pub fn runtime_not_found(kind: RuntimeKind, train_job: &Value) -> String {
    let resource = match kind {
        RuntimeKind::Namespaced => "trainingruntimes.trainer.kubeflow.org",
        RuntimeKind::Cluster => "clustertrainingruntimes.trainer.kubeflow.org",
    };
    not_found(resource, text(train_job, &["spec", "runtimeRef", "name"]).unwrap_or_default())
}

/// Where the runtime of a TrainJob is: its namespace, if it has one, and its name.
pub fn runtime_location(kind: RuntimeKind, train_job: &Value) -> (Option<&str>, &str) {
    let name = text(train_job, &["spec", "runtimeRef", "name"]).unwrap_or_default();
    match kind {
        RuntimeKind::Namespaced => (Some(namespace(train_job)), name),
        RuntimeKind::Cluster => (None, name),
    }
}

/// Whether this object is the runtime that the TrainJob refers to.
pub fn is_runtime_of(runtime: &Value, train_job: &Value) -> bool {
    runtime_kind(train_job).is_ok_and(|kind| {
        let (place, wanted) = runtime_location(kind, train_job);
        text(runtime, &["kind"]) == Some(kind.as_str())
            && name(runtime) == wanted
            && place.is_none_or(|place| namespace(runtime) == place)
    })
}
