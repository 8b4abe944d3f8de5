//! Finding the runtime of a TrainJob: as it was when the TrainJob was first built, or as it is.

use serde_json::Value;
use trainerd_pipeline::snapshot;
use trainerd_pipeline::{RuntimeError, RuntimeKind, runtime_location, runtime_not_found};

use crate::cache::Name;
use crate::facts::Context;
use crate::kinds;

impl Context {
    /// The ConfigMap with the snapshot, if there is one, and the runtime in it.
    pub(crate) async fn snapshot(
        &self,
        kind: RuntimeKind,
        job: &Value,
    ) -> Result<Option<(Value, Value)>, RuntimeError> {
        let found = self.snapshots.of(&Name::of(job)).await;
        let found =
            found.map_err(|error| RuntimeError::SnapshotUnreadable { kind, answer: error.to_string() })?;
        let Some(config_map) = found else { return Ok(None) };
        match snapshot::runtime(&config_map, job) {
            Ok(runtime) => Ok(Some((config_map, runtime))),
            Err(cause) => Err(RuntimeError::Snapshot { kind, cause }),
        }
    }

    /// The runtime as it is now. One that the cache does not know yet is asked for: it may have been made a moment ago.
    pub(crate) async fn live_runtime(&self, kind: RuntimeKind, job: &Value) -> Result<Value, RuntimeError> {
        let (namespace, name) = runtime_location(kind, job);
        let (store, resource) = match kind {
            RuntimeKind::Namespaced => (&self.stores.training_runtimes, kinds::training_runtime()),
            RuntimeKind::Cluster => {
                (&self.stores.cluster_training_runtimes, kinds::cluster_training_runtime())
            }
        };
        if let Some(runtime) = store.get(&Name::new(namespace.unwrap_or_default(), name)) {
            return Ok(runtime);
        }
        if name.is_empty() {
            return Err(RuntimeError::Live { kind, answer: runtime_not_found(kind, job) });
        }
        match self.cluster.get(&resource, namespace, name).await {
            Ok(runtime) => Ok(runtime),
            Err(error) if error.is_absent() => {
                Err(RuntimeError::Live { kind, answer: runtime_not_found(kind, job) })
            }
            Err(error) => Err(RuntimeError::Live { kind, answer: error.to_string() }),
        }
    }
}
