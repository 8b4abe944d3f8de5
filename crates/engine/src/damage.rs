//! What of trainerd's own Secrets is missing or damaged, and what is known without it.
//!
//! Each can be lost. The record follows from the revisions and from the objects in the cluster; a revision is kept in the
//! record too, without its objects; and its objects can be rendered again from its options.

use serde::Serialize;

/// What is missing or damaged of what an installation needs to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "lost", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Damage {
    /// The record. What it said was concluded from the revisions and the objects in the cluster.
    Record {
        /// The revision that the cluster is found to be at.
        revision: u64,
        /// Whether every object is as that revision has it.
        exact: bool,
    },
    /// The current revision is known from the record only.
    Revision {
        /// Its number.
        revision: u64,
    },
    /// The objects of the current revision cannot be read.
    Objects {
        /// Its number.
        revision: u64,
        /// What is missing or damaged.
        why: String,
        /// Whether its options are known, so that its objects can be rendered again.
        renderable: bool,
        /// The newest other revision that can be read.
        readable: Option<u64>,
    },
}
