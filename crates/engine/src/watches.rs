//! The watches of a run or of a follower: opened once a kind and scope, distinguished by these.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, RequestError, endpoints};
use trainerd_plan::applyset;
use trainerd_plan::desired::Installation;
use trainerd_plan::object::{ObjectKey, Resource};

use crate::store::RECORD;

/// Events that may queue up between two looks; a watch that runs ahead waits.
const QUEUE: usize = 256;

/// Which objects of a kind a watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Those of the installation.
    Ours,
    /// All.
    All,
    /// Those in a namespace.
    Namespace(String),
    /// The EndpointSlices of Services of a namespace.
    Services(String, BTreeSet<String>),
    /// One, by namespace and name.
    One(Option<String>, String),
    /// The Secrets with an installation's state and control: its record and its markers.
    Record { namespace: String, installation: String },
}

impl Scope {
    /// The EndpointSlices of Services given as `namespace/name`: one scope a namespace.
    pub(crate) fn services<'s>(services: impl IntoIterator<Item = &'s str>) -> Vec<Self> {
        let mut places: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (namespace, name) in services.into_iter().filter_map(|service| service.split_once('/')) {
            places.entry(namespace).or_default().insert(name.to_owned());
        }
        places.into_iter().map(|(namespace, names)| Self::Services(namespace.to_owned(), names)).collect()
    }

    /// Whether an object is in the scope of a watch.
    pub(crate) fn covers(&self, key: &ObjectKey, value: &Value, part_of: &str) -> bool {
        match self {
            Self::Ours => applyset::label(value, applyset::PART_OF) == Some(part_of),
            Self::All => true,
            Self::Namespace(namespace) => key.namespace.as_ref() == Some(namespace),
            Self::Services(namespace, names) => {
                key.namespace.as_ref() == Some(namespace)
                    && endpoints::service_of(value).is_some_and(|name| names.contains(name))
            }
            Self::One(namespace, name) => key.namespace == *namespace && key.name == *name,
            Self::Record { namespace, installation } => {
                key.namespace.as_ref() == Some(namespace)
                    && applyset::label(value, applyset::INSTALLATION) == Some(installation)
                    && applyset::label(value, RECORD).is_some()
            }
        }
    }
}

/// What a watch reported.
pub(crate) struct WatchMessage {
    pub(crate) resource: Resource,
    pub(crate) scope: Scope,
    pub(crate) event: Result<Event, RequestError>,
}

/// Open watches. Dropped, they end.
pub(crate) struct Watches {
    cluster: Cluster,
    /// The ApplySet id.
    part_of: String,
    open: BTreeMap<(Resource, Scope), AbortHandle>,
    /// Watches that have not reported anything yet.
    silent: BTreeSet<(Resource, Scope)>,
    sender: mpsc::Sender<WatchMessage>,
    messages: mpsc::Receiver<WatchMessage>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// None open.
    pub(crate) fn new(cluster: &Cluster, installation: &Installation) -> Self {
        let (sender, messages) = mpsc::channel(QUEUE);
        Self {
            cluster: cluster.clone(),
            part_of: applyset::id(installation),
            open: BTreeMap::new(),
            silent: BTreeSet::new(),
            sender,
            messages,
            tasks: JoinSet::new(),
        }
    }

    /// The ApplySet id of the installation.
    pub(crate) fn part_of(&self) -> &str {
        &self.part_of
    }

    /// Opens a watch unless it is open; `metadata_only`: without what the objects hold.
    pub(crate) fn open(&mut self, resource: &Resource, scope: Scope, metadata_only: bool) {
        self.open_from(resource, scope, metadata_only, None);
    }

