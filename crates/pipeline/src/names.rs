//! Names that upstream fixes.

use serde_json::{Value, json};

use crate::value::text;

/// API group of our kinds.
pub const GROUP: &str = "trainer.kubeflow.org";
/// Group and version of our kinds.
pub const API_VERSION: &str = "trainer.kubeflow.org/v1alpha1";
/// The namespaced runtime.
pub const TRAINING_RUNTIME: &str = "TrainingRuntime";
/// The runtime of the whole cluster.
pub const CLUSTER_TRAINING_RUNTIME: &str = "ClusterTrainingRuntime";
/// Prefix of our own annotations.
pub const EXTENDED: &str = "extended.trainer.kubeflow.org";
/// Value of `managedBy` that means this controller.
pub const CONTROLLER: &str = "trainer.kubeflow.org/trainjob-controller";

/// Label of a replicated Job's template: which step of the TrainJob it is.
pub(crate) const ANCESTOR: &str = "trainer.kubeflow.org/trainjob-ancestor-step";
/// Label of a runtime that is to go.
pub(crate) const SUPPORT: &str = "trainer.kubeflow.org/support";
/// Ancestor of the training itself.
pub(crate) const TRAINER: &str = "trainer";
/// Ancestor, Job and container that fetch the data set.
pub(crate) const DATASET_INITIALIZER: &str = "dataset-initializer";
/// Ancestor, Job and container that fetch the model.
pub(crate) const MODEL_INITIALIZER: &str = "model-initializer";
/// Job and container of a training node.
pub(crate) const NODE: &str = "node";
/// Job of MPI's launcher.
pub(crate) const LAUNCHER: &str = "launcher";
/// Where training nodes find each other.
pub(crate) const PORT: i32 = 29500;
/// What tells a pod its number in its Job.
pub(crate) const RANK_FIELD: &str = "metadata.annotations['batch.kubernetes.io/job-completion-index']";

/// Name of an object.
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"]).unwrap_or_default()
}

/// Namespace of an object.
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"]).unwrap_or_default()
}

/// UID of an object.
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"]).unwrap_or_default()
}

/// An object of the TrainJob's namespace that the TrainJob owns.
pub(crate) fn owned(api_version: &str, kind: &str, name: &str, train_job: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace(train_job),
            "ownerReferences": [{
                "apiVersion": API_VERSION,
                "kind": "TrainJob",
                "name": self::name(train_job),
                "uid": uid(train_job),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
    })
}

/// Address of the first training node.
pub(crate) fn head_address(train_job: &Value) -> String {
    let name = name(train_job);
    format!("{name}-{NODE}-0-0.{name}")
}
