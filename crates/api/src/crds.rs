//! The CustomResourceDefinitions of a version of a component.

use semver::Version;
use serde_json::Value;
use trainerd_schema::{Conversion, ParseError, SchemaError};

pub use crate::releases::CrdChannel;
use crate::releases::{RELEASES, Release};
use crate::roots::{ROOTS, Root};
use crate::types::table;

/// A CRD of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrdId {
    /// `trainer`, `jobset` or `lws`.
    pub component: &'static str,
    /// Full name, for example `trainjobs.trainer.kubeflow.org`.
    pub name: &'static str,
}

/// The service that answers conversion requests, at path `/convert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRef<'a> {
    /// Namespace of the service.
    pub namespace: &'a str,
    /// Name of the service.
    pub name: &'a str,
}

/// Why there is no such CRD.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCrd {
    /// The table does not know this version of the component.
    #[error("failed to find version {version} of {component}")]
    Version {
        /// The component asked for.
        component: String,
        /// The version asked for.
        version: Version,
    },
    /// The component has no CRD of this name.
    #[error("failed to find CRD {name} in {component}")]
    Name {
        /// The component asked for.
        component: String,
        /// The name asked for.
        name: String,
    },
    /// The type table does not read: a defect of this build, which its tests rule out.
    #[error("failed to read the type table")]
    Table(#[source] &'static ParseError),
    /// The type table is ambiguous at this version: a defect of this build, which its tests rule out.
    #[error("failed to make the schema of {name}")]
    Schema {
        /// The CRD.
        name: &'static str,
        /// What is missing or ambiguous.
        source: SchemaError,
    },
}

/// Every CRD that some release of some component has, sorted by name.
pub fn all() -> impl Iterator<Item = CrdId> {
    ROOTS.iter().filter(|root| !root.native).map(|root| CrdId { component: root.component, name: root.name })
}

/// Versions of `component` whose CRDs are known, oldest first. Empty for an unknown component.
pub fn versions(component: &str) -> impl Iterator<Item = &'static Version> {
    RELEASES.iter().filter(move |release| release.component == component).map(|release| &release.version)
}

/// Names of the CRDs that `component` has at `version`, sorted. Empty when the version is unknown.
pub fn names(component: &str, version: &Version, channel: CrdChannel) -> Vec<&'static str> {
    if release(component, version).is_none() {
        return Vec::new();
    }
    let is_meant = |root: &&Root| root.component == component && root.is_of(channel);
    ROOTS.iter().filter(is_meant).map(|root| root.name).collect()
}

/// The CRD as a manifest (`apiextensions.k8s.io/v1`), without labels and without descriptions.
///
/// CRDs of JobSet and LWS have a conversion webhook, which points at `conversion`; without a service they
/// are written without the webhook, which is as good as long as they have a single version. The CRDs of
/// Trainer have none, whatever `conversion` says.
///
/// Guarantee: same arguments, same manifest.
pub fn emit(
    component: &str,
    version: &Version,
    channel: CrdChannel,
    name: &str,
    conversion: Option<ServiceRef<'_>>,
) -> Result<Value, UnknownCrd> {
    let release = release(component, version)
        .ok_or_else(|| UnknownCrd::Version { component: component.to_owned(), version: version.clone() })?;
    let root = root(component, name)
        .filter(|root| root.is_of(channel))
        .ok_or_else(|| UnknownCrd::Name { component: component.to_owned(), name: name.to_owned() })?;
    let generator = ("controller-gen.kubebuilder.io/version", release.controller_gen);
    let annotations = root.annotations.iter().copied().chain([generator]);
    let conversion = conversion.filter(|_| root.converts).map(|service| Conversion {
        namespace: service.namespace,
        name: service.name,
        path: "/convert",
    });
    let table = table().map_err(UnknownCrd::Table)?;
    root.crd
        .manifest(table, &release.levels(channel), annotations, conversion)
        .map_err(|source| UnknownCrd::Schema { name: root.name, source })
}

fn release(component: &str, version: &Version) -> Option<&'static Release> {
    RELEASES.iter().find(|release| release.component == component && release.version == *version)
}

fn root(component: &str, name: &str) -> Option<&'static Root> {
    ROOTS.iter().find(|root| root.component == component && root.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_the_crds_of_a_version() {
        let trainer = [
            "clustertrainingruntimes.trainer.kubeflow.org",
            "trainingruntimes.trainer.kubeflow.org",
            "trainjobs.trainer.kubeflow.org",
        ];
        for (component, version, expected) in [
            ("trainer", Version::new(2, 3, 0), &trainer[..]),
            ("jobset", Version::new(0, 12, 0), &["jobsets.jobset.x-k8s.io"]),
            ("lws", Version::new(0, 8, 0), &["leaderworkersets.leaderworkerset.x-k8s.io"]),
            ("lws", Version::new(2, 3, 0), &[]),
            ("kueue", Version::new(0, 8, 0), &[]),
        ] {
            assert_eq!(names(component, &version, CrdChannel::Release), expected, "{component} {version}");
        }
    }

    #[test]
    fn every_crd_of_every_version_can_be_built() {
        for id in all() {
            for version in versions(id.component) {
                let crd = emit(id.component, version, CrdChannel::Release, id.name, None).unwrap();
                assert_eq!(crd["metadata"]["name"], id.name, "{} {version}", id.component);
            }
        }
    }

    #[test]
    fn unknown_names_are_reported() {
        let known = Version::new(0, 8, 0);
        let unknown = Version::new(9, 9, 9);
        let name = "leaderworkersets.leaderworkerset.x-k8s.io";
        for (component, version, name, expected) in [
            (
                "lws",
                &unknown,
                name,
                UnknownCrd::Version { component: "lws".into(), version: unknown.clone() },
            ),
            (
                "kueue",
                &known,
                name,
                UnknownCrd::Version { component: "kueue".into(), version: known.clone() },
            ),
            ("lws", &known, "a.b", UnknownCrd::Name { component: "lws".into(), name: "a.b".into() }),
        ] {
            assert_eq!(emit(component, version, CrdChannel::Release, name, None), Err(expected));
        }
    }

    #[test]
    fn only_kinds_with_a_webhook_get_one() {
        let service = Some(ServiceRef { namespace: "here", name: "webhook" });
        for (component, version, name, converts) in [
            ("jobset", Version::new(0, 12, 0), "jobsets.jobset.x-k8s.io", true),
            ("lws", Version::new(0, 8, 0), "leaderworkersets.leaderworkerset.x-k8s.io", true),
            ("trainer", Version::new(2, 3, 0), "trainjobs.trainer.kubeflow.org", false),
        ] {
            let with = emit(component, &version, CrdChannel::Release, name, service).unwrap();
            let at = &with["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["namespace"];
            assert_eq!(at.as_str(), converts.then_some("here"), "{name}");
            let without = emit(component, &version, CrdChannel::Release, name, None).unwrap();
            assert_eq!(without["spec"].get("conversion"), None, "{name}");
        }
    }
}
