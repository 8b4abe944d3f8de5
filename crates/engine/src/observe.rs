//! Reading what a plan is made from: our objects by their label, the others by name.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use trainerd_cluster::{Cluster, ListParams, RequestError, builtin};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Desired, Installation};
use trainerd_plan::in_use;
use trainerd_plan::object::{ObjectKey, Resource, kinds};
use trainerd_plan::observed::{LiveObject, Observed};
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::ownership;
use trainerd_plan::planner;
use trainerd_plan::prune;

use crate::error::EngineError;
use crate::retry::patiently;

/// Requests in flight at once.
pub(crate) const IN_FLIGHT: usize = 16;

/// From so many objects of a kind in a namespace on, their names are listed before they are read one by one.
const MANY: usize = 4;

/// Observes everything that matters to a plan towards the last of `states`.
///
/// One list a kind finds what carries our label; what some state names and the lists did not return is read
/// by name, for it may be there in somebody else's hands. A kind that the server does not serve has no
/// objects.
pub(crate) async fn observe(
    cluster: &Cluster,
    installation: &Installation,
    states: &[&Desired],
) -> Result<Observed, EngineError> {
    let all = || states.iter().flat_map(|state| &state.objects);
    let resources: BTreeSet<&Resource> = all().map(|object| &object.resource).collect();
    let selector = format!("{}={}", applyset::PART_OF, applyset::id(installation));

    let lists: Vec<_> = stream::iter(resources.into_iter().filter(|resource| resource.kind != "Namespace"))
        .map(|resource| {
            (resource, ListParams { label_selector: Some(selector.clone()), ..ListParams::default() })
        })
        .map(|(resource, params)| async move {
            match patiently(async || cluster.list(resource, &params).await).await {
                Ok(list) => Ok((resource, Some(list.items))),
                Err(error) if error.is_absent() => Ok((resource, None)),
                Err(error) => Err(EngineError::request("list", &resource.plural)(error)),
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;

    let mut observed = Observed::default();
    let mut unserved: BTreeSet<&Resource> = BTreeSet::new();
    for (resource, items) in lists {
        match items {
            Some(items) => observed.objects.extend(keyed(resource, items)),
            None => {
                unserved.insert(resource);
            }
        }
    }
    let missing: BTreeMap<ObjectKey, &Resource> = all()
        .map(|object| (object.key(), &object.resource))
        .filter(|(key, resource)| !observed.objects.contains_key(key) && !unserved.contains(resource))
        .collect();
    let missing = those_that_may_exist(cluster, missing).await?;
    let found: Vec<_> = stream::iter(missing)
        .map(|(key, resource)| async move {
            let read = async || cluster.get_opt(resource, key.namespace.as_deref(), &key.name).await;
            let value = patiently(read).await;
            let value = value.map_err(EngineError::request("read", &key))?;
            Ok::<_, EngineError>(value.map(|value| (key, LiveObject { resource: resource.clone(), value })))
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    observed.objects.extend(found.into_iter().flatten());

    if let Some(desired) = states.last() {
        let crds = prune::pruned_crds(desired, &observed, cluster.field_manager());
        observed.custom_objects = stored_under(cluster, &crds).await?;
    }
    if let Some(desired) = states.last()
        && planner::drops_workload_ref(desired, &observed)
    {
        let stored = stored(cluster, &kinds::job_set()).await?;
        observed.workload_refs = stored
            .into_iter()
            .filter(|(_, live)| planner::has_field(&live.value["spec"], "workloadRef"))
            .map(|(key, _)| key)
            .collect();
    }
    if let Some(desired) = states.last()
        && prune::needs_users(desired, &observed)
    {
        let jobs = stored(cluster, &kinds::train_job()).await?;
        let jobs: Vec<Value> = jobs.into_iter().map(|(_, live)| live.value).collect();
        observed.users = in_use::users(&observed, &jobs);
    }
    observed.removed = removed(cluster, installation, &observed).await?;
    Ok(observed)
}

/// The ApplySet ids of other installations that observed objects carry and that are gone: no Secret of theirs, no lease
/// and no Deployment is left in their namespace. Where that may not be looked at, they count as there.
async fn removed(
    cluster: &Cluster,
    installation: &Installation,
    observed: &Observed,
) -> Result<BTreeSet<String>, EngineError> {
    let others = observed.objects.values().filter_map(LiveObject::installation);
    let others: BTreeMap<String, Installation> =
        others.filter(|other| other != installation).map(|other| (applyset::id(&other), other)).collect();
    let mut removed = BTreeSet::new();
    for (id, other) in others {
        if !is_there(cluster, &other, &id).await? {
            removed.insert(id);
        }
    }
    Ok(removed)
}

async fn is_there(cluster: &Cluster, other: &Installation, id: &str) -> Result<bool, EngineError> {
    let of_record = format!("{}={}", applyset::INSTALLATION, other.name);
    let of_set = format!("{}={id}", applyset::PART_OF);
    for (resource, selector) in [(builtin::secret(), of_record), (builtin::deployment(), of_set)] {
        let params = ListParams {
            namespace: Some(other.namespace.clone()),
            label_selector: Some(selector),
            metadata_only: true,
            ..ListParams::default()
        };
        match patiently(async || cluster.list(&resource, &params).await).await {
            Ok(list) if list.items.is_empty() => {}
            Ok(_) | Err(RequestError::Forbidden { .. }) => return Ok(true),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(EngineError::request("list", &resource.plural)(error)),
        }
    }
    let (lease, name) = (builtin::lease(), applyset::parent_name(other));
    match patiently(async || cluster.get_opt(&lease, Some(&other.namespace), &name).await).await {
        Ok(lease) => Ok(lease.is_some()),
        Err(RequestError::Forbidden { .. }) => Ok(true),
        Err(error) => {
            Err(EngineError::request("read", format!("the lease of installation {}", other.name))(error))
        }
    }
}

/// Leaves out what is known not to exist: of a kind and a namespace where much is looked for, the names that
/// there are come in one list. A first install asks once a kind, and not once an object.
async fn those_that_may_exist<'r>(
    cluster: &Cluster,
    missing: BTreeMap<ObjectKey, &'r Resource>,
) -> Result<BTreeMap<ObjectKey, &'r Resource>, EngineError> {
    let mut places: BTreeMap<(&Resource, Option<&str>), usize> = BTreeMap::new();
    for (key, resource) in &missing {
        *places.entry((resource, key.namespace.as_deref())).or_default() += 1;
    }
    places.retain(|_, count| *count >= MANY);
    let names: BTreeMap<_, BTreeSet<String>> = stream::iter(places.into_keys())
        .map(|(resource, namespace)| async move {
            let params = ListParams {
                namespace: namespace.map(str::to_owned),
                metadata_only: true,
                ..ListParams::default()
            };
            let list = patiently(async || cluster.list(resource, &params).await).await;
            let items = match list {
                Ok(list) => list.items,
                Err(error) if error.is_absent() => Vec::new(),
                Err(error) => return Err(EngineError::request("list", &resource.plural)(error)),
            };
            let name = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
            Ok(((resource, namespace), items.iter().filter_map(name).collect()))
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    let may_exist = |key: &ObjectKey, resource: &Resource| {
        names.get(&(resource, key.namespace.as_deref())).is_none_or(|names| names.contains(&key.name))
    };
    let chosen = missing.iter().filter(|(key, resource)| may_exist(key, resource));
    Ok(chosen.map(|(key, resource)| (key.clone(), *resource)).collect())
}

/// Reads every stored object of the kinds that observed CRDs define, as far as trainerd made these. Which of
/// them go is the plan's to say: only what is stored under CRDs that go themselves.
pub(crate) async fn custom_objects(
    cluster: &Cluster,
    observed: &Observed,
) -> Result<BTreeMap<ObjectKey, LiveObject>, EngineError> {
    let manager = cluster.field_manager();
    let crds = observed.objects.iter().filter(|(key, _)| object_class(key) == ObjectClass::Crd);
    let crds = crds.map(|(_, crd)| crd).filter(|crd| ownership::applied_by(&crd.value, manager));
    stored_under(cluster, &crds.collect::<Vec<_>>()).await
}

/// Reads every stored object of the kinds that these CRDs define.
async fn stored_under(
    cluster: &Cluster,
    crds: &[&LiveObject],
) -> Result<BTreeMap<ObjectKey, LiveObject>, EngineError> {
    let resources: Vec<Resource> = crds.iter().filter_map(|crd| defined(&crd.value)).collect();
    let lists: Vec<_> = stream::iter(resources.iter())
        .map(|resource| stored(cluster, resource))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    Ok(lists.into_iter().flatten().collect())
}

async fn stored(cluster: &Cluster, resource: &Resource) -> Result<Vec<(ObjectKey, LiveObject)>, EngineError> {
    match patiently(async || cluster.list(resource, &ListParams::default()).await).await {
        Ok(list) => Ok(keyed(resource, list.items).collect()),
        Err(error) if error.is_absent() => Ok(Vec::new()),
        Err(error) => Err(EngineError::request("list", &resource.plural)(error)),
    }
}

/// The storage version of the kind that a CRD defines.
fn defined(crd: &Value) -> Option<Resource> {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let version = spec["versions"].as_array()?.iter().find(|version| version["storage"] == true)?;
    Some(Resource {
        group: text(&spec["group"])?,
        version: text(&version["name"])?,
        kind: text(&spec["names"]["kind"])?,
        plural: text(&spec["names"]["plural"])?,
        namespaced: spec["scope"] == "Namespaced",
    })
}

fn keyed(resource: &Resource, items: Vec<Value>) -> impl Iterator<Item = (ObjectKey, LiveObject)> + '_ {
    items
        .into_iter()
        .filter_map(|value| Some((ObjectKey::of(&value)?, LiveObject { resource: resource.clone(), value })))
}

/// Whether a namespace exists, and is there to stay.
pub(crate) async fn namespace(cluster: &Cluster, name: &str) -> Result<Option<Value>, RequestError> {
    patiently(async || cluster.get_opt(&builtin::namespace(), None, name).await).await
}