    /// As [`Self::open`], from a list at that resourceVersion, which is not asked for again.
    pub(crate) fn open_from(
        &mut self,
        resource: &Resource,
        scope: Scope,
        metadata_only: bool,
        listed: Option<String>,
    ) {
        let place = (resource.clone(), scope);
        if self.open.contains_key(&place) {
            return;
        }
        if listed.is_none() {
            self.silent.insert(place.clone());
        }
        let mut params = WatchParams { resource_version: listed, ..WatchParams::default() };
        params.list.metadata_only = metadata_only;
        match &place.1 {
            Scope::Ours => {
                params.list.label_selector = Some(format!("{}={}", applyset::PART_OF, self.part_of));
            }
            Scope::All => {}
            Scope::Namespace(namespace) => params.list.namespace = Some(namespace.clone()),
            Scope::Services(namespace, names) => {
                params.list.namespace = Some(namespace.clone());
                params.list.label_selector = Some(endpoints::selector(names.iter().map(String::as_str)));
            }
            Scope::One(namespace, name) => {
                params.list.namespace.clone_from(namespace);
                params.list.field_selector = Some(format!("metadata.name={name}"));
            }
            Scope::Record { namespace, installation } => {
                params.list.namespace = Some(namespace.clone());
                let ours = applyset::INSTALLATION;
                params.list.label_selector =
                    Some(format!("{ours}={installation},{RECORD} in (record,paused,ruler)"));
            }
        }
        let (cluster, sender) = (self.cluster.clone(), self.sender.clone());
        let (resource, scope) = place.clone();
        let task = self.tasks.spawn(async move {
            let mut events = cluster.watch(&resource, params);
            while let Some(event) = events.next().await {
                let message = WatchMessage { resource: resource.clone(), scope: scope.clone(), event };
                if sender.send(message).await.is_err() {
                    break;
                }
            }
        });
        self.open.insert(place, task);
    }

    /// Ends a watch. Earlier events may still arrive.
    pub(crate) fn close(&mut self, resource: &Resource, scope: &Scope) {
        let place = (resource.clone(), scope.clone());
        self.silent.remove(&place);
        if let Some(task) = self.open.remove(&place) {
            task.abort();
        }
    }

    /// The watches that are open.
    pub(crate) fn places(&self) -> impl Iterator<Item = &(Resource, Scope)> {
        self.open.keys()
    }

    /// Whether every watch has reported something: what there is, or that it cannot be had.
    pub(crate) fn is_current(&self) -> bool {
        self.silent.is_empty()
    }

    /// As [`Self::is_current`], whatever is known of one place.
    pub(crate) fn is_current_beside(&self, place: &(Resource, Scope)) -> bool {
        self.silent.iter().all(|silent| silent == place)
    }

    /// The next event, if there is one already.
    pub(crate) fn try_next(&mut self) -> Option<WatchMessage> {
        loop {
            let message = self.messages.try_recv().ok()?;
            let place = (message.resource.clone(), message.scope.clone());
            if self.open.contains_key(&place) {
                self.silent.remove(&place);
                return Some(message);
            }
        }
    }

    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn next(&mut self) -> WatchMessage {
        loop {
            let message = tokio::select! {
                message = self.messages.recv() => message,
                // Tasks that were ended are released.
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    pass_on_panic(ended);
                    continue;
                }
            };
            // The sender in this struct keeps the channel open: without a watch, this waits for ever.
            let Some(message) = message else { return std::future::pending().await };
            let place = (message.resource.clone(), message.scope.clone());
            if self.open.contains_key(&place) {
                self.silent.remove(&place);
                return message;
            }
        }
    }
}

/// A watch that panicked would be silent for ever, so its panic is passed on.
fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(cause) = error.try_into_panic()
    {
        std::panic::resume_unwind(cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_that_panicked_is_not_waited_for() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async { panic!("the cause") });
        let ended = tasks.join_next().await.unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pass_on_panic(ended)));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"the cause"));
        // One that was ended on purpose is no panic.
        let aborted = tasks.spawn(std::future::pending());
        aborted.abort();
        pass_on_panic(tasks.join_next().await.unwrap());
    }
}
