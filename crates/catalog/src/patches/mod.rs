//! The option `patches`: what an operator changes of the objects that the catalog renders.
//!
//! ```yaml
//! - target: {kind: Deployment, component: jobset}
//!   patch:                            # a mapping: strategic merge
//!     spec: {template: {spec: {priorityClassName: system-cluster-critical}}}
//! - target: {kind: Service, name: kubeflow-trainer-controller-manager}
//!   patch:                            # a list: JSON patch (RFC 6902)
//!   - {op: add, path: /metadata/annotations, value: {team: ml}}
//! ```
//!
//! Read here, applied while rendering ([`apply`]), so that the plan, the revision and drift see the patched object and
//! nothing else. A patch is judged by the type table before anything is planned.

mod apply;
mod fault;
mod read;

use std::fmt;

use serde_json::Value;
use trainerd_plan::desired::DesiredObject;
use trainerd_plan::object::ObjectKey;

pub(crate) use apply::{Context, apply};
pub use fault::PatchFault;
pub(crate) use read::{Unreadable, read};

use crate::names::DAEMON;

/// An entry of the option.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Its place in the option, from one.
    pub entry: usize,
    /// Which objects it changes.
    pub target: Target,
    pub(crate) change: Change,
}

/// Which objects a patch changes: all that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Their kind.
    pub kind: String,
    /// Their name; any where none is given.
    pub name: Option<String>,
    /// The component that they belong to; any but the daemon's own where none is given.
    pub component: Option<String>,
}

/// How a patch changes an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Strategic merge.
    Merge(Value),
    /// RFC 6902.
    Json(json_patch::Patch),
}

impl Patch {
    /// Whether it is for the daemon's own objects, which are an installation by themselves.
    pub(crate) fn is_for_daemon(&self) -> bool {
        self.target.component.as_deref() == Some(DAEMON)
    }

    /// The objects among these that it changes.
    pub fn targets<'a>(&'a self, objects: &'a [DesiredObject]) -> impl Iterator<Item = ObjectKey> + 'a {
        let own = move |object: &&DesiredObject| self.target.matches(&object.component, &object.key());
        objects.iter().filter(own).map(DesiredObject::key)
    }
}

impl Target {
    fn matches(&self, component: &str, key: &ObjectKey) -> bool {
        self.kind == key.kind
            && self.name.as_ref().is_none_or(|name| *name == key.name)
            && self.component.as_ref().is_none_or(|name| name == component)
    }
}

/// `Deployment lws-controller-manager of lws`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.component {
            Some(component) => write!(f, " of {component}"),
            None => Ok(()),
        }
    }
}
