//! The kind of the stack that the engine itself looks at.

use trainerd_plan::object::Resource;

/// JobSets, whose stored objects a CRD change may concern.
pub(crate) fn job_set() -> Resource {
    Resource {
        group: "jobset.x-k8s.io".to_owned(),
        version: "v1alpha2".to_owned(),
        kind: "JobSet".to_owned(),
        plural: "jobsets".to_owned(),
        namespaced: true,
    }
}
