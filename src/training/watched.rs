//! The TrainJobs as watches tell of them: nothing is asked while nothing changes.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, ListParams, RequestError, builtin};
use trainerd_plan::object::kinds;

use super::pod::{self, NodesDown, Pod};
use super::state::{Job, Seen};
use super::{Key, TrainJobs, job_of, key, of_job_set, of_job_sets};

type Events = BoxStream<'static, Result<Event, RequestError>>;

/// Follows the TrainJobs of all namespaces, their pods and the nodes. What is kept of each is a few words.
pub(crate) struct Watched {
    job_events: Events,
    pod_events: Events,
    node_events: Events,
    jobs: Option<BTreeMap<Key, Job>>,
    /// By namespace and name, with the TrainJob of each.
    pods: Option<BTreeMap<Key, (Key, Pod)>>,
    down: Option<NodesDown>,
}

/// What came of waiting for a change.
#[derive(Debug)]
pub(crate) enum Change {
    /// What is reported of TrainJobs may be another than before.
    Updated,
    /// A watch is interrupted; it continues by itself.
    Interrupted(RequestError),
    /// They cannot be watched.
    Impossible(RequestError),
}

impl Change {
    fn of(taken: Result<(), RequestError>) -> Self {
        match taken {
            Ok(()) => Self::Updated,
            Err(
                error @ (RequestError::NotServed { .. }
                | RequestError::Forbidden { .. }
                | RequestError::Unauthorized { .. }),
            ) => Self::Impossible(error),
            Err(error) => Self::Interrupted(error),
        }
    }
}

impl Watched {
    /// Begins to watch.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let watch = |resource, list| cluster.watch(&resource, WatchParams { list, resource_version: None });
        Self {
            job_events: watch(kinds::train_job(), ListParams::default()),
            pod_events: watch(builtin::pod(), of_job_sets()),
            node_events: watch(builtin::node(), ListParams::default()),
            jobs: None,
            pods: None,
            down: None,
        }
    }

    /// Waits for the next change. Nothing is lost where it is not awaited to its end.
    pub(crate) async fn changed(&mut self) -> Change {
        let taken = tokio::select! {
            Some(event) = self.job_events.next() => {
                event.map(|event| take(&mut self.jobs, event, Job::of))
            }
            Some(event) = self.pod_events.next() => {
                event.map(|event| take(&mut self.pods, event, |pod| (job_of(pod), Pod::of(pod))))
            }
            Some(event) = self.node_events.next() => {
                event.map(|event| take_node(&mut self.down, event))
            }
            else => std::future::pending().await,
        };
        Change::of(taken)
    }

    /// How they are; nothing until all was seen once.
    pub(crate) fn now(&self) -> Option<TrainJobs> {
        let (jobs, pods, down) = (self.jobs.as_ref()?, self.pods.as_ref()?, self.down.as_ref()?);
        let (complete, unfinished): (Vec<_>, Vec<_>) = jobs.iter().partition(|(_, job)| job.is_complete);
        let mut unfinished: BTreeMap<Key, Seen> =
            unfinished.into_iter().map(|(key, job)| (key.clone(), Seen::of(job.clone()))).collect();
        for (job, pod) in pods.values() {
            if let Some(seen) = unfinished.get_mut(job) {
                seen.pod(pod, down);
            }
        }
        Some(TrainJobs::of(complete.len(), unfinished))
    }
}

/// Follows the pods of one TrainJob.
pub(crate) struct WatchedPods {
    events: Events,
    pods: Option<BTreeMap<Key, Pod>>,
}

impl WatchedPods {
    /// Begins to watch.
    pub(crate) fn new(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        let list = of_job_set(namespace, name);
        let events = cluster.watch(&builtin::pod(), WatchParams { list, resource_version: None });
        Self { events, pods: None }
    }

    /// Waits for the next change. Nothing is lost where it is not awaited to its end.
    pub(crate) async fn changed(&mut self) -> Change {
        match self.events.next().await {
            Some(event) => Change::of(event.map(|event| take(&mut self.pods, event, Pod::of))),
            None => std::future::pending().await,
        }
    }

    /// What keeps a pod of the TrainJob from running, by what the pods say; nothing while they start.
    pub(crate) fn why(&self, job: &Value) -> Option<String> {
        let mut seen = Seen::of(Job::of(job));
        for pod in self.pods.iter().flat_map(BTreeMap::values) {
            seen.pod(pod, &NodesDown::new());
        }
        seen.trouble()
    }
}

/// Takes an event into what is known of a kind.
fn take<T>(known: &mut Option<BTreeMap<Key, T>>, event: Event, kept: impl Fn(&Value) -> T) {
    match event {
        Event::Restarted(list) => {
            *known = Some(list.items.iter().map(|object| (key(object), kept(object))).collect());
        }
        Event::Applied(object) => {
            known.get_or_insert_default().insert(key(&object), kept(&object));
        }
        Event::Deleted(object) => {
            known.get_or_insert_default().remove(&key(&object));
        }
        Event::Resumed => {}
    }
}

/// Takes an event about a node: only those that are down are kept.
fn take_node(down: &mut Option<NodesDown>, event: Event) {
    match event {
        Event::Restarted(list) => *down = Some(list.items.iter().filter_map(pod::node_down).collect()),
        Event::Applied(node) => {
            let down = down.get_or_insert_default();
            down.remove(&key(&node).1);
            down.extend(pod::node_down(&node));
        }
        Event::Deleted(node) => {
            down.get_or_insert_default().remove(&key(&node).1);
        }
        Event::Resumed => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use trainerd_cluster::ObjectList;

    use super::super::{JOB_SET, Phase, Reason};
    use super::*;

    fn restarted(items: Vec<Value>) -> Event {
        Event::Restarted(ObjectList { items, ..ObjectList::default() })
    }

    #[test]
    fn watch_events_give_the_same_result_as_a_list() {
        let job = |name: &str, condition: &str| {
            json!({
                "metadata": {"namespace": "a", "name": name},
                "status": {"conditions": [{"type": condition, "status": "True"}]},
            })
        };
        let pod = json!({
            "metadata": {"namespace": "a", "name": "p", "labels": {JOB_SET: "runs"}},
            "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let node = |status: &str| json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
        let silent = || futures::stream::pending().boxed();
        let mut watched = Watched {
            job_events: silent(),
            pod_events: silent(),
            node_events: silent(),
            jobs: None,
            pods: None,
            down: None,
        };
        take(&mut watched.jobs, restarted(vec![job("over", "Complete"), job("runs", "Other")]), Job::of);
        take(&mut watched.pods, restarted(vec![pod]), |pod| (job_of(pod), Pod::of(pod)));
        assert_eq!(watched.now(), None, "the nodes were not seen yet");
        take_node(&mut watched.down, restarted(vec![node("True")]));
        let count = |watched: &Watched| watched.now().unwrap().count.into_iter().collect::<Vec<_>>();
        assert_eq!(count(&watched), [(Phase::Running, 1), (Phase::Complete, 1)]);
        take_node(&mut watched.down, Event::Applied(node("Unknown")));
        assert_eq!(
            watched.now().unwrap().reasons.into_iter().collect::<Vec<_>>(),
            [(Reason::NodeNotReady, 1)]
        );
        take_node(&mut watched.down, Event::Applied(node("True")));
        take(&mut watched.jobs, Event::Deleted(job("over", "Complete")), Job::of);
        assert_eq!(count(&watched), [(Phase::Running, 1)]);
        take(&mut watched.jobs, Event::Applied(job("runs", "Complete")), Job::of);
        assert_eq!(count(&watched), [(Phase::Complete, 1)]);
    }
}
