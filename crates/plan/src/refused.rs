//! What a plan refuses to do, and why.

use serde::{Deserialize, Serialize};

use crate::desired::Installation;
use crate::in_use::list;
use crate::lint::Finding;
use crate::object::ObjectKey;

/// A reason why no plan was made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all_fields = "camelCase")]
pub enum Refused {
    /// The object exists and is not ours.
    #[error("{object} is controlled by {owner}")]
    Collision {
        /// The object.
        object: ObjectKey,
        /// Who has it: another installation, a Helm release, a field manager.
        owner: String,
    },
    /// Objects of which there can be one a cluster are another installation's.
    #[error("installation {} is in this cluster already, in namespace {} ({} {} to it), and there can be one a cluster", installation.name, installation.namespace, objects.len(), if objects.len() == 1 { "object belongs" } else { "objects belong" })]
    InstalledElsewhere {
        /// The other one.
        installation: Installation,
        /// What it has.
        objects: Vec<ObjectKey>,
    },
    /// A field that no update may change.
    #[error("{object}: {path} cannot be changed in place: {why}")]
    ImmutableField {
        /// The object.
        object: ObjectKey,
        /// The field.
        path: String,
        /// The API's rule.
        why: String,
    },
    /// Somebody else set a field that we never owned, to another value.
    #[error("{object}: {path} is set to {theirs} by {manager}; trainerd would set {ours}")]
    FieldConflict {
        /// The object.
        object: ObjectKey,
        /// The field.
        path: String,
        /// Who owns the field.
        manager: String,
        /// Their value.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// Going back changes CRDs, which may drop what is stored under them.
    #[error("the rollback changes CRDs, which may drop stored data: {}", crds.join(", "))]
    LossyRollback {
        /// The CRDs that would change.
        crds: Vec<String>,
    },
    /// Stored JobSets use a field that the new CRD no longer has.
    #[error("stored JobSets use workloadRef, which the new version drops: {}", list(objects))]
    WorkloadRefInUse {
        /// The JobSets.
        objects: Vec<ObjectKey>,
    },
    /// The namespace is going away.
    #[error("namespace {name} is being deleted{}", if conditions.is_empty() { String::new() } else { format!(": {}", conditions.join("; ")) })]
    NamespaceTerminating {
        /// Its name.
        name: String,
        /// What it says of its own deletion: the conditions that are true.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        conditions: Vec<String>,
    },
    /// An object that the plan needs is being deleted.
    #[error("{object} is being deleted{}", if finalizers.is_empty() { String::new() } else { format!("; finalizers: {}", finalizers.join(", ")) })]
    Terminating {
        /// The object.
        object: ObjectKey,
        /// What holds it.
        finalizers: Vec<String>,
    },
    /// An object that would be deleted is in use.
    #[error("{object} would be deleted and is in use: {}", list(users))]
    InUse {
        /// The object.
        object: ObjectKey,
        /// Who uses it.
        users: Vec<ObjectKey>,
    },
    /// Objects of kinds whose CRD would go still exist.
    #[error("{} still exist: {}", kind_count(objects), list(objects))]
    CustomObjectsExist {
        /// Them.
        objects: Vec<ObjectKey>,
    },
    /// Objects wait for one another.
    #[error("objects wait for one another: {}", list(circle))]
    Cycle {
        /// The circle.
        circle: Vec<ObjectKey>,
    },
    /// The plan is unsafe by its own rules.
    #[error("{finding}")]
    Lint {
        /// What was found.
        finding: Finding,
    },
}

impl Refused {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Collision { .. } => {
                "delete it with the tool that created it, or install under another name or namespace"
            }
            Self::InstalledElsewhere { .. } => {
                "select it with --namespace and --name, or remove it first with `trainerd remove`"
            }
            Self::ImmutableField { .. } => {
                "change the option back; or add --allow recreate to have the object deleted and made again, \
                 where nothing is stored in it or holds it"
            }
            Self::FieldConflict { .. } => {
                "set option conflicts=force to take the field, or conflicts=yield to leave it to them"
            }
            Self::LossyRollback { .. } => {
                "check that no stored object needs the newer fields, then add --allow lossy"
            }
            Self::WorkloadRefInUse { .. } => "wait for these JobSets to end, or delete them, then upgrade",
            Self::NamespaceTerminating { .. } => {
                "wait until the namespace is gone, or remove what its conditions name, then run the command again"
            }
            Self::Terminating { .. } => {
                "let the controller that set the finalizers finish, then run the command again"
            }
            Self::InUse { .. } => {
                "keep it in the options until its users are gone, or add --allow in-use to delete it anyway"
            }
            Self::CustomObjectsExist { .. } => {
                "delete them first, or keep the component that defines their kind; \
                 `remove --purge --delete-jobs` deletes them too"
            }
            Self::Cycle { .. } => "remove one of the `order` entries in component.yaml",
            Self::Lint { .. } => {
                "this is a defect of the catalog: please report it with the output of `trainerd render`"
            }
        }
    }
}

fn kind_count(objects: &[ObjectKey]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for object in objects {
        *counts.entry(object.kind.as_str()).or_insert(0_usize) += 1;
    }
    counts
        .iter()
        .map(|(kind, count)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" }))
        .collect::<Vec<_>>()
        .join(", ")
}
