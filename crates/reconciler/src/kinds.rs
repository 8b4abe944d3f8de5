//! The kinds that a manager reads and writes.

use trainerd_object::Resource;
pub(crate) use trainerd_object::kinds::{TRAINER, job_set, train_job};

pub(crate) fn optimization_job() -> Resource {
    Resource::namespaced(TRAINER, "v1alpha1", "OptimizationJob", "optimizationjobs")
}

pub(crate) fn training_runtime() -> Resource {
    Resource::namespaced(TRAINER, "v1alpha1", "TrainingRuntime", "trainingruntimes")
}

pub(crate) fn cluster_training_runtime() -> Resource {
    Resource::cluster_scoped(TRAINER, "v1alpha1", "ClusterTrainingRuntime", "clustertrainingruntimes")
}

/// PodGroups of scheduler-plugins.
pub(crate) fn coscheduling_pod_group() -> Resource {
    Resource::namespaced("scheduling.x-k8s.io", "v1alpha1", "PodGroup", "podgroups")
}

/// PodGroups of Volcano.
pub(crate) fn volcano_pod_group() -> Resource {
    Resource::namespaced("scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups")
}

pub(crate) fn limit_range() -> Resource {
    Resource::namespaced("", "v1", "LimitRange", "limitranges")
}

pub(crate) fn runtime_class() -> Resource {
    Resource::cluster_scoped("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses")
}

pub(crate) fn priority_class() -> Resource {
    Resource::cluster_scoped("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
}

pub(crate) fn mutating_webhook_configuration() -> Resource {
    let (kind, plural) = ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
    Resource::cluster_scoped("admissionregistration.k8s.io", "v1", kind, plural)
}

pub(crate) fn validating_webhook_configuration() -> Resource {
    let (kind, plural) = ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    Resource::cluster_scoped("admissionregistration.k8s.io", "v1", kind, plural)
}
