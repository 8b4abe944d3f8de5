//! Finding what is ours without the revision that made it.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use trainerd_cluster::ListParams;
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
        let params = &ListParams {
            label_selector: Some(format!("{}={}", applyset::PART_OF, applyset::id(self.installation()))),
            ..ListParams::default()
        };
        let lists: Vec<Vec<(ObjectKey, LiveObject)>> = stream::iter(resources)
            .map(|resource| async move {
                match patiently(async || self.cluster.list(&resource, params).await).await {
                    Ok(list) => Ok(keyed(&resource, list.items)),
                    Err(error) if error.is_absent() => Ok(Vec::new()),
                    Err(error) => Err(EngineError::request("list", &resource.plural)(error)),
                }
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await?;
        Ok(lists.into_iter().flatten().collect())
    }
}

fn keyed(resource: &Resource, items: Vec<serde_json::Value>) -> Vec<(ObjectKey, LiveObject)> {
    let live = |value| LiveObject { resource: resource.clone(), value };
    items.into_iter().filter_map(|value| Some((ObjectKey::of(&value)?, live(value)))).collect()
}
