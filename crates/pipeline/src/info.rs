//! A TrainJob and its runtime brought together: the template with patches and resources merged in, and the sets of
//! pods that plugins work on.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::build::BuildError;
use crate::names::{ANCESTOR, NODE, TRAINER, name};
use crate::requests::{Resources, of_pod};
use crate::value::{Object, at, int32, is_true, items, object_mut, text, texts};
use crate::{BuildProfile, patches, wire};

/// What plugins read and change.
pub(crate) struct Info {
    /// Labels of the JobSet.
    pub(crate) labels: Object,
    /// Annotations of the JobSet.
    pub(crate) annotations: Object,
    /// Labels that every pod gets for its scheduler.
    pub(crate) pod_labels: BTreeMap<String, String>,
    /// Annotations that every pod gets for its scheduler.
    pub(crate) pod_annotations: BTreeMap<String, String>,
    /// The runtime's `mlPolicy`; null when it has none.
    pub(crate) ml_policy: Value,
    /// The runtime's `podGroupPolicy`; null when it has none.
    pub(crate) pod_group_policy: Value,
    /// The spec of the JobSet.
    pub(crate) template: Value,
    /// One for each replicated Job, in order.
    pub(crate) pod_sets: Vec<PodSet>,
    /// The TrainJob's `trainer`, as plugins leave it; null when it has none.
    pub(crate) trainer: Value,
    /// Processes of a node, as MPI decides.
    pub(crate) slots: i32,
    /// Whose content is built.
    pub(crate) profile: BuildProfile,
}

/// The pods of a replicated Job.
pub(crate) struct PodSet {
    pub(crate) name: String,
    pub(crate) ancestor: Option<String>,
    pub(crate) count: i32,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) containers: Vec<Container>,
    pub(crate) volumes: Vec<Value>,
    /// Of one pod.
    pub(crate) requests: Resources,
}

/// What plugins may change of a container.
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<Value>,
    pub(crate) ports: Vec<Value>,
    pub(crate) mounts: Vec<Value>,
}

impl Container {
    fn of(container: &Value) -> Self {
        Self {
            name: text(container, &["name"]).unwrap_or_default().to_owned(),
            image: text(container, &["image"]).unwrap_or_default().to_owned(),
            command: texts(container, &["command"]),
            env: items(container, &["env"]).to_vec(),
            ports: items(container, &["ports"]).to_vec(),
            mounts: items(container, &["volumeMounts"]).to_vec(),
        }
    }
}

/// Where the pod spec of a replicated Job is.
pub(crate) const POD_SPEC: [&str; 4] = ["template", "spec", "template", "spec"];

/// The ancestor label of a replicated Job.
pub(crate) fn ancestor(job: &Value) -> Option<&str> {
    text(job, &["template", "metadata", "labels", ANCESTOR])
}

impl Info {
    /// Merges patches and resources, without running any plugin.
    pub(crate) fn new(runtime: &Value, train_job: &Value, profile: BuildProfile) -> Result<Self, BuildError> {
        let ml_policy = at(runtime, &["spec", "mlPolicy"]).clone();
        let original = wire::normal("JobSetTemplateSpec", at(runtime, &["spec", "template"]));
        let trainer = at(train_job, &["spec", "trainer"]).clone();
        let patched = patches::merge(&original, train_job)?;
        let mut template = patched.spec;
        let mut pod_sets = Vec::new();
        if let Some(Value::Array(jobs)) = template.get_mut("replicatedJobs") {
            for job in jobs {
                merge_resources(job, &ml_policy, &trainer);
                pod_sets.push(PodSet::of(job, &ml_policy));
            }
        }
        Ok(Self {
            labels: patched.labels,
            annotations: patched.annotations,
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            slots: int32(&ml_policy, &["mpi", "numProcPerNode"]).unwrap_or(1),
            ml_policy,
            pod_group_policy: at(runtime, &["spec", "podGroupPolicy"]).clone(),
            template,
            pod_sets,
            trainer,
            profile,
        })
    }

    /// Whether the runtime names this framework.
    pub(crate) fn has_policy(&self, framework: &str) -> bool {
        at(&self.ml_policy, &[framework]).is_object()
    }

    /// Whether the TrainJob says anything about the trainer.
    pub(crate) fn has_trainer(&self) -> bool {
        self.trainer.is_object()
    }

    /// Whether what a framework needs is injected: upstream does so only when the TrainJob has a `trainer`.
    pub(crate) fn injects(&self) -> bool {
        self.has_trainer() || self.profile == BuildProfile::Extended
    }

    /// Whether MPI's launcher is a training node too.
    pub(crate) fn launcher_is_node(&self) -> bool {
        is_true(&self.ml_policy, &["mpi", "runLauncherAsNode"])
    }

    /// The set of pods of this name.
    pub(crate) fn pod_set(&mut self, name: &str) -> Option<&mut PodSet> {
        self.pod_sets.iter_mut().find(|set| set.name == name)
    }

    /// The set of training pods: the first that the label says is one.
    pub(crate) fn trainer_pod_set(&mut self) -> Option<&mut PodSet> {
        self.pod_sets.iter_mut().find(|set| set.ancestor.as_deref() == Some(TRAINER))
    }

    /// The training container.
    pub(crate) fn trainer_container(&mut self) -> Option<&mut Container> {
        self.trainer_pod_set()?.containers.iter_mut().find(|container| container.name == NODE)
    }

    /// The number of nodes that the TrainJob asks for.
    pub(crate) fn num_nodes(&self) -> Option<i32> {
        int32(&self.trainer, &["numNodes"])
    }

