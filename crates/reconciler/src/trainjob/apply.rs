//! Writing the objects of a TrainJob.

use serde_json::Value;
use trainerd_cluster::lease::LeaseLost;
use trainerd_cluster::{ApplyParams, DeleteParams, FieldValidation, Propagation, RequestError, builtin};
use trainerd_object::Resource;

use super::{TrainJobs, emptied};
use crate::cache::{Name, strip_job_set, trim};
use crate::kinds;

/// Why an object was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The API server refused it, or was not reached.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Another manager leads, or may.
    #[error("failed to write: this manager no longer leads")]
    NotLeading(#[from] LeaseLost),
    /// The pipeline made something that nobody here can write.
    #[error("failed to write an object of kind {0:?}")]
    Kind(String),
}

impl TrainJobs {
    /// Applies an object that was built, with force, and answers with it as stored. The caches know it from then on: the
    /// next pass must not take for absent what this one made.
    pub(super) async fn apply(&self, object: &Value) -> Result<Value, WriteError> {
        self.check_leads()?;
        let kind = object["kind"].as_str().unwrap_or_default();
        let resource = resource(object).ok_or_else(|| WriteError::Kind(kind.to_owned()))?;
        let is_whole = matches!(kind, "JobSet") || is_snapshot(object);
        let params = ApplyParams {
            force: true,
            field_validation: FieldValidation::Ignore,
            metadata_only: !is_whole,
            ..ApplyParams::default()
        };
        let applied = match self.context.cluster.apply(&resource, object, &params).await {
            Err(error @ RequestError::Invalid { .. }) => {
                self.apply_emptied(&resource, object, &params, error).await
            }
            answer => answer,
        };
        if let Some(metrics) = &self.metrics {
            metrics.applied(kind, applied.is_ok());
        }
        let applied = trim(applied?);
        let stores = &self.context.stores;
        match (resource.group.as_str(), kind) {
            (_, "JobSet") => stores.job_sets.observe(&strip_job_set(applied.clone())),
            (_, "Secret") => stores.secrets.observe(&metadata(&applied)),
            (_, "ConfigMap") => stores.config_maps.observe(&metadata(&applied)),
            ("scheduling.x-k8s.io", _) => stores.coscheduling_pod_groups.observe(&metadata(&applied)),
            _ => stores.volcano_pod_groups.observe(&metadata(&applied)),
        }
        if is_snapshot(object) {
            self.context.snapshots.keep(&applied);
        }
        Ok(applied)
    }

    /// Sends a refused apply again, where it was refused for what it left empty.
    async fn apply_emptied(
        &self,
        resource: &Resource,
        object: &Value,
        params: &ApplyParams,
        refused: RequestError,
    ) -> Result<Value, RequestError> {
        let (cluster, name) = (&self.context.cluster, Name::of(object));
        let Some(live) = cluster.get_opt(resource, Some(&name.namespace), &name.name).await? else {
            return Err(refused);
        };
        let Some(patch) = emptied::patch(&refused, object, &live) else { return Err(refused) };
        cluster.patch_json(resource, Some(&name.namespace), &name.name, &patch).await?;
        cluster.apply(resource, object, params).await
    }

    /// Deletes an object of that uid in the background; one that is gone already is fine.
    pub(super) async fn delete(
        &self,
        resource: &Resource,
        name: &Name,
        uid: Option<&str>,
    ) -> Result<(), WriteError> {
        self.check_leads()?;
        let params = DeleteParams {
            uid: uid.map(str::to_owned),
            propagation: Some(Propagation::Background),
            ..DeleteParams::default()
        };
        match self.context.cluster.delete(resource, Some(&name.namespace), &name.name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn check_leads(&self) -> Result<(), LeaseLost> {
        self.fence.as_ref().map_or(Ok(()), trainerd_cluster::lease::Fence::check)
    }
}

/// How an object's kind is served.
fn resource(object: &Value) -> Option<Resource> {
    let known = [
        builtin::config_map(),
        builtin::secret(),
        kinds::job_set(),
        kinds::coscheduling_pod_group(),
        kinds::volcano_pod_group(),
    ];
    known
        .into_iter()
        .find(|resource| object["kind"] == resource.kind && object["apiVersion"] == resource.api_version())
}

fn is_snapshot(object: &Value) -> bool {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    object["kind"] == "ConfigMap" && name.ends_with("-runtime-snapshot")
}

/// What is kept of a kind that is watched by metadata.
fn metadata(object: &Value) -> Value {
    let mut kept = serde_json::Map::new();
    for field in ["apiVersion", "kind", "metadata"] {
        kept.insert(field.to_owned(), object[field].clone());
    }
    Value::Object(kept)
}
