//! What can be wrong with a patch.

use trainerd_plan::object::ObjectKey;
use trainerd_schema::{Fault, MergeError};

use super::Target;

/// What is wrong with an entry of the option `patches`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchFault {
    /// The entry, its target or its patch has another form.
    #[error("{what} must be {expected}")]
    Form {
        /// `it`, `target`, `patch` or the like.
        what: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A key that there is not.
    #[error("unknown key {key}; {what} has {}", .known.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
        /// `an entry` or `a target`.
        what: &'static str,
        /// The keys that there are.
        known: &'static [&'static str],
    },
    /// The text of a patch is no YAML.
    #[error("its patch is not YAML: {0}")]
    Yaml(String),
    /// A list that is no JSON patch.
    #[error("its patch is not a JSON patch (RFC 6902): {0}")]
    NotJsonPatch(String),
    /// The catalog renders no objects of the kind.
    #[error("no object of kind {0} is rendered")]
    UnknownKind(String),
    /// The catalog has no such component.
    #[error("unknown component {0}")]
    UnknownComponent(String),
    /// Nothing that is rendered matches.
    #[error("no target: there is no {target}{}", among(.known))]
    NoTarget {
        /// What was looked for.
        target: Box<Target>,
        /// The names of that kind that there are.
        known: Vec<String>,
    },
    /// Nothing that is rendered matches any more: the installed versions have it, those asked for do not.
    #[error("the target no longer exists: {from} has {target}, {to} does not")]
    TargetGone {
        /// What was looked for.
        target: Box<Target>,
        /// The installed versions.
        from: String,
        /// The versions asked for.
        to: String,
    },
    /// The daemon's objects are addressed by their component.
    #[error("no target: {0} belongs to the daemon; give `component: trainerd`")]
    OfDaemon(Target),
    /// The patch, or its outcome, is not what the type table says.
    #[error("{object}: {}{}", .faults.first().map(ToString::to_string).unwrap_or_default(), more(.faults))]
    Schema {
        /// The object.
        object: Box<ObjectKey>,
        /// Everything that is wrong; at least one.
        faults: Vec<Fault>,
    },
    /// The patch cannot be merged.
    #[error("{object}: {cause}")]
    Merge {
        /// The object.
        object: Box<ObjectKey>,
        /// Why.
        cause: Box<MergeError>,
    },
    /// An operation of a JSON patch fails.
    #[error("{object}: {cause}")]
    Operation {
        /// The object.
        object: Box<ObjectKey>,
        /// Which, and why.
        cause: String,
    },
    /// What makes the object this object.
    #[error("{object}: {field} cannot be patched: it identifies the object")]
    Identity {
        /// The object.
        object: Box<ObjectKey>,
        /// The field.
        field: &'static str,
    },
    /// A kind of which only labels and annotations can be patched.
    #[error("{object}: only labels and annotations can be patched of {}", sealed(.object))]
    OnlyMetadata {
        /// The object.
        object: Box<ObjectKey>,
    },
    /// A label or annotation that trainerd recognises its objects by.
    #[error("{object}: {key} is trainerd's own")]
    Reserved {
        /// The object.
        object: Box<ObjectKey>,
        /// The label or annotation.
        key: String,
    },
    /// A container that the object does not have. Added by a patch it would have no image.
    #[error("{object}: there is no container {container}{}", among(.known))]
    NoContainer {
        /// The object.
        object: Box<ObjectKey>,
        /// The container.
        container: String,
        /// The containers that there are.
        known: Vec<String>,
    },
    /// An image that no option names.
    #[error(
        "{object}: image {image} cannot be set by a patch: images have options, see `trainerd images list`"
    )]
    Image {
        /// The object.
        object: Box<ObjectKey>,
        /// The image.
        image: String,
    },
    /// The pods would not be those that the workload selects.
    #[error("{object}: the pods would lose label {label}, by which the Deployment selects them")]
    Selector {
        /// The object.
        object: Box<ObjectKey>,
        /// The label.
        label: String,
    },
}

fn among(known: &[String]) -> String {
    const SHOWN: usize = 6;
    match known.len() {
        0 => String::new(),
        count => {
            let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
            let names: Vec<&str> = known.iter().take(SHOWN).map(String::as_str).collect();
            format!(" (there is {}{more})", names.join(", "))
        }
    }
}

fn more(faults: &[Fault]) -> String {
    if faults.len() > 1 { format!(" (+{} more)", faults.len() - 1) } else { String::new() }
}

fn sealed(object: &ObjectKey) -> &'static str {
    if object.kind == "Secret" { "a Secret" } else { "a CRD" }
}