    /// Takes the number of nodes from the TrainJob, where it says one, and tells how many training pods there are.
    pub(crate) fn apply_num_nodes(&mut self) -> i32 {
        let asked = self.num_nodes();
        let Some(set) = self.trainer_pod_set() else { return 1 };
        set.count = asked.unwrap_or(set.count);
        set.count
    }

    /// Variables of the TrainJob's `trainer`.
    pub(crate) fn trainer_env(&self) -> Vec<Value> {
        let given = items(&self.trainer, &["env"]).iter();
        given.map(|one| crate::upsert::of_train_job(one, self.profile)).collect()
    }

    /// Resources of a node: those of the TrainJob, if it has any, instead of the runtime's.
    pub(crate) fn node_resources(&self) -> &Value {
        let asked = at(&self.trainer, &["resourcesPerNode"]);
        if asked.is_object() {
            return asked;
        }
        let jobs = items(&self.template, &["replicatedJobs"]).iter();
        let nodes = jobs.filter(|job| text(job, &["name"]) == Some(NODE) || ancestor(job) == Some(TRAINER));
        let mut containers = nodes.flat_map(|job| items(at(job, &POD_SPEC), &["containers"]));
        containers
            .find(|container| text(container, &["name"]) == Some(NODE))
            .map_or(&Value::Null, |container| at(container, &["resources"]))
    }

    /// GPUs of a node: requests, or limits where there are none. Where several resources look like GPUs, the first name
    /// counts; upstream takes any.
    pub(crate) fn gpus(&self) -> i64 {
        let resources = self.node_resources();
        let count = |kind: &str| {
            let named = at(resources, &[kind]).as_object().into_iter().flatten();
            let mut gpus: Vec<_> = named.filter(|(name, _)| name.to_lowercase().contains("gpu")).collect();
            gpus.sort_by_key(|(name, _)| *name);
            gpus.first()
                .and_then(|(_, amount)| trainerd_schema::Quantity::of(amount))
                .map_or(0, trainerd_schema::Quantity::ceil)
        };
        match count("requests") {
            0 => count("limits").max(0),
            requested => requested,
        }
    }

    /// CPUs of a node, rounded up: requests, or limits where there are none.
    pub(crate) fn cpus(&self) -> i64 {
        let amount = |kind: &str| trainerd_schema::Quantity::of(at(self.node_resources(), &[kind, "cpu"]));
        let requested = amount("requests").filter(|amount| !amount.is_zero());
        requested.or_else(|| amount("limits")).map_or(0, trainerd_schema::Quantity::ceil)
    }
}

impl PodSet {
    fn of(job: &Value, ml_policy: &Value) -> Self {
        let ancestor = ancestor(job);
        let count = if ancestor == Some(TRAINER) && ml_policy.is_object() {
            int32(ml_policy, &["numNodes"])
        } else {
            int32(job, &["template", "spec", "parallelism"])
        };
        let spec = at(job, &POD_SPEC);
        let containers = |list: &str| items(spec, &[list]).iter().map(Container::of).collect();
        Self {
            name: text(job, &["name"]).unwrap_or_default().to_owned(),
            ancestor: ancestor.map(str::to_owned),
            count: count.unwrap_or(1).max(1),
            init_containers: containers("initContainers"),
            containers: containers("containers"),
            volumes: items(spec, &["volumes"]).to_vec(),
            requests: of_pod(spec),
        }
    }

    /// The container of this name, init containers last.
    pub(crate) fn container(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().chain(&mut self.init_containers).find(|container| container.name == name)
    }
}

/// Lays the resources that the TrainJob asks for over those of the training container.
fn merge_resources(job: &mut Value, ml_policy: &Value, trainer: &Value) {
    let asked = at(trainer, &["resourcesPerNode"]);
    let is_trainer = ancestor(job) == Some(TRAINER) && ml_policy.is_object();
    let is_node = is_true(ml_policy, &["mpi", "runLauncherAsNode"]) && text(job, &["name"]) == Some(NODE);
    if !asked.is_object() || !(is_trainer || is_node) {
        return;
    }
    let Some(Value::Array(containers)) = object_mut(job, &POD_SPEC).get_mut("containers") else { return };
    let node = containers.iter_mut().find(|container| text(container, &["name"]) == Some(NODE));
    let Some(Value::Object(container)) = node else { return };
    let mut merged = Object::new();
    for kind in ["limits", "requests"] {
        let template = container.get("resources").map(|resources| at(resources, &[kind]));
        let mut amounts = template.and_then(Value::as_object).cloned().unwrap_or_default();
        amounts.extend(at(asked, &[kind]).as_object().cloned().unwrap_or_default());
        if !amounts.is_empty() {
            merged.insert(kind.to_owned(), Value::Object(amounts));
        }
    }
    // Claims, of either side, are lost: upstream's are.
    container.insert("resources".into(), wire::normal("ResourceRequirements", &Value::Object(merged)));
}

/// Deprecated runtimes carry a label.
pub(crate) fn is_deprecated(runtime: &Value) -> bool {
    text(runtime, &["metadata", "labels", crate::names::SUPPORT]) == Some("deprecated")
}

/// The notice about a deprecated runtime.
pub(crate) fn deprecation(prefix: &str, runtime: &Value) -> String {
    format!(
        "{prefix}ClusterTrainingRuntime \"{}\" is deprecated and will be removed in a future release of Kubeflow Trainer. \
         See runtime deprecation policy: https://trainer.kubeflow.org/en/latest/operator-guides/runtime.html#runtime-deprecation-policy",
        name(runtime)
    )
}
