//! The kinds that a manager reads and writes.

use trainerd_object::Resource;

fn resource(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    let own = str::to_owned;
    Resource { group: own(group), version: own(version), kind: own(kind), plural: own(plural), namespaced }
}

/// The API group of TrainJobs and runtimes.
pub(crate) const TRAINER: &str = "trainer.kubeflow.org";

pub(crate) fn train_job() -> Resource {
    resource(TRAINER, "v1alpha1", "TrainJob", "trainjobs", true)
}

pub(crate) fn optimization_job() -> Resource {
    resource(TRAINER, "v1alpha1", "OptimizationJob", "optimizationjobs", true)
}

pub(crate) fn training_runtime() -> Resource {
    resource(TRAINER, "v1alpha1", "TrainingRuntime", "trainingruntimes", true)
}

pub(crate) fn cluster_training_runtime() -> Resource {
    resource(TRAINER, "v1alpha1", "ClusterTrainingRuntime", "clustertrainingruntimes", false)
}

pub(crate) fn job_set() -> Resource {
    resource("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets", true)
}

/// PodGroups of scheduler-plugins.
pub(crate) fn coscheduling_pod_group() -> Resource {
    resource("scheduling.x-k8s.io", "v1alpha1", "PodGroup", "podgroups", true)
}

/// PodGroups of Volcano.
pub(crate) fn volcano_pod_group() -> Resource {
    resource("scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups", true)
}

pub(crate) fn limit_range() -> Resource {
    resource("", "v1", "LimitRange", "limitranges", true)
}

pub(crate) fn runtime_class() -> Resource {
    resource("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", false)
}

pub(crate) fn priority_class() -> Resource {
    resource("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", false)
}

pub(crate) fn mutating_webhook_configuration() -> Resource {
    let (kind, plural) = ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
    resource("admissionregistration.k8s.io", "v1", kind, plural, false)
}

pub(crate) fn validating_webhook_configuration() -> Resource {
    let (kind, plural) = ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    resource("admissionregistration.k8s.io", "v1", kind, plural, false)
}
