//! The objects that a run looks at, kept current by watches that are opened when something has to be waited
//! for, and not before.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use trainerd_cluster::watch::Event;
use trainerd_cluster::{Cluster, ObjectList, RequestError, builtin, endpoints};
use trainerd_plan::desired::Installation;
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::observed::Observed;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::readiness::WorkloadStatus;
use trainerd_plan::readiness::waits::{pod_trouble, workload};

use crate::error::Failure;
use crate::watches::{Scope, WatchMessage, Watches};

/// The objects of a run.
pub(crate) struct Live {
    objects: HashMap<ObjectKey, Value>,
    /// Objects whose deletion was seen and that did not come back, with the version of the deletion: older
    /// news does not bring them back.
    deleted: HashMap<ObjectKey, u64>,
    /// Kinds that are followed where that is allowed, and go without where it is not.
    by_the_way: BTreeSet<Resource>,
    watches: Watches,
}

impl Live {
    /// Starts from what was observed, with no watch open.
    pub(crate) fn new(cluster: &Cluster, installation: &Installation, observed: Observed) -> Self {
        Self {
            objects: observed.objects.into_iter().map(|(key, live)| (key, live.value)).collect(),
            deleted: HashMap::new(),
            by_the_way: BTreeSet::new(),
            watches: Watches::new(cluster, installation),
        }
    }

