//! The TrainJobs of the cluster: which of them run, which do not, and why.
//!
//! Upstream's controller gives a TrainJob no condition while it runs, so what keeps one is read from its pods.

mod detail;
pub(crate) mod jobs;
pub(crate) mod on_demand;
mod pod;
mod reason;
mod state;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use trainerd_cluster::{Cluster, ListParams, RequestError, builtin};
use trainerd_plan::object::kinds;

pub(crate) use detail::{Detail, PodDetail, detail};
use pod::{NodesDown, Pod};
pub(crate) use reason::Reason;
use state::{Job, Seen};
pub(crate) use state::{Phase, TrainJob};
pub(crate) use watched::{Change, Watched, WatchedPods};

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
    /// How many wait, or fail, for each reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reasons: BTreeMap<Reason, usize>,
    /// Since when the first of those that wait, or fail, does so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting_since: Option<Timestamp>,
    /// What those that run report, in percent, by namespace and name; no more than [`MOST`].
    #[serde(skip)]
    pub(crate) progress: Vec<(String, String, u64)>,
    /// Those that are not complete, by phase, namespace and name, no more than [`MOST`].
    pub(crate) unfinished: Vec<TrainJob>,
}

/// TrainJobs as they were listed for several who asked; nothing where the kind is not served, or why they could not be.
pub(crate) type Listed = Arc<Result<Option<TrainJobs>, String>>;

/// Namespace and name of a TrainJob.
type Key = (String, String);

/// Lists the TrainJobs, and the pods of those that are not complete. Nothing where the kind is not served.
///
/// # Errors
/// What the API server refused: to list TrainJobs, pods or nodes.
pub(crate) async fn list(cluster: &Cluster) -> Result<Option<TrainJobs>, RequestError> {
    let mut jobs: BTreeMap<Key, Seen> = BTreeMap::new();
    let mut complete = 0;
    let each = |job: Value| {
        let kept = Job::of(&job);
        if kept.is_complete {
            complete += 1;
        } else {
            jobs.insert(key(&job), Seen::of(kept));
        }
    };
    match cluster.for_each(&kinds::train_job(), &ListParams::default(), PAGE, each).await {
        Ok(_) => {}
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(error),
    }
    if !jobs.is_empty() {
        let mut down = NodesDown::new();
        let each = |node: Value| down.extend(pod::node_down(&node));
        cluster.for_each(&builtin::node(), &ListParams::default(), PAGE, each).await?;
        let each = |pod: Value| {
            if let Some(seen) = jobs.get_mut(&job_of(&pod)) {
                seen.pod(&Pod::of(&pod), &down);
            }
        };
        cluster.for_each(&builtin::pod(), &of_job_sets(), PAGE, each).await?;
    }
    Ok(Some(TrainJobs::of(complete, jobs)))
}

impl TrainJobs {
    /// What is reported of so many that are complete, and of the others.
    fn of(complete: usize, jobs: BTreeMap<Key, Seen>) -> Self {
        let mut all = Self::default();
        if complete > 0 {
            all.count.insert(Phase::Complete, complete);
        }
        let mut first: BTreeMap<Phase, Vec<TrainJob>> = BTreeMap::new();
        for ((namespace, name), seen) in jobs {
            let phase = seen.phase();
            *all.count.entry(phase).or_default() += 1;
            if let Some((reason, since)) = seen.wait() {
                *all.reasons.entry(reason).or_default() += 1;
                all.waiting_since = [all.waiting_since, since].into_iter().flatten().min();
            }
            if let Some(progress) = seen.progress().filter(|_| all.progress.len() < MOST) {
                all.progress.push((namespace.clone(), name.clone(), progress));
            }
            let first = first.entry(phase).or_default();
            if first.len() < MOST {
                first.push(seen.told(namespace, name));
            }
        }
        all.unfinished = first.into_values().flatten().take(MOST).collect();
        all
    }
}

fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// The TrainJob that a pod belongs to.
fn job_of(pod: &Value) -> Key {
    let (namespace, _) = key(pod);
    (namespace, pod["metadata"]["labels"][JOB_SET].as_str().unwrap_or_default().to_owned())
}

/// The pods of JobSets.
fn of_job_sets() -> ListParams {
    ListParams { label_selector: Some(JOB_SET.to_owned()), ..ListParams::default() }
}

/// The pods of one JobSet.
fn of_job_set(namespace: &str, name: &str) -> ListParams {
    ListParams {
        namespace: Some(namespace.to_owned()),
        label_selector: Some(format!("{JOB_SET}={name}")),
        ..ListParams::default()
    }
}
