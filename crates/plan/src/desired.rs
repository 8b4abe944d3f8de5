//! What the cluster shall look like: the output of rendering, the content of a revision.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::object::{ObjectKey, Resource};
use crate::ownership::FieldPath;
use crate::plan::Probe;

/// One instance of the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Name, unique in its namespace.
    pub name: String,
    /// Namespace of the stack and of trainerd's own records.
    pub namespace: String,
}

/// How the objects of an installation are called. Chosen once: an object cannot be renamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// As upstream's own manifests call them.
    #[default]
    Upstream,
    /// By the name of the Juju application, as its charm always called them.
    Charm,
}

impl Naming {
    /// Whether nothing has to be said of it.
    pub fn is_upstream(&self) -> bool {
        *self == Self::Upstream
    }
}

/// A component as this installation has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Its version.
    pub version: Version,
    /// The components that it needs, installed here or not: their CRDs before its workloads, their workloads before
    /// its objects.
    pub needs: Vec<String>,
    /// Objects whose dry-run creation shows that its webhooks answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
}

/// An object with the component it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredObject {
    /// Name of the component in [`Desired::components`].
    pub component: String,
    /// How its kind is served.
    pub resource: Resource,
    /// The intent: the fields that trainerd owns, and no others.
    pub manifest: Value,
    /// Objects that must be ready before this one is written, beyond the edges that follow from kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<ObjectKey>,
    /// Fields of the manifest that were left to other managers when this state was planned: not part of what
    /// was sent, so not enforced. Empty as rendered; see [`crate::yielded_fields::with_yielded`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub yielded: Vec<FieldPath>,
}

impl DesiredObject {
    /// The object's identity.
    pub fn key(&self) -> ObjectKey {
        let metadata = &self.manifest["metadata"];
        ObjectKey {
            group: self.resource.group.clone(),
            kind: self.resource.kind.clone(),
            namespace: metadata["namespace"].as_str().map(str::to_owned),
            name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

impl Desired {
    /// Whether both were rendered from the same: they differ at most in fields that were left to others.
    pub fn is_rendered_like(&self, other: &Self) -> bool {
        let alike = |own: &DesiredObject, other: &DesiredObject| {
            own.component == other.component
                && own.resource == other.resource
                && own.manifest == other.manifest
                && own.after == other.after
        };
        self.installation == other.installation
            && self.naming == other.naming
            && self.components == other.components
            && self.options == other.options
            && self.given == other.given
            && self.objects.len() == other.objects.len()
            && self.objects.iter().zip(&other.objects).all(|(own, other)| alike(own, other))
    }
}

/// What the cluster shall look like. Objects are sorted by key; same input, same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Whose objects these are.
    pub installation: Installation,
    /// How they are called.
    #[serde(default, skip_serializing_if = "Naming::is_upstream")]
    pub naming: Naming,
    /// Components by name.
    pub components: BTreeMap<String, Component>,
    /// Every option by name with its value, defaults included: what a later `upgrade` starts from.
    pub options: BTreeMap<String, Value>,
    /// Names of the options that were given rather than defaulted.
    pub given: Vec<String>,
    /// The objects, sorted by [`ObjectKey`].
    pub objects: Vec<DesiredObject>,
}

impl Desired {
    /// Whether a component is needed here and not installed here: somebody else provides it.
    pub fn leaves_to_others(&self, component: &str) -> bool {
        self.left_to_others().any(|name| name == component)
    }

    /// The components that installed ones need and that somebody else provides.
    pub fn left_to_others(&self) -> impl Iterator<Item = &str> {
        let needed = self.components.values().flat_map(|component| &component.needs);
        needed.filter(|name| !self.components.contains_key(*name)).map(String::as_str)
    }
}
