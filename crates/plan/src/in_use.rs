//! Objects that others use, and objects whose deletion is pending.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed};
use crate::order::{ObjectClass, object_class};

/// Finalizers of Kubernetes itself: an object without others is about to be deleted.
const PASSING: [&str; 4] =
    ["foregroundDeletion", "orphan", "kubernetes", "customresourcecleanup.apiextensions.k8s.io"];

/// An object whose deletion is pending: finalizers have not been removed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingDeletion {
    /// The object.
    pub object: ObjectKey,
    /// The finalizers that it waits for.
    pub finalizers: Vec<String>,
    /// The objects that use it, as far as that is known: the TrainJobs that name a training runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<ObjectKey>,
}

/// `ClusterTrainingRuntime torch is being deleted (finalizers a/b; used by TrainJob x/y)`.
impl fmt::Display for PendingDeletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is being deleted ({})", self.object, self.by())
    }
}

impl PendingDeletion {
    /// What holds it: `finalizers a/b; used by TrainJob x/y`.
    pub fn by(&self) -> String {
        let mut parts = Vec::new();
        if !self.finalizers.is_empty() {
            parts.push(format!("finalizers {}", self.finalizers.join(", ")));
        }
        if !self.users.is_empty() {
            parts.push(format!("used by {}", list(&self.users)));
        }
        parts.join("; ")
    }
}

/// Whether others may name objects of this kind: only then has to be looked up who uses them.
pub fn may_be_used(key: &ObjectKey) -> bool {
    key.group == "trainer.kubeflow.org"
        && matches!(key.kind.as_str(), "ClusterTrainingRuntime" | "TrainingRuntime")
}

/// The users of training runtimes among these TrainJobs, by runtime.
///
/// One that has finished uses its runtime no longer, unless a finalizer holds the runtime for as long as the TrainJob
/// is stored (Trainer 2.2: `trainer.kubeflow.org/resource-in-use`).
pub fn users(observed: &Observed, jobs: &[Value]) -> BTreeMap<ObjectKey, Vec<ObjectKey>> {
    let mut users: BTreeMap<ObjectKey, Vec<ObjectKey>> = BTreeMap::new();
    for job in jobs {
        let (Some(runtime), Some(user)) = (runtime_of(job), ObjectKey::of(job)) else { continue };
        let held = observed.objects.get(&runtime).is_some_and(|live| !live.finalizers().is_empty());
        if held || !is_finished(job) {
            users.entry(runtime).or_default().push(user);
        }
    }
    for users in users.values_mut() {
        users.sort();
    }
    users
}

/// The runtime that a TrainJob names; a cluster-wide one where it does not say which kind.
fn runtime_of(job: &Value) -> Option<ObjectKey> {
    let reference = &job["spec"]["runtimeRef"];
    let kind = reference["kind"].as_str().unwrap_or("ClusterTrainingRuntime");
    let namespace = job["metadata"]["namespace"].as_str().filter(|_| kind == "TrainingRuntime");
    Some(ObjectKey {
        group: "trainer.kubeflow.org".to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: reference["name"].as_str()?.to_owned(),
    })
}

fn is_finished(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        matches!(condition["type"].as_str(), Some("Complete" | "Failed")) && condition["status"] == "True"
    })
}

/// What holds an object of the cluster that is being deleted; `None` where it is not, or is about to be gone.
pub fn pending_deletion(observed: &Observed, key: &ObjectKey, live: &LiveObject) -> Option<PendingDeletion> {
    let mut finalizers = live.finalizers();
    finalizers.retain(|name| !PASSING.contains(&name.as_str()));
    (live.terminating() && object_class(key) != ObjectClass::Namespace && !finalizers.is_empty()).then(|| {
        PendingDeletion {
            object: key.clone(),
            finalizers,
            users: observed.users.get(key).cloned().unwrap_or_default(),
        }
    })
}

/// The first few of them, and how many more there are.
pub(crate) fn list(objects: &[ObjectKey]) -> String {
    const SHOWN: usize = 10;
    let text = objects.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if objects.len() > SHOWN { format!("{text} and {} more", objects.len() - SHOWN) } else { text }
}
