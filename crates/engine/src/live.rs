//! The objects that a run looks at, kept current by watches that are opened when something has to be waited
//! for, and not before.

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, RequestError, endpoints};
use trainerd_plan::applyset;
use trainerd_plan::desired::Installation;
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::observed::Observed;
use trainerd_plan::order::{Role, role};

use crate::error::Failure;
use crate::kinds;
use crate::status::pod_trouble;

/// Events that may queue up between two looks; a watch that runs ahead waits.
const QUEUE: usize = 256;

/// Label of an EndpointSlice: the Service it is about.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Which objects of a kind a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Those of the installation.
    Ours,
    /// All.
    All,
    /// Those in a namespace.
    Namespace(String),
    /// The EndpointSlices of a Service.
    Service(String),
}

impl Scope {
    fn covers(&self, key: &ObjectKey, value: &Value, part_of: &str) -> bool {
        match self {
            Self::Ours => applyset::label(value, applyset::PART_OF) == Some(part_of),
            Self::All => true,
            Self::Namespace(namespace) => key.namespace.as_ref() == Some(namespace),
            Self::Service(service) => service.split_once('/').is_some_and(|(namespace, name)| {
                key.namespace.as_deref() == Some(namespace)
                    && applyset::label(value, SERVICE_NAME) == Some(name)
            }),
        }
    }
}

type Message = (Resource, Scope, Result<Event, RequestError>);

/// The objects of a run.
pub(crate) struct Live {
    cluster: Cluster,
    /// The ApplySet id.
    part_of: String,
    objects: HashMap<ObjectKey, Value>,
    /// Objects whose deletion was seen and that did not come back, with the version of the deletion: older
    /// news does not bring them back.
    deleted: HashMap<ObjectKey, u64>,
    /// Watches that have not told anything yet.
    silent: BTreeSet<(Resource, Scope)>,
    followed: BTreeSet<(Resource, Scope)>,
    sender: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
    watches: JoinSet<()>,
}

impl Live {
    /// Starts from what was observed, with no watch open.
    pub(crate) fn new(cluster: &Cluster, installation: &Installation, observed: Observed) -> Self {
        let (sender, messages) = mpsc::channel(QUEUE);
        Self {
            cluster: cluster.clone(),
            part_of: applyset::id(installation),
            objects: observed.objects.into_iter().map(|(key, live)| (key, live.value)).collect(),
            deleted: HashMap::new(),
            silent: BTreeSet::new(),
            followed: BTreeSet::new(),
            sender,
            messages,
            watches: JoinSet::new(),
        }
    }

