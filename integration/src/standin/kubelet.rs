//! The kubelet and its scheduler: follows all pods and does the next thing about each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use trainerd_cluster::Cluster;
use trainerd_cluster::watch::{Event, WatchParams};

use super::pod::{self, Action};
use super::{Behaviour, Error, NODE, capacity, kinds, raw, read};

/// Pause before something that failed is tried again, and between looks for new room.
const AGAIN: Duration = Duration::from_millis(200);

pub(super) struct Kubelet {
    cluster: Cluster,
    address: IpAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    /// Pods that are on their way take as long as pods do now.
    restart_pods: Arc<Notify>,
    /// By uid, as last seen.
    pods: HashMap<String, Value>,
    /// What is being done, by uid.
    busy: HashMap<String, (Action, AbortHandle)>,
    acting: JoinSet<String>,
}

impl Kubelet {
    pub(super) fn new(
        cluster: Cluster,
        address: IpAddr,
        behaviour: Arc<Mutex<Behaviour>>,
        restart_pods: Arc<Notify>,
    ) -> Self {
        Self {
            cluster,
            address,
            restart_pods,
            behaviour,
            pods: HashMap::new(),
            busy: HashMap::new(),
            acting: JoinSet::new(),
        }
    }

    /// Works for ever.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut events = self.cluster.watch(&kinds::pod(), WatchParams::default());
        let mut again = tokio::time::interval(AGAIN);
        let restart_pods = Arc::clone(&self.restart_pods);
        loop {
            tokio::select! {
                Some(event) = events.next() => match event {
                    Ok(event) => self.observed(event),
                    Err(error) => tracing::warn!(%error, "the watch of pods goes on later"),
                },
                Some(Ok(uid)) = self.acting.join_next() => {
                    self.busy.remove(&uid);
                }
                // Whatever failed, found no room or changed while it was busy is looked at again here.
                _ = again.tick() => self.look_at_all(),
                () = restart_pods.notified() => self.restart_pods(),
            }
        }
    }

    fn observed(&mut self, event: Event) {
        match event {
            Event::Restarted(pods) => {
                self.pods = pods.items.into_iter().filter_map(|pod| Some((uid(&pod)?, pod))).collect();
                self.look_at_all();
            }
            Event::Applied(pod) => {
                if let Some(uid) = uid(&pod) {
                    self.pods.insert(uid.clone(), pod);
                    self.look_at(&uid);
                }
            }
            Event::Deleted(pod) => {
                if let Some(uid) = uid(&pod) {
                    self.pods.remove(&uid);
                    if let Some((_, task)) = self.busy.remove(&uid) {
                        task.abort();
                    }
                }
            }
            Event::Resumed => {}
        }
    }

    /// What runs towards readiness is begun again, as pods behave now.
    fn restart_pods(&mut self) {
        self.busy.retain(|_, (action, task)| {
            let is_on_its_way = *action == Action::Run;
            if is_on_its_way {
                task.abort();
            }
            !is_on_its_way
        });
    }

    fn look_at_all(&mut self) {
        for uid in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.look_at(&uid);
        }
    }

    fn look_at(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        let behaviour = read(&self.behaviour);
        let Some(action) = pod::decide(pod, behaviour.cpu_millis.saturating_sub(self.taken(uid))) else {
            return;
        };
        match self.busy.get(uid) {
            // A pod that is let go is not waited for.
            Some((Action::Run, task)) if action == Action::Finalise => task.abort(),
            Some(_) => return,
            None => {}
        }
        let (cluster, pod, address) = (self.cluster.clone(), pod.clone(), self.address);
        let delay = between(behaviour.delay);
        let uid = uid.to_owned();
        let task = {
            let uid = uid.clone();
            self.acting.spawn(async move {
                if let Err(error) = act(&cluster, action, &pod, address, delay).await {
                    tracing::warn!(%error, pod = %pod["metadata"]["name"], ?action, "tried again soon");
                }
                uid
            })
        };
        self.busy.insert(uid, (action, task));
    }

    /// What the other pods take, with those that are just being bound.
    fn taken(&self, uid: &str) -> u64 {
        let bound = |uid: &str, pod: &Value| {
            pod::uses_capacity(pod) || matches!(self.busy.get(uid), Some((Action::Bind, _)))
        };
        let others = self.pods.iter().filter(|(other, pod)| *other != uid && bound(other, pod));
        others.map(|(_, pod)| capacity::requested_millis(pod)).sum()
    }
}

async fn act(
    cluster: &Cluster,
    action: Action,
    pod: &Value,
    address: IpAddr,
    delay: Duration,
) -> Result<(), Error> {
    let (name, namespace) = (text(pod, "name"), text(pod, "namespace"));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let now = || Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let metadata = json!({"uid": pod["metadata"]["uid"]});
    let (what, done) = match action {
        Action::Bind => {
            let mut metadata = metadata;
            metadata["name"] = json!(name);
            metadata["namespace"] = json!(namespace);
            let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata,
                                 "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
            ("bind a pod", raw::bind(cluster, &path, &binding).await)
        }
        Action::SayNoRoom => {
            let report = json!({"metadata": metadata, "status": pod::unschedulable_status(&now())});
            ("say that there is no room", raw::patch_status(cluster, &path, &report).await)
        }
        Action::Run => {
            tokio::time::sleep(delay).await;
            let report = json!({"metadata": metadata, "status": pod::running_status(pod, address, &now())});
            ("report a pod's status", raw::patch_status(cluster, &path, &report).await)
        }
        Action::Finalise => ("let a pod go", raw::delete_at_once(cluster, &path, &metadata).await),
    };
    match done {
        Ok(()) => Ok(()),
        Err(error) if raw::is_gone(&error) => Ok(()),
        Err(source) => Err(Error::Subresource { action: what, source: Box::new(source) }),
    }
}

fn uid(pod: &Value) -> Option<String> {
    pod["metadata"]["uid"].as_str().map(str::to_owned)
}

fn text<'a>(pod: &'a Value, field: &str) -> &'a str {
    pod["metadata"][field].as_str().unwrap_or_default()
}

fn between((least, greatest): (Duration, Duration)) -> Duration {
    least + greatest.saturating_sub(least).mul_f64(fastrand::f64())
}
