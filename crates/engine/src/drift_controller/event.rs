//! Events of the drift controller, and how it acts on drift.

use std::time::Duration;

use trainerd_plan::object::ObjectKey;

use super::object_cache::{OwnerSeen, RecordSeen};
use super::snapshot::DriftStatus;

/// What happened to an object, or what has to be looked at by somebody else.
#[derive(Clone, Debug)]
pub enum DriftEvent {
    /// Something changed that a snapshot shows.
    Changed,
    /// The record is another one, or gone.
    Record(RecordSeen),
    /// Whether the installation is paused.
    Paused(bool),
    /// Who owns the options of the installation.
    Owner(OwnerSeen),
    /// Drift was found.
    Drifted(DriftStatus),
    /// Drift was repaired.
    Repaired {
        /// The object.
        object: ObjectKey,
        /// What was done to it: `create` or `apply`.
        verb: &'static str,
        /// Who had changed it, as far as that is known.
        by: Vec<String>,
        /// From the moment it was noticed to the answer of the write.
        took: Duration,
    },
    /// Drift went away without us.
    Gone(ObjectKey),
    /// One write does not do it: a plan has to repair the installation.
    NeedsPlan {
        /// Why, in a sentence fragment.
        why: String,
    },
}

/// Whether drift is acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairMode {
    /// It is judged, and repaired where the policy says so.
    Active,
    /// It is judged and shown.
    Paused,
    /// A plan changes the objects: nothing is judged until it is over.
    Suspended,
}
