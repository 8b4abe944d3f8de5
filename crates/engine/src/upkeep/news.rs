//! What the upkeep tells of, and how it is told to act.

use std::time::Duration;

use trainerd_plan::object::ObjectKey;

use super::follow::{RecordSeen, RulerSeen};
use super::view::DriftStatus;

/// What became of an object, or what has to be looked at by somebody else.
#[derive(Clone, Debug)]
pub enum News {
    /// Something that the outlook shows changed.
    Changed,
    /// The record is another one, or gone.
    Record(RecordSeen),
    /// Whether the installation is paused.
    Paused(bool),
    /// Who rules the installation.
    Ruled(RulerSeen),
    /// Drift was found.
    Drifted(DriftStatus),
    /// Drift was put right.
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
    /// One write does not do it: a plan has to put the installation right.
    NeedsPlan {
        /// Why, in a sentence fragment.
        why: String,
    },
}

/// Whether drift is acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// It is judged, and put right where the policy says so.
    Active,
    /// It is judged and shown.
    Paused,
    /// A plan changes the objects: nothing is judged until it is over.
    Aside,
}
