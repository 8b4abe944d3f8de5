//! Snapshots of runtimes, read once.
//!
//! What a TrainJob was built from stays with it as a ConfigMap, which every pass reads. Of ConfigMaps only metadata is
//! watched, since a cluster has many that are none of ours; the content is read when there is another version of it, and
//! kept once for all TrainJobs that were built from the same.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use trainerd_cluster::{Cluster, RequestError, builtin};

use crate::cache::{Name, Store};

/// Snapshots by the name of their ConfigMap. Clones share them.
#[derive(Clone)]
pub(crate) struct Snapshots {
    cluster: Cluster,
    /// Metadata of ConfigMaps.
    metadata: Store,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// Version and `data` of each.
    by_name: HashMap<Name, (Arc<str>, Arc<str>)>,
    /// Each text once.
    texts: HashSet<Arc<str>>,
}

impl Snapshots {
    pub(crate) fn new(cluster: Cluster, metadata: Store) -> Self {
        Self { cluster, metadata, known: Arc::default() }
    }

    /// The snapshot's ConfigMap of a TrainJob; `None` where there is none.
    pub(crate) async fn of(&self, job: &Name) -> Result<Option<Value>, RequestError> {
        let name = of_job(job);
        let Some(stored) = self.metadata.stored(&name) else { return Ok(None) };
        if let Some(data) = self.known(&name, &stored.version) {
            let mut config_map = stored.read();
            config_map["data"] = serde_json::from_str(&data).unwrap_or_default();
            return Ok(Some(config_map));
        }
        let found = self.cluster.get_opt(&builtin::config_map(), Some(&name.namespace), &name.name).await?;
        if let Some(config_map) = &found {
            self.keep(config_map);
        }
        Ok(found)
    }

    /// Remembers a snapshot that was written or read.
    pub(crate) fn keep(&self, config_map: &Value) {
        let version =
            config_map.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        let text: Arc<str> = config_map["data"].to_string().into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let text = if let Some(same) = known.texts.get(&text) {
            Arc::clone(same)
        } else {
            known.texts.insert(Arc::clone(&text));
            text
        };
        known.by_name.insert(Name::of(config_map), (version.into(), text));
    }

    /// Forgets the snapshot of a TrainJob that is gone.
    pub(crate) fn forget(&self, job: &Name) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = known.by_name.remove(&of_job(job))
            && Arc::strong_count(&text) == 2
        {
            known.texts.remove(&text);
        }
    }

    fn known(&self, name: &Name, version: &str) -> Option<Arc<str>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, text) = known.by_name.get(name)?;
        (**seen == *version).then(|| Arc::clone(text))
    }
}

/// Name of a TrainJob's snapshot.
fn of_job(job: &Name) -> Name {
    Name::new(&job.namespace, &format!("{}-runtime-snapshot", job.name))
}
