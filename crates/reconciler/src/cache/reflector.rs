//! The watch that keeps a store up to date.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, ListParams, RequestError};
use trainerd_object::Resource;

use super::store::{Change, Name, Store, Stored};

/// Time between looks for a kind that is not served, or that we may not see.
const ABSENT: Duration = Duration::from_secs(30);
/// Objects of a page of a list.
const PAGE: usize = 100;

/// What is kept of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// All but its `managedFields`.
    Whole,
    /// Of a JobSet that runs, what becomes of it: see [`strip_job_set`].
    Lean,
    /// `apiVersion`, `kind` and `metadata`, which is all that is asked for.
    Metadata,
}

impl Kept {
    fn of(self, object: Value) -> Value {
        if self == Self::Lean { strip_job_set(object) } else { trim(object) }
    }
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
    /// Lists, watches from there until it is dropped, and tells of each change.
    ///
    /// A kind that may be absent, or that may not be seen, is looked for again every 30 s: whoever installs its CRD later
    /// need not restart us.
    pub(crate) async fn run(self, mut tell: impl FnMut(&Change) + Send) {
        let (mut complained, mut backoff) = (false, Backoff::default());
        loop {
            let version = match self.list().await {
                Ok((version, found)) => {
                    backoff.reset();
                    complained = false;
                    self.store.replace(found).iter().for_each(&mut tell);
                    version
                }
                Err(error) if self.gives_up(&error, &mut complained) => {
                    tokio::time::sleep(ABSENT).await;
                    continue;
                }
                Err(error) => {
                    let asked = error.retry().and_then(|retry| retry.after);
                    tokio::time::sleep(asked.unwrap_or_default() + backoff.next_wait()).await;
                    continue;
                }
            };
            let params = WatchParams { list: self.params(), resource_version: Some(version) };
            let mut events = self.cluster.watch(&self.resource, params);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        complained = false;
                        self.take(event, &mut tell);
                    }
                    Err(error) if self.gives_up(&error, &mut complained) => break,
                    Err(_) => {}
                }
            }
            tokio::time::sleep(ABSENT).await;
        }
    }

    fn params(&self) -> ListParams {
        ListParams { metadata_only: self.kept == Kept::Metadata, ..ListParams::default() }
    }

    /// What there is, a page at a time: as values, all of it would take many times what is kept.
    async fn list(&self) -> Result<(String, HashMap<Name, Stored>), RequestError> {
        let mut found = HashMap::new();
        let each = |object: Value| {
            if (self.wanted)(&object) {
                let object = self.kept.of(object);
                found.insert(Name::of(&object), Stored::new(&object));
            }
        };
        let version = self.cluster.for_each(&self.resource, &self.params(), PAGE, each).await?;
        Ok((version, found))
    }

    /// Tells of an error, once, and whether there is nothing to be seen of a kind that may be absent.
    fn gives_up(&self, error: &RequestError, complained: &mut bool) -> bool {
        let absent = matches!(
            error,
            RequestError::NotServed { .. } | RequestError::NotFound { .. } | RequestError::Forbidden { .. }
        );
        if !std::mem::replace(complained, true) {
            self.complain(error, absent);
        }
        let gives_up = absent && self.optional.is_some();
        if gives_up {
            self.store.give_up();
        }
        gives_up
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
                let objects = list.items.into_iter().filter(|object| (self.wanted)(object));
                let objects = objects.map(|object| self.kept.of(object));
                let found = objects.map(|object| (Name::of(&object), Stored::new(&object))).collect();
                self.store.replace(found).iter().for_each(tell);
            }
            Event::Applied(object) if (self.wanted)(&object) => {
                if let Some(change) = self.store.take(&self.kept.of(object)) {
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

/// What is kept of a JobSet: while it runs, all but what its pods are made of. That does not change then, and is most of it;
/// what is suspended is kept as it is, for it is applied again.
pub(crate) fn strip_job_set(job_set: Value) -> Value {
    let mut job_set = trim(job_set);
    if job_set.pointer("/spec/suspend").is_some_and(|suspend| *suspend == true) {
        return job_set;
    }
    let jobs = job_set.pointer_mut("/spec/replicatedJobs").and_then(Value::as_array_mut);
    for job in jobs.into_iter().flatten() {
        if let Some(template) = job.get_mut("template").and_then(Value::as_object_mut) {
            template.remove("spec");
        }
    }
    job_set
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_of_a_suspended_job_set_stay_cached() {
        let job_set = |suspend: Value, template: Value| {
            json!({
                "metadata": {"name": "a"}, "status": {"restarts": 0},
                "spec": {"suspend": suspend, "replicatedJobs": [{"name": "node", "replicas": 1, "template": template}]},
            })
        };
        let whole = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"parallelism": 2}});
        let mut told = job_set(json!(false), whole.clone());
        told["metadata"]["managedFields"] = json!([{"manager": "trainer"}]);
        assert_eq!(strip_job_set(told), job_set(json!(false), json!({"metadata": {"labels": {"a": "b"}}})));
        assert_eq!(strip_job_set(job_set(json!(true), whole.clone())), job_set(json!(true), whole));
    }
}
