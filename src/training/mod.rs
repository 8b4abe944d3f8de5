//! The TrainJobs of the cluster: which of them run, which do not, and why.
//!
//! Upstream's controller gives a TrainJob no condition while it runs, so what keeps one is read from its pods.

pub(crate) mod jobs;
pub(crate) mod on_demand;
mod pod;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use trainerd_cluster::{Cluster, ListParams, RequestError, builtin};
use trainerd_plan::object::kinds;

use state::Seen;
pub(crate) use state::{Phase, TrainJob};

/// Objects a page: a few MB as JSON values where each is large.
const PAGE: usize = 200;
/// TrainJobs that are told one by one; of more there is the number.
pub(crate) const MOST: usize = 50;
/// Label of a pod with the name of its JobSet, which is that of the TrainJob.
const JOB_SET: &str = "jobset.sigs.k8s.io/jobset-name";

/// The TrainJobs of all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrainJobs {
    /// How many are in each phase.
    pub(crate) count: BTreeMap<Phase, usize>,
    /// Those that are not complete, by phase, namespace and name, no more than [`MOST`].
    pub(crate) unfinished: Vec<TrainJob>,
}

/// TrainJobs as they were listed for several who asked; nothing where the kind is not served, or why they could not be.
pub(crate) type Listed = Arc<Result<Option<TrainJobs>, String>>;

/// Lists the TrainJobs, and the pods of those that are not complete. Nothing where the kind is not served.
///
/// # Errors
/// What the API server refused: to list TrainJobs, pods or nodes.
pub(crate) async fn list(cluster: &Cluster) -> Result<Option<TrainJobs>, RequestError> {
    let mut jobs: BTreeMap<(String, String), Seen> = BTreeMap::new();
    let mut complete = 0;
    let each = |job: Value| {
        if state::is_complete(&job) {
            complete += 1;
        } else {
            let text = |field: &str| job["metadata"][field].as_str().unwrap_or_default().to_owned();
            jobs.insert((text("namespace"), text("name")), Seen::of(&job));
        }
    };
    match cluster.for_each(&kinds::train_job(), &ListParams::default(), PAGE, each).await {
        Ok(_) => {}
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut count = BTreeMap::new();
    if complete > 0 {
        count.insert(Phase::Complete, complete);
    }
    if jobs.is_empty() {
        return Ok(Some(TrainJobs { count, unfinished: Vec::new() }));
    }

    let mut down = BTreeSet::new();
    let each = |node: Value| down.extend(pod::node_down(&node));
    cluster.for_each(&builtin::node(), &ListParams::default(), PAGE, each).await?;

    let selected = ListParams { label_selector: Some(JOB_SET.to_owned()), ..ListParams::default() };
    let each = |pod: Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["labels"][JOB_SET]));
        if let Some(seen) = jobs.get_mut(&key) {
            seen.pod(&pod, &down);
        }
    };
    cluster.for_each(&builtin::pod(), &selected, PAGE, each).await?;

    let mut first: BTreeMap<Phase, Vec<TrainJob>> = BTreeMap::new();
    for ((namespace, name), seen) in jobs {
        let phase = seen.phase();
        *count.entry(phase).or_default() += 1;
        let first = first.entry(phase).or_default();
        if first.len() < MOST {
            first.push(seen.told(namespace, name));
        }
    }
    let unfinished = first.into_values().flatten().take(MOST).collect();
    Ok(Some(TrainJobs { count, unfinished }))
}
