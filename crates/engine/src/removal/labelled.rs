//! Finding what is ours without the revision that made it.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use trainerd_cluster::{ListParams, RequestError, builtin};
use trainerd_plan::applyset;
use trainerd_plan::object::{GroupKind, ObjectKey, Resource};
use trainerd_plan::observed::LiveObject;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::observe::IN_FLIGHT;
use crate::retry::patiently;

impl Engine {
    /// Every object of these kinds that carries the installation's ApplySet label, as the kinds are served
    /// now. Kinds that are not served have none; namespaces are never members.
    ///
    /// The record says which kinds members may have, so this works where the revisions are damaged or gone.
    pub(crate) async fn labelled(
        &self,
        kinds: &BTreeSet<GroupKind>,
    ) -> Result<BTreeMap<ObjectKey, LiveObject>, EngineError> {
        let kinds: BTreeSet<&GroupKind> = kinds.iter().filter(|kind| kind.kind != "Namespace").collect();
        let groups: BTreeSet<&str> = kinds.iter().map(|kind| kind.group.as_str()).collect();
        let served: Vec<Vec<Resource>> = stream::iter(groups)
            .map(|group| async move {
                let served = patiently(async || self.cluster.kinds_of(group).await).await;
                served.map_err(EngineError::request("list", format!("the kinds of API group {group:?}")))
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await?;
        let resources =
            served.into_iter().flatten().filter(|resource| kinds.contains(&resource.group_kind()));
        let lists = stream::iter(resources).map(async |resource| self.labelled_of(&resource).await);
        let lists: Vec<_> = lists.buffer_unordered(IN_FLIGHT).try_collect().await?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// The Deployments in the installation's namespace that carry its ApplySet label.
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn deployments(&self) -> Result<Vec<serde_json::Value>, EngineError> {
        let namespace = Some(self.installation().namespace.clone());
        self.list_labelled(&builtin::deployment(), namespace).await
    }

    /// Every object that carries the installation's ApplySet label, of whatever kind: for where nothing says which
    /// kinds its members have. Kinds that may not be listed are left out.
    pub(crate) async fn labelled_anywhere(&self) -> Result<BTreeMap<ObjectKey, LiveObject>, EngineError> {
        let resources = patiently(async || self.cluster.resources().await).await;
        let resources =
            resources.map_err(EngineError::request("list", "the kinds that the API server serves"))?;
        let resources = resources.into_iter().filter(|resource| resource.kind != "Namespace");
        let lists = stream::iter(resources).map(async |resource| match self.labelled_of(&resource).await {
            Err(EngineError::Request { source: RequestError::Forbidden { message, .. }, .. }) => {
                tracing::warn!(kind = resource.kind, message, "what is left of this kind is not known");
                Ok(Vec::new())
            }
            answer => answer,
        });
        let lists: Vec<_> = lists.buffer_unordered(IN_FLIGHT).try_collect().await?;
        Ok(lists.into_iter().flatten().collect())
    }

    async fn labelled_of(&self, resource: &Resource) -> Result<Vec<(ObjectKey, LiveObject)>, EngineError> {
        Ok(keyed(resource, self.list_labelled(resource, None).await?))
    }

    /// The objects of a kind that carry the label, of one namespace or of all; none where the kind is not served.
    async fn list_labelled(
        &self,
        resource: &Resource,
        namespace: Option<String>,
    ) -> Result<Vec<serde_json::Value>, EngineError> {
        let params = ListParams {
            namespace,
            label_selector: Some(format!("{}={}", applyset::PART_OF, applyset::id(self.installation()))),
            ..ListParams::default()
        };
        match patiently(async || self.cluster.list(resource, &params).await).await {
            Ok(list) => Ok(list.items),
            Err(error) if error.is_absent() => Ok(Vec::new()),
            Err(error) => Err(EngineError::request("list", &resource.plural)(error)),
        }
    }
}

fn keyed(resource: &Resource, items: Vec<serde_json::Value>) -> Vec<(ObjectKey, LiveObject)> {
    let live = |value| LiveObject { resource: resource.clone(), value };
    items.into_iter().filter_map(|value| Some((ObjectKey::of(&value)?, live(value)))).collect()
}