    /// An object as it was last seen.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Value> {
        self.objects.get(key)
    }

    /// Takes the answer to a write. Workloads are followed from now on: their state is what settling is about.
    pub(crate) fn put(&mut self, key: &ObjectKey, resource: &Resource, value: Value) {
        if role(key) == Role::Workload {
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
        self.open(resource.clone(), Scope::Ours);
    }

    /// Keeps all objects of a kind current.
    pub(crate) fn follow_all(&mut self, resource: &Resource) {
        self.open(resource.clone(), Scope::All);
    }

    /// Keeps the pods of a namespace current, for the reasons they give.
    pub(crate) fn follow_pods(&mut self, namespace: Option<&str>) {
        if let Some(namespace) = namespace {
            self.open(kinds::pod(), Scope::Namespace(namespace.to_owned()));
        }
    }

    /// Keeps the EndpointSlices of a Service (`namespace/name`) current.
    pub(crate) fn follow_endpoints(&mut self, service: &str) {
        self.open(endpoints::resource(), Scope::Service(service.to_owned()));
    }

    /// Whether every watch has told what there is.
    pub(crate) fn is_current(&self) -> bool {
        self.silent.is_empty()
    }

    /// Whether a Service (`namespace/name`) has a ready endpoint.
    pub(crate) fn has_endpoint(&self, service: &str) -> bool {
        let scope = Scope::Service(service.to_owned());
        let slices: Vec<Value> = self
            .objects
            .iter()
            .filter(|(key, value)| key.kind == "EndpointSlice" && scope.covers(key, value, &self.part_of))
            .map(|(_, value)| value.clone())
            .collect();
        endpoints::ready_endpoints(&slices) > 0
    }

    /// A workload's message with what the first of its pods that is in trouble says.
    pub(crate) fn with_pods(&self, workload: &ObjectKey, message: String) -> String {
        let pods = self.objects.iter().filter(|(key, _)| key.kind == "Pod");
        match self.get(workload).and_then(|value| pod_trouble(workload, value, pods)) {
            Some(trouble) => format!("{message}; {trouble}"),
            None => message,
        }
    }

    /// Waits until something that is followed changed, and says what.
    pub(crate) async fn next(&mut self) -> Result<Vec<ObjectKey>, Failure> {
        // The sender of this very struct keeps the channel open: without a watch this waits for ever.
        let Some((resource, scope, event)) = self.messages.recv().await else { return Ok(Vec::new()) };
        self.silent.remove(&(resource.clone(), scope.clone()));
        let event = match event {
            Ok(event) => event,
            // Pods are followed only for the reasons that they give.
            Err(error) if resource == kinds::pod() => {
                tracing::warn!(%error, "failed to watch pods; their reasons are not shown");
                return Ok(Vec::new());
            }
            // The watch goes on by itself after what passes; a kind that is not served may still come to be.
            Err(error) if error.retry().is_some() || matches!(error, RequestError::NotServed { .. }) => {
                return Ok(Vec::new());
            }
            Err(source) => return Err(Failure::Watch { kind: resource.kind.clone(), source }),
        };
        Ok(match event {
            Event::Applied(value) => {
                ObjectKey::of(&value).map(|key| self.accept(key, value)).into_iter().collect()
            }
            Event::Deleted(value) => {
                let key = ObjectKey::of(&value);
                if let Some(key) = &key {
                    self.forget(key);
                    self.deleted.insert(key.clone(), version(&value));
                }
                key.into_iter().collect()
            }
            Event::Restarted(values) => self.restart(&resource, &scope, values),
        })
    }

    /// Takes a fresh list of a watch's objects; those it no longer has are gone.
    fn restart(&mut self, resource: &Resource, scope: &Scope, values: Vec<Value>) -> Vec<ObjectKey> {
        let listed: Vec<(ObjectKey, Value)> =
            values.into_iter().filter_map(|value| Some((ObjectKey::of(&value)?, value))).collect();
        let present: BTreeSet<&ObjectKey> = listed.iter().map(|(key, _)| key).collect();
        let vanished: Vec<ObjectKey> = self
            .objects
            .iter()
            .filter(|(key, value)| {
                key.group == resource.group
                    && key.kind == resource.kind
                    && scope.covers(key, value, &self.part_of)
                    && !present.contains(key)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in &vanished {
            self.objects.remove(key);
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
        let dead = self.deleted.get(&key).is_some_and(|deletion| version_of_value <= *deletion);
        if !older && !dead {
            self.objects.insert(key.clone(), value);
            self.deleted.remove(&key);
        }
        key
    }

    fn open(&mut self, resource: Resource, scope: Scope) {
        if !self.followed.insert((resource.clone(), scope.clone())) {
            return;
        }
        self.silent.insert((resource.clone(), scope.clone()));
        let mut params = WatchParams::default();
        match &scope {
            Scope::Ours => {
                params.list.label_selector = Some(format!("{}={}", applyset::PART_OF, self.part_of));
            }
            Scope::All => {}
            Scope::Namespace(namespace) => params.list.namespace = Some(namespace.clone()),
            Scope::Service(service) => {
                if let Some((namespace, name)) = service.split_once('/') {
                    params.list.namespace = Some(namespace.to_owned());
                    params.list.label_selector = Some(endpoints::selector(name));
                }
            }
        }
        let (cluster, sender) = (self.cluster.clone(), self.sender.clone());
        self.watches.spawn(async move {
            let mut events = cluster.watch(&resource, params);
            while let Some(event) = events.next().await {
                if sender.send((resource.clone(), scope.clone(), event)).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// The resourceVersion as a number. The API server's are, and grow (KEP-5504); where one is not, the
/// later news wins.
fn version(value: &Value) -> u64 {
    value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}
