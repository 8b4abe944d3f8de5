//! Which type of the table describes the objects of a kind.

use semver::Version;
use trainerd_schema::Levels;

use crate::releases::{CrdChannel, RELEASES, Release};
use crate::roots::ROOTS;

/// Groups and kinds of Kubernetes that the table describes; the type has the name of the kind.
const BUILTIN: &[(&str, &str)] = &[
    ("", "ConfigMap"),
    ("", "Namespace"),
    ("", "Secret"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apps", "Deployment"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
];

/// A kind that the table describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its type in the table.
    pub type_name: &'static str,
    /// The component whose version decides its levels; none for the kinds of Kubernetes.
    pub component: Option<&'static str>,
}

/// The type of the objects of a kind; `None` for a kind that the table does not describe.
pub fn describe(group: &str, kind: &str) -> Option<Described> {
    if let Some((_, name)) = BUILTIN.iter().find(|known| **known == (group, kind)) {
        return Some(Described { type_name: name, component: None });
    }
    let root = ROOTS.iter().find(|root| root.crd.group == group && root.crd.kind == kind)?;
    let type_name = root.crd.versions.first()?.type_name;
    Some(Described { type_name, component: Some(root.component) })
}

/// The levels of a version of a component, what the native reconciler adds included; `None` where the table does not know
/// it.
pub fn levels(component: &str, version: &Version) -> Option<Levels> {
    let release =
        RELEASES.iter().find(|release| release.component == component && release.version == *version);
    release.map(|release| release.levels(CrdChannel::Native))
}

/// The levels of Kubernetes' own kinds at a version of it; without one the newest that some component was built with.
pub fn kubernetes_levels(version: Option<&Version>) -> Levels {
    let newest = RELEASES.iter().map(Release::kubernetes).max();
    Levels::new(version.or(newest).map(|version| ("k8s", version.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_described_by_a_type_that_the_table_has() {
        let table = crate::table().unwrap();
        for (group, kind) in BUILTIN {
            let described = describe(group, kind).unwrap();
            assert!(table.schema(described.type_name, &kubernetes_levels(None)).is_ok(), "{kind}");
        }
        let runtime = describe("trainer.kubeflow.org", "ClusterTrainingRuntime").unwrap();
        assert_eq!((runtime.type_name, runtime.component), ("TrainingRuntime", Some("trainer")));
        assert_eq!(describe("apps", "ReplicaSet"), None);
        assert!(levels("trainer", &Version::new(2, 3, 0)).is_some());
        assert!(levels("trainer", &Version::new(9, 0, 0)).is_none());
    }
}
