//! One TrainJob and its pods, one by one.

use std::collections::BTreeSet;

use serde_json::Value;
use trainerd_cluster::{Cluster, RequestError, builtin};

use super::pod::{self, NodesDown, Pod};
use super::state::{Job, Seen, TrainJob};
use super::{key, of_job_set};

/// What is reported of one TrainJob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) job: TrainJob,
    /// In the order of their names.
    pub(crate) pods: Vec<PodDetail>,
}

/// What is reported of one of its pods.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PodDetail {
    pub(crate) name: String,
    /// Nothing where it has none yet.
    pub(crate) node: String,
    /// It runs, or has done its part.
    pub(crate) is_ready: bool,
    /// How often its containers were started again, and how the one before ended.
    pub(crate) restarts: (u64, Option<String>),
    /// What keeps it from running.
    pub(crate) why: Option<String>,
}

/// Looks at the pods of a TrainJob as it is stored.
///
/// # Errors
/// What the API server refused: to list the pods of its namespace. Who may not read nodes is told what the pods say.
pub(crate) async fn detail(cluster: &Cluster, job: &Value) -> Result<Detail, RequestError> {
    let (namespace, name) = key(job);
    let mut found: Vec<Pod> = cluster
        .list(&builtin::pod(), &of_job_set(&namespace, &name))
        .await?
        .items
        .iter()
        .map(Pod::of)
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    let mut down = NodesDown::new();
    let names: BTreeSet<&str> =
        found.iter().map(|pod| pod.node.as_str()).filter(|node| !node.is_empty()).collect();
    for node in names {
        match cluster.get(&builtin::node(), None, node).await {
            Ok(node) => down.extend(pod::node_down(&node)),
            Err(RequestError::Forbidden { .. }) => break,
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    let mut seen = Seen::of(Job::of(job));
    for pod in &found {
        seen.pod(pod, &down);
    }
    let pods = found.into_iter().map(|pod| PodDetail {
        why: pod.trouble(&down).map(|(trouble, _)| trouble.why),
        restarts: (pod.restarts, pod.last_end),
        name: pod.name,
        node: pod.node,
        is_ready: pod.is_ready,
    });
    Ok(Detail { pods: pods.collect(), job: seen.told(namespace, name) })
}
