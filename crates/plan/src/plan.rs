//! The Plan: so specific that who executes it has no choice left.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::desired::Installation;
use crate::in_use::PendingDeletion;
use crate::object::{ObjectKey, Resource};
use crate::ownership::{FieldChange, FieldPath};

/// What a plan is for; decides who may undo it and how its result is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The first revision of an installation.
    Install,
    /// Other options, or drift repaired, with the same component versions.
    Change,
    /// A component's version rises.
    Upgrade,
    /// Back to an earlier revision.
    Rollback,
    /// Everything goes.
    Remove,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Change => "change",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::Remove => "remove",
        })
    }
}

/// What a step does to its object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all_fields = "camelCase")]
pub enum Verb {
    /// It does not exist; create it by server-side apply.
    Create,
    /// It exists and differs; server-side apply, under the condition that it is still the object with this uid.
    Apply {
        /// The uid that was observed.
        uid: String,
        /// Whether fields may be taken from other managers: only where the plan decided so.
        force: bool,
    },
    /// It exists and is as it should be; no request. It may still have to become ready. With [`Until::Gone`]:
    /// it is being deleted, and a later step creates it again.
    Keep,
    /// It exists and is no longer wanted here, but others rely on it: the installation's labels and our entry in its
    /// `managedFields` go, every other field stays as it is.
    Release {
        /// The uid that was observed.
        uid: String,
    },
    /// It exists and is no longer wanted; delete exactly the object with this uid, as it was observed. One that
    /// changed since goes only if it still belongs to the set that it belonged to.
    Delete {
        /// The uid that was observed.
        uid: String,
        /// The resourceVersion that was observed.
        resource_version: String,
        /// The set that it was observed to be part of, by its ApplySet label; none for what users stored.
        #[serde(skip_serializing_if = "Option::is_none")]
        part_of: Option<String>,
    },
}

impl Verb {
    /// Whether the step writes.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Keep)
    }
}

/// When a written step is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "until", rename_all_fields = "camelCase")]
pub enum Until {
    /// Ready by the rule of its kind.
    Ready,
    /// The Services behind it have ready endpoints, its CA bundle is set, and a dry-run create of what it
    /// admits gets through.
    Admitting {
        /// `namespace/name` of the Services it calls.
        services: Vec<String>,
    },
    /// It no longer exists, or is another object than the one that goes: that of the uid of a
    /// [`Verb::Delete`]; for a [`Verb::Keep`], the one that is being deleted. For a [`Verb::Release`]: it is no longer
    /// the installation's.
    Gone,
}

/// One step. Steps are numbered by their place in [`Plan::steps`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The component that the object belongs to.
    pub component: String,
    /// The object.
    pub object: ObjectKey,
    /// How its kind is served.
    pub resource: Resource,
    /// What is done.
    #[serde(flatten)]
    pub verb: Verb,
    /// The exact manifest to send; `None` where nothing is sent.
    #[serde(skip)]
    pub manifest: Option<Value>,
    /// The steps that must be done first.
    pub after: Vec<usize>,
    /// When this step is done.
    #[serde(flatten)]
    pub until: Until,
    /// Why, in a sentence fragment.
    pub why: String,
    /// The fields that change; values of Secrets are masked.
    pub changes: Vec<FieldChange>,
    /// Fields left to other managers: not in the manifest. Sorted by path as printed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub yielded: Vec<FieldPath>,
    /// Fields that are taken from other managers and were never ours, because the option `conflicts` says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<TakenField>,
}

/// A field that is taken from another manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenField {
    /// Which field.
    pub path: FieldPath,
    /// Whose it was.
    pub from: String,
}

/// An object whose creation a webhook would be asked about: sent as a dry run to see whether it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// How its kind is served.
    pub resource: Resource,
    /// A complete manifest.
    pub manifest: Value,
}

/// Everything that will be done to bring the cluster to a desired state.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What it is for.
    pub purpose: Purpose,
    /// Whose objects.
    pub installation: Installation,
    /// The steps, in an order that respects `after`.
    pub steps: Vec<Step>,
    /// Objects for the dry-run creates of [`Until::Admitting`].
    #[serde(skip)]
    pub probes: Vec<Probe>,
    /// The step after which going back is no longer exact; `None`: all of it can be undone.
    pub point_of_no_return: Option<usize>,
    /// Objects that are wanted but whose deletion is pending: no step of this plan concerns them, and no step
    /// that writes waits for them. They are created again once they are gone, by another plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "held")]
    pub pending_deletions: Vec<PendingDeletion>,
    /// What the plan leaves as it is although it looks like ours to change, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Plan {
    /// What this plan would write that is not in `confirmed`, the plan that somebody saw: other objects, and other
    /// changes of the same. An object may have changed in what a plan does not go by.
    pub fn beyond(&self, confirmed: &Self) -> Vec<ObjectKey> {
        let same = |step: &Step, seen: &Step| {
            step.object == seen.object
                && match (&step.verb, &seen.verb) {
                    (Verb::Delete { uid, .. }, Verb::Delete { uid: was, .. }) => uid == was,
                    (verb, was) => {
                        verb == was && step.manifest == seen.manifest && step.changes == seen.changes
                    }
                }
        };
        let writes = self.steps.iter().filter(|step| step.verb.writes());
        let added = writes.filter(|step| !confirmed.steps.iter().any(|seen| same(step, seen)));
        added.map(|step| step.object.clone()).collect()
    }

    /// Whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| !step.verb.writes())
    }

    /// How many steps create, change, delete and keep.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for step in &self.steps {
            match step.verb {
                Verb::Create => counts.create += 1,
                Verb::Apply { .. } | Verb::Release { .. } => counts.change += 1,
                Verb::Delete { .. } => counts.delete += 1,
                // The wait for an object to go is part of making it again.
                Verb::Keep if step.until == Until::Gone => {}
                Verb::Keep => counts.keep += 1,
            }
        }
        counts
    }
}

/// How many steps of each kind a plan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Objects to create.
    pub create: usize,
    /// Objects to change.
    pub change: usize,
    /// Objects to delete.
    pub delete: usize,
    /// Objects that stay as they are.
    pub keep: usize,
}
