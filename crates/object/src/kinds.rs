//! Kinds of the stack that several programs read and write.

use crate::Resource;

/// The API group of TrainJobs and training runtimes.
pub const TRAINER: &str = "trainer.kubeflow.org";

/// `TrainJob.trainer.kubeflow.org`.
pub fn train_job() -> Resource {
    Resource::namespaced(TRAINER, "v1alpha1", "TrainJob", "trainjobs")
}

/// `JobSet.jobset.x-k8s.io`, what a TrainJob runs as.
pub fn job_set() -> Resource {
    Resource::namespaced("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets")
}
