//! How the kinds are served that Kubernetes itself brings, as far as they are asked for by name.

use std::any::TypeId;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SubjectAccessReview};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use trainerd_object::Resource;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $kind:ty;)*) => {
        $($(#[$doc])* pub fn $name() -> Resource { served::<$kind>() })*
    };
}

kinds! {
    /// ConfigMaps.
    config_map = ConfigMap;
    /// CustomResourceDefinitions.
    custom_resource_definition = CustomResourceDefinition;
    /// Deployments.
    deployment = Deployment;
    /// EndpointSlices: which addresses a Service has.
    endpoint_slice = EndpointSlice;
    /// Events, by their own API group.
    event = Event;
    /// Leases.
    lease = Lease;
    /// Namespaces.
    namespace = Namespace;
    /// Nodes.
    node = Node;
    /// Pods.
    pod = Pod;
    /// ReplicaSets.
    replica_set = ReplicaSet;
    /// Secrets.
    secret = Secret;
    /// Questions about what whoever asks may do.
    self_subject_access_review = SelfSubjectAccessReview;
    /// Services.
    service = Service;
    /// Service accounts.
    service_account = ServiceAccount;
    /// StatefulSets.
    stateful_set = StatefulSet;
    /// Questions about what somebody may do.
    subject_access_review = SubjectAccessReview;
    /// Questions about whose a token is.
    token_review = TokenReview;
}

fn served<K: k8s_openapi::Resource<Scope: 'static>>() -> Resource {
    Resource {
        group: K::GROUP.to_owned(),
        version: K::VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        plural: K::URL_PATH_SEGMENT.to_owned(),
        namespaced: TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_groups_are_kubernetes_own() {
        let lease = lease();
        assert_eq!(
            (lease.api_version().as_str(), lease.plural.as_str()),
            ("coordination.k8s.io/v1", "leases")
        );
        assert!(lease.namespaced && secret().namespaced);
        assert!(!namespace().namespaced && !token_review().namespaced);
        assert_eq!(secret().api_version(), "v1");
    }
}
