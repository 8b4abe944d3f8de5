//! The kinds that the stand-in reads.

use trainerd_plan::object::Resource;

fn resource(group: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    Resource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        namespaced,
    }
}

pub(super) fn pod() -> Resource {
    resource("", "Pod", "pods", true)
}

pub(super) fn node() -> Resource {
    resource("", "Node", "nodes", false)
}

pub(super) fn lease() -> Resource {
    resource("coordination.k8s.io", "Lease", "leases", true)
}

pub(super) fn service() -> Resource {
    resource("", "Service", "services", true)
}

pub(super) fn endpoint_slice() -> Resource {
    resource("discovery.k8s.io", "EndpointSlice", "endpointslices", true)
}

pub(super) fn mutating() -> Resource {
    let (kind, plural) = ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
    resource("admissionregistration.k8s.io", kind, plural, false)
}

pub(super) fn validating() -> Resource {
    let (kind, plural) = ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    resource("admissionregistration.k8s.io", kind, plural, false)
}

pub(super) fn crd() -> Resource {
    resource("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false)
}
