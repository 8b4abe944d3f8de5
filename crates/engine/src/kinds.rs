//! The kinds that the engine itself reads and writes, whatever the plan is about.

use trainerd_plan::object::Resource;

fn resource(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        namespaced,
    }
}

/// Namespaces.
pub(crate) fn namespace() -> Resource {
    resource("", "v1", "Namespace", "namespaces", false)
}

/// Secrets: where records, revisions and chunks are.
pub(crate) fn secret() -> Resource {
    resource("", "v1", "Secret", "secrets", true)
}

/// Pods: why a workload is not ready.
pub(crate) fn pod() -> Resource {
    resource("", "v1", "Pod", "pods", true)
}

/// Leases: who may write.
pub(crate) fn lease() -> Resource {
    resource("coordination.k8s.io", "v1", "Lease", "leases", true)
}

/// JobSets, whose stored objects a CRD change may concern.
pub(crate) fn job_set() -> Resource {
    resource("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets", true)
}
