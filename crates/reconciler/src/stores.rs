//! What a manager knows of the cluster.

use serde_json::Value;
use tokio::task::JoinSet;
use trainerd_cluster::Cluster;
use trainerd_object::Resource;

use crate::cache::{Change, Kept, Name, Reflector, Store};
use crate::kinds;

/// Caches, by kind.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) train_jobs: Store,
    /// Empty where nobody reconciles them.
    pub(crate) optimization_jobs: Store,
    pub(crate) training_runtimes: Store,
    pub(crate) cluster_training_runtimes: Store,
    /// As [`crate::cache::strip_job_set`] leaves them.
    pub(crate) job_sets: Store,
    /// Metadata of those that a TrainJob owns, or whose name says that it should.
    pub(crate) config_maps: Store,
    /// The same of Secrets.
    pub(crate) secrets: Store,
    /// Metadata of scheduler-plugins' PodGroups.
    pub(crate) coscheduling_pod_groups: Store,
    /// Metadata of Volcano's PodGroups.
    pub(crate) volcano_pod_groups: Store,
    /// Metadata of LimitRanges, which bound what a gang asks for.
    pub(crate) limit_ranges: Store,
    /// Metadata of RuntimeClasses, which add to it.
    pub(crate) runtime_classes: Store,
}

/// Which cache something changed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    TrainJob,
    OptimizationJob,
    TrainingRuntime,
    ClusterTrainingRuntime,
    /// Something that a TrainJob may own.
    Owned,
    LimitRange,
    RuntimeClass,
}

const POD_GROUPS: &str = "PodGroup CRDs must be installed in advance";
const NO_OPTIMIZATION: &str = "OptimizationJobs cannot be watched; there are none to reconcile";
const NO_ACCESS: &str = "the kind cannot be watched; what depends on it is left out";

impl Stores {
    pub(crate) fn new() -> Self {
        Self {
            train_jobs: Store::new(),
            optimization_jobs: Store::new(),
            training_runtimes: Store::new(),
            cluster_training_runtimes: Store::new(),
            job_sets: Store::new(),
            config_maps: Store::new(),
            secrets: Store::new(),
            coscheduling_pod_groups: Store::new(),
            volcano_pod_groups: Store::new(),
            limit_ranges: Store::new(),
            runtime_classes: Store::new(),
        }
    }

    /// Starts keeping all of them up to date, OptimizationJobs where they are `optimized`; `tell` hears of every change.
    pub(crate) fn keep(
        &self,
        cluster: &Cluster,
        optimized: bool,
        tasks: &mut JoinSet<()>,
        tell: impl Fn(Source, &Change) + Clone + Send + Sync + 'static,
    ) {
        let mut start = |resource: Resource, kept, wanted, optional, store: &Store, source| {
            let (cluster, store, tell) = (cluster.clone(), store.clone(), tell.clone());
            let reflector = Reflector { cluster, resource, kept, wanted, optional, store };
            tasks.spawn(reflector.run(move |change: &Change| tell(source, change)));
        };
        let any: fn(&Value) -> bool = |_| true;
        let (whole, metadata) = (Kept::Whole, Kept::Metadata);
        start(kinds::train_job(), whole, any, None, &self.train_jobs, Source::TrainJob);
        if optimized {
            let (jobs, store) = (kinds::optimization_job(), &self.optimization_jobs);
            start(jobs, whole, any, Some(NO_OPTIMIZATION), store, Source::OptimizationJob);
        } else {
            self.optimization_jobs.give_up();
        }
        start(kinds::training_runtime(), whole, any, None, &self.training_runtimes, Source::TrainingRuntime);
        let runtimes = &self.cluster_training_runtimes;
        start(kinds::cluster_training_runtime(), whole, any, None, runtimes, Source::ClusterTrainingRuntime);
        start(kinds::job_set(), Kept::Lean, any, None, &self.job_sets, Source::Owned);
        let config_map = trainerd_cluster::builtin::config_map();
        start(config_map, metadata, is_ours, None, &self.config_maps, Source::Owned);
        start(trainerd_cluster::builtin::secret(), metadata, is_ours, None, &self.secrets, Source::Owned);
        let (coscheduling, volcano) = (kinds::coscheduling_pod_group(), kinds::volcano_pod_group());
        start(coscheduling, metadata, any, Some(POD_GROUPS), &self.coscheduling_pod_groups, Source::Owned);
        start(volcano, metadata, any, Some(POD_GROUPS), &self.volcano_pod_groups, Source::Owned);
        let (limits, classes) = (kinds::limit_range(), kinds::runtime_class());
        start(limits, metadata, any, Some(NO_ACCESS), &self.limit_ranges, Source::LimitRange);
        start(classes, metadata, any, Some(NO_ACCESS), &self.runtime_classes, Source::RuntimeClass);
    }

    /// Waits until it is known what there is of every kind.
    pub(crate) async fn synced(&self) {
        for store in [
            &self.train_jobs,
            &self.optimization_jobs,
            &self.training_runtimes,
            &self.cluster_training_runtimes,
            &self.job_sets,
            &self.config_maps,
            &self.secrets,
            &self.coscheduling_pod_groups,
            &self.volcano_pod_groups,
        ] {
            store.synced().await;
        }
    }
}

/// Names of what a TrainJob may own, besides its own.
const SUFFIXES: [&str; 6] =
    ["-runtime-snapshot", "-mpi-ssh-auth", "-mpi-hostfile", "-flux-entrypoint", "-flux-curve", "-tls-config"];

/// Whether an object is a TrainJob's, or stands in the way of one that would be.
fn is_ours(object: &Value) -> bool {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    owner(object).is_some() || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// The TrainJob that controls an object.
pub(crate) fn owner(object: &Value) -> Option<Name> {
    controller_of("TrainJob", object)
}

/// The OptimizationJob that a TrainJob is a trial of.
pub(crate) fn optimizer(train_job: &Value) -> Option<Name> {
    controller_of("OptimizationJob", train_job)
}

/// What controls an object, where it is of that kind of ours.
fn controller_of(kind: &str, object: &Value) -> Option<Name> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let group = owner["apiVersion"].as_str()?.split_once('/')?.0;
    if owner["kind"] != kind || group != kinds::TRAINER {
        return None;
    }
    let namespace = object.pointer("/metadata/namespace")?.as_str()?;
    Some(Name::new(namespace, owner["name"].as_str()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_controlling_train_job_is_the_owner() {
        let reference = |kind: &str, controller: bool| json!({"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": kind, "name": "a", "controller": controller});
        let object =
            |owners: Value| json!({"metadata": {"namespace": "ns", "name": "x", "ownerReferences": owners}});
        assert_eq!(owner(&object(json!([reference("TrainJob", true)]))), Some(Name::new("ns", "a")));
        for owners in
            [json!([]), json!([reference("TrainJob", false)]), json!([reference("OptimizationJob", true)])]
        {
            assert_eq!(owner(&object(owners.clone())), None, "{owners}");
        }
        let trial = object(json!([reference("OptimizationJob", true)]));
        assert_eq!(optimizer(&trial), Some(Name::new("ns", "a")));
        assert!(is_ours(&json!({"metadata": {"name": "a-mpi-ssh-auth"}})));
        assert!(!is_ours(&json!({"metadata": {"name": "kube-root-ca.crt"}})));
    }
}
