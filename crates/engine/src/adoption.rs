//! Objects that change owners: what is released, and what was taken by mistake and is given back.

use serde_json::{Value, json};
use tokio::time::Instant;
use trainerd_causes::one_line;
use trainerd_cluster::lease::Fence;
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::{ApplyParams, Cluster, CreateParams, RequestError};
use trainerd_plan::object::Resource;
use trainerd_plan::observed::LiveObject;
use trainerd_plan::plan::Step;
use trainerd_plan::readiness::by_existence;
use trainerd_plan::{applyset, intent_digest, ownership};

use crate::retry::PATIENCE;
use crate::write_error::WriteError;

/// How often an object that keeps changing is looked at again before letting go of it is given up.
const LOOKS: usize = 10;

/// Creates an object by a server-side apply.
///
/// An apply that meets an object merges into it. What somebody else made since the plan looked is not adopted so: what
/// was added to it is taken back, and the plan is told ([`WriteError::Overtaken`]). The answer to a request that was
/// repeated tells of an object, too, where the first try was carried out and only its answer lost.
pub(crate) async fn create(
    cluster: &Cluster,
    step: &Step,
    manifest: &Value,
    params: &ApplyParams,
    guard: Option<&Fence>,
) -> Result<Value, WriteError> {
    let applied = cluster.apply_telling(&step.resource, manifest, params).await?;
    if applied.created || ownership::made_by(&applied.object, cluster.field_manager()) {
        return Ok(applied.object);
    }
    let theirs = give_back(cluster, &step.resource, &applied.object, guard).await?;
    let owner = LiveObject { resource: step.resource.clone(), value: theirs }.owner();
    Err(WriteError::Overtaken { owner })
}

/// Takes back what an apply of ours added to an object: an apply of nothing drops the fields that are ours alone.
async fn give_back(
    cluster: &Cluster,
    resource: &Resource,
    object: &Value,
    guard: Option<&Fence>,
) -> Result<Value, WriteError> {
    let metadata = &object["metadata"];
    let mut nothing = json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
    });
    if let Some(namespace) = metadata["namespace"].as_str() {
        nothing["metadata"]["namespace"] = json!(namespace);
    }
    let params = ApplyParams { metadata_only: true, ..ApplyParams::default() };
    let mut backoff = Backoff::default();
    let deadline = Instant::now() + PATIENCE;
    loop {
        guard.map_or(Ok(()), Fence::check).map_err(WriteError::LeaseLost)?;
        match cluster.apply(resource, &nothing, &params).await {
            Ok(theirs) => return Ok(theirs),
            // It is gone, or another stands in its place: nothing of ours is left there.
            Err(error) if error.is_absent() || matches!(error, RequestError::Conflict { .. }) => {
                return Ok(json!({}));
            }
            Err(error) if error.retry().is_some() && Instant::now() < deadline => {
                tracing::debug!(error = %one_line(&error), "not given back yet");
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(source) => return Err(WriteError::NotGivenBack(source)),
        }
    }
}

/// Lets go of an object: the installation's labels and our entry in its `managedFields` go, and every other field
/// stays as it is, whoever set it. Answers with what is there; `None` where it is gone.
pub(crate) async fn release(
    cluster: &Cluster,
    step: &Step,
    uid: &str,
    guard: Option<&Fence>,
) -> Result<Option<Value>, WriteError> {
    let (namespace, name) = (step.object.namespace.as_deref(), step.object.name.as_str());
    for look in 0.. {
        let found = match cluster.get_metadata(&step.resource, namespace, name).await {
            Ok(found) => found,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if found["metadata"]["uid"].as_str() != Some(uid) {
            return Ok(None);
        }
        guard.map_or(Ok(()), Fence::check).map_err(WriteError::LeaseLost)?;
        let patch = releasing(&found, cluster.field_manager());
        let params = CreateParams { metadata_only: by_existence(&step.object), ..CreateParams::default() };
        match cluster.patch_merge(&step.resource, namespace, name, &patch, params).await {
            Ok(object) => return Ok(Some(object)),
            Err(RequestError::Conflict { .. }) if look < LOOKS => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The merge patch that releases an object, at the version that was read.
fn releasing(found: &Value, manager: &str) -> Value {
    let metadata = &found["metadata"];
    let entries = metadata["managedFields"].as_array().into_iter().flatten();
    let others: Vec<&Value> = entries.filter(|entry| entry["manager"].as_str() != Some(manager)).collect();
    let remaining = if others.is_empty() { json!([{}]) } else { json!(others) };
    json!({"metadata": {
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
        "managedFields": remaining,
        "labels": {
            applyset::PART_OF: null,
            applyset::INSTALLATION: null,
            applyset::NAMESPACE: null,
            applyset::COMPONENT: null,
        },
        "annotations": {intent_digest::ANNOTATION: null},
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_objects_lose_only_our_labels_and_managed_fields() {
        let found = json!({"metadata": {
            "uid": "u", "resourceVersion": "7",
            "managedFields": [{"manager": "trainerd", "operation": "Apply"}, {"manager": "kubectl"}],
        }});
        let patch = releasing(&found, "trainerd");
        assert_eq!(patch["metadata"]["managedFields"], json!([{"manager": "kubectl"}]));
        assert_eq!(
            (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
            (&json!("u"), &json!("7"))
        );
        let labels = patch["metadata"]["labels"].as_object().map(serde_json::Map::len);
        assert_eq!((labels, patch.as_object().map(serde_json::Map::len)), (Some(4), Some(1)));
        // An empty list would be taken for nothing said; this resets it.
        let alone = json!({"metadata": {"managedFields": [{"manager": "trainerd"}]}});
        assert_eq!(releasing(&alone, "trainerd")["metadata"]["managedFields"], json!([{}]));
    }
}