    /// The last observation of an object.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Value> {
        self.objects.get(key)
    }

    /// Takes the answer to a write. Workloads are followed from now on: their state is what settling is about.
    pub(crate) fn put(&mut self, key: &ObjectKey, resource: &Resource, value: Value) {
        if object_class(key) == ObjectClass::Workload {
            self.follow(resource);
        }
        self.accept(key.clone(), value);
    }

    /// The object does not exist.
    pub(crate) fn forget(&mut self, key: &ObjectKey) {
        self.objects.remove(key);
    }

    /// Keeps the installation's objects of a kind current.
    pub(crate) fn follow(&mut self, resource: &Resource) {
        self.watches.open(resource, Scope::Ours, false);
    }

    /// As [`Self::follow`], if it is allowed: nothing depends on it.
    pub(crate) fn follow_by_the_way(&mut self, resource: &Resource) {
        if !self.watches.places().any(|(open, scope)| open == resource && *scope == Scope::Ours) {
            self.by_the_way.insert(resource.clone());
            self.follow(resource);
        }
    }

    /// Keeps all objects of a kind current.
    pub(crate) fn follow_all(&mut self, resource: &Resource) {
        self.watches.open(resource, Scope::All, false);
    }

    /// Keeps the pods of a namespace current, for the reasons they give.
    pub(crate) fn follow_pods(&mut self, namespace: Option<&str>) {
        if let Some(namespace) = namespace {
            self.watches.open(&builtin::pod(), Scope::Namespace(namespace.to_owned()), false);
        }
    }

    /// Keeps the EndpointSlices of a Service (`namespace/name`) current.
    pub(crate) fn follow_endpoints(&mut self, service: &str) {
        for scope in Scope::services([service]) {
            self.watches.open(&builtin::endpoint_slice(), scope, false);
        }
    }

    /// Whether every watch has reported what there is.
    pub(crate) fn is_current(&self) -> bool {
        self.watches.is_current()
    }

    /// Whether a Service (`namespace/name`) has a ready endpoint.
    pub(crate) fn has_endpoint(&self, service: &str) -> bool {
        let slices = self.objects.iter().filter(|(key, _)| key.kind == "EndpointSlice");
        endpoints::answers(service, slices.map(|(_, slice)| slice))
    }

    /// A workload's message with what the first of its pods that is in trouble says.
    pub(crate) fn with_pods(&self, workload: &ObjectKey, message: String) -> String {
        let pods = self.objects.iter().filter(|(key, _)| key.kind == "Pod");
        match self.get(workload).and_then(|value| pod_trouble(workload, value, pods)) {
            Some(trouble) => format!("{message}; {trouble}"),
            None => message,
        }
    }

    /// How many of a workload's pods are ready, and what is wrong with one of them.
    pub(crate) fn workload(&self, key: &ObjectKey) -> Option<WorkloadStatus> {
        let pods = self.objects.iter().filter(|(key, _)| key.kind == "Pod");
        workload(key, self.get(key)?, pods)
    }

    /// Waits until something that is followed changed, and says what.
    pub(crate) async fn next(&mut self) -> Result<Vec<ObjectKey>, Failure> {
        let WatchMessage { resource, scope, event } = self.watches.next().await;
        let event = match event {
            Ok(event) => event,
            // Pods are followed only for the reasons that they give.
            Err(error) if resource == builtin::pod() => {
                tracing::warn!(%error, "failed to watch pods; their reasons are not shown");
                return Ok(Vec::new());
            }
            Err(error) if self.by_the_way.contains(&resource) => {
                tracing::debug!(%error, kind = resource.kind, "not followed");
                return Ok(Vec::new());
            }
            // The watch continues by itself after what passes; a kind that is not served may still come to be.
            Err(error) if error.retry().is_some() || matches!(error, RequestError::NotServed { .. }) => {
                return Ok(Vec::new());
            }
            Err(source) => return Err(Failure::Watch { kind: resource.kind.clone(), source }),
        };
        Ok(match event {
            Event::Applied(value) => {
                ObjectKey::of(&value).map(|key| self.accept(key, value)).into_iter().collect()
            }
            Event::Deleted(value) => self.was_told_deleted(&value).into_iter().collect(),
            Event::Restarted(list) => self.restart(&resource, &scope, list),
            Event::Resumed => Vec::new(),
        })
    }

    /// Takes in that an object was deleted; `None` where it was made again since, by a plan that did both.
    fn was_told_deleted(&mut self, value: &Value) -> Option<ObjectKey> {
        let key = ObjectKey::of(value)?;
        if self.objects.get(&key).is_some_and(|known| version(known) > version(value)) {
            return None;
        }
        self.forget(&key);
        self.deleted.insert(key.clone(), version(value));
        Some(key)
    }

    /// Takes a fresh list of a watch's objects; those it no longer has are gone, as if their deletion had been told.
    /// What was written since the list was made is not missing from it.
    fn restart(&mut self, resource: &Resource, scope: &Scope, list: ObjectList) -> Vec<ObjectKey> {
        let as_of = number(&list.resource_version);
        let listed: Vec<(ObjectKey, Value)> =
            list.items.into_iter().filter_map(|value| Some((ObjectKey::of(&value)?, value))).collect();
        let present: BTreeSet<&ObjectKey> = listed.iter().map(|(key, _)| key).collect();
        let vanished: Vec<ObjectKey> = self
            .objects
            .iter()
            .filter(|(key, value)| {
                key.group == resource.group
                    && key.kind == resource.kind
                    && scope.covers(key, value, self.watches.part_of())
                    && !present.contains(key)
                    && version(value) <= as_of
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &vanished {
            self.objects.remove(key);
            self.deleted.insert(key.clone(), as_of);
        }
        listed.into_iter().map(|(key, value)| self.accept(key, value)).chain(vanished).collect()
    }

    /// Whether an object was seen to be deleted.
    pub(crate) fn was_deleted(&self, key: &ObjectKey) -> bool {
        self.deleted.contains_key(key)
    }

    /// Keeps the newer of what is known and what is told: the answer to a write may overtake a watch.
    fn accept(&mut self, key: ObjectKey, value: Value) -> ObjectKey {
        let version_of_value = version(&value);
        let older = self.objects.get(&key).is_some_and(|known| version_of_value < version(known));
        let dead = self.deleted.get(&key).is_some_and(|deletion| version_of_value < *deletion);
        if !older && !dead {
            self.objects.insert(key.clone(), value);
            self.deleted.remove(&key);
        }
        key
    }
}

/// The resourceVersion as a number. The API server's are, and grow (KEP-5504); where one is not, the
/// later news wins.
pub(crate) fn version(value: &Value) -> u64 {
    number(value["metadata"]["resourceVersion"].as_str().unwrap_or_default())
}

fn number(version: &str) -> u64 {
    version.parse().unwrap_or(u64::MAX)
}
