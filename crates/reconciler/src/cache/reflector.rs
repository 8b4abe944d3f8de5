//! The watch that keeps a store up to date.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, ListParams, RequestError};
use trainerd_object::Resource;

use super::store::{Change, Store};

/// Time between looks for a kind that is not served, or that we may not see.
const ABSENT: Duration = Duration::from_secs(30);

/// What is kept of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All but its `managedFields`.
    Whole,
    /// `apiVersion`, `kind` and `metadata`, which is all that is asked for.
    Metadata,
}

/// Keeps a store up to date.
pub(crate) struct Reflector {
    pub(crate) cluster: Cluster,
    pub(crate) resource: Resource,
    pub(crate) kept: Kept,
    /// Which objects are kept; a pure function of the object.
    pub(crate) wanted: fn(&Value) -> bool,
    /// Whether the kind may be absent, and what is to be said then.
    pub(crate) optional: Option<&'static str>,
    pub(crate) store: Store,
}

impl Reflector {
    /// Watches until it is dropped, and tells of each change.
    ///
    /// A kind that may be absent, or that may not be seen, is looked for again every 30 s: whoever installs its CRD later
    /// need not restart us.
    pub(crate) async fn run(self, mut tell: impl FnMut(&Change) + Send) {
        let mut complained = false;
        loop {
            let list = ListParams { metadata_only: self.kept == Kept::Metadata, ..ListParams::default() };
            let mut events = self.cluster.watch(&self.resource, WatchParams { list, resource_version: None });
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        complained = false;
                        self.take(event, &mut tell);
                    }
                    Err(error) => {
                        let absent = matches!(
                            error,
                            RequestError::NotServed { .. }
                                | RequestError::NotFound { .. }
                                | RequestError::Forbidden { .. }
                        );
                        if !std::mem::replace(&mut complained, true) {
                            self.complain(&error, absent);
                        }
                        if absent && self.optional.is_some() {
                            self.store.give_up();
                            break;
                        }
                    }
                }
            }
            tokio::time::sleep(ABSENT).await;
        }
    }

    fn complain(&self, error: &RequestError, absent: bool) {
        let kind = &self.resource.kind;
        let group = &self.resource.group;
        match (self.optional, absent) {
            (Some(text), true) => tracing::info!(%error, group, kind, "{text}"),
            (None, true) => {
                tracing::error!(%error, group, kind, "{kind} CRDs must be installed in advance");
            }
            _ => tracing::warn!(%error, group, kind, "a watch is interrupted"),
        }
    }

    fn take(&self, event: Event, tell: &mut impl FnMut(&Change)) {
        match event {
            Event::Restarted(list) => {
                let objects: Vec<Value> =
                    list.items.into_iter().filter(|object| (self.wanted)(object)).map(trim).collect();
                self.store.replace(&objects).iter().for_each(tell);
            }
            Event::Applied(object) if (self.wanted)(&object) => {
                if let Some(change) = self.store.take(&trim(object)) {
                    tell(&change);
                }
            }
            // Of an object that is no longer wanted, as of one that is gone.
            Event::Applied(object) | Event::Deleted(object) => {
                if let Some(change) = self.store.remove(&object) {
                    tell(&change);
                }
            }
            Event::Resumed => {}
        }
    }
}

/// Takes away what nobody reads and makes up half of an object.
pub(crate) fn trim(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}
