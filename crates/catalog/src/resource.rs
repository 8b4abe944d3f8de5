//! How the API server serves the kinds that the catalog renders.

use serde_json::Value;
use trainerd_plan::object::Resource;

/// Group, version, kind, plural, and whether objects live in a namespace.
const BUILTIN: &[(&str, &str, &str, &str, bool)] = &[
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "Secret", "secrets", true),
    ("", "v1", "Service", "services", true),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
    (
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    ),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("apps", "v1", "Deployment", "deployments", true),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true),
];

/// Group and kind of each of [`builtin`].
pub(crate) fn builtin_kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUILTIN.iter().map(|(group, _, kind, _, _)| (*group, *kind))
}

/// The kinds of Kubernetes that the catalog renders.
pub(crate) fn builtin() -> Vec<Resource> {
    let resource = |&(group, version, kind, plural, namespaced): &(&str, &str, &str, &str, bool)| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        namespaced,
    };
    BUILTIN.iter().map(resource).collect()
}

/// The kinds that a CRD serves: one for each served version.
pub(crate) fn of_crd(crd: &Value) -> Vec<Resource> {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    versions
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| Resource {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            kind: text(&spec["names"]["kind"]),
            plural: text(&spec["names"]["plural"]),
            namespaced: spec["scope"] == "Namespaced",
        })
        .collect()
}

/// How a manifest's kind is served, among those known.
pub(crate) fn find<'a>(known: &'a [Resource], manifest: &Value) -> Option<&'a Resource> {
    known.iter().find(|resource| {
        manifest["apiVersion"] == resource.api_version().as_str()
            && manifest["kind"] == resource.kind.as_str()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crd_serves_its_served_versions() {
        let crd = json!({"spec": {
            "group": "g.io", "scope": "Cluster", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true}, {"name": "v1alpha1", "served": false}],
        }});
        let known = of_crd(&crd);
        assert_eq!(known.len(), 1);
        let found = find(&known, &json!({"apiVersion": "g.io/v1", "kind": "Thing"})).unwrap();
        assert_eq!((found.plural.as_str(), found.namespaced), ("things", false));
        assert!(find(&known, &json!({"apiVersion": "g.io/v1alpha1", "kind": "Thing"})).is_none());
    }
}
