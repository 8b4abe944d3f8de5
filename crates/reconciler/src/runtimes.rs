//! Runtimes: what versions before 2.3 left on them is taken away.

use serde_json::{Value, json};
use trainerd_cluster::{Cluster, CreateParams, RequestError};
use trainerd_object::Resource;

use crate::cache::{Name, Store};
use crate::controller::Outcome;

/// Kept a runtime from being deleted while a TrainJob used it. A TrainJob has a snapshot of its runtime now.
const LEGACY: &str = "trainer.kubeflow.org/resource-in-use";

/// Takes the old finalizer from a runtime.
pub(crate) async fn reconcile(
    cluster: Cluster,
    resource: Resource,
    store: Store,
    name: Name,
) -> Result<Outcome, RequestError> {
    let Some(runtime) = store.get(&name) else { return Ok(Outcome::Done) };
    let Some(patch) = without_legacy(&runtime) else { return Ok(Outcome::Done) };
    let namespace = Some(name.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let params = CreateParams { metadata_only: true, ..CreateParams::default() };
    match cluster.patch_merge(&resource, namespace, &name.name, &patch, params).await {
        Ok(_) => {
            tracing::info!(kind = resource.kind, %name, "removed the finalizer of an earlier version");
            Ok(Outcome::Done)
        }
        Err(error) if error.is_absent() => Ok(Outcome::Done),
        Err(error) => Err(error),
    }
}

/// A merge patch that takes the finalizer away; `None` where it is not there. It holds the version that it was made
/// of: the list is replaced as a whole, and somebody else may have added to it.
fn without_legacy(runtime: &Value) -> Option<Value> {
    let finalizers = runtime.pointer("/metadata/finalizers")?.as_array()?;
    let left: Vec<&Value> = finalizers.iter().filter(|finalizer| *finalizer != LEGACY).collect();
    if left.len() == finalizers.len() {
        return None;
    }
    let version = &runtime["metadata"]["resourceVersion"];
    Some(json!({"metadata": {"finalizers": left, "resourceVersion": version}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_old_finalizer_is_removed() {
        let runtime =
            |finalizers: &[&str]| json!({"metadata": {"resourceVersion": "7", "finalizers": finalizers}});
        assert_eq!(without_legacy(&runtime(&[])), None);
        assert_eq!(without_legacy(&runtime(&["theirs"])), None);
        assert_eq!(without_legacy(&json!({"metadata": {}})), None);
        let patch = without_legacy(&runtime(&["theirs", LEGACY])).unwrap();
        assert_eq!(patch, runtime(&["theirs"]));
    }
}
