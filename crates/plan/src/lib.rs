//! Desired, Observed, Plan: everything that is decided, and nothing that acts.
//!
//! Pure: no client, no clock, no randomness. Time and observations are arguments.

pub mod admission_changes;
pub mod allowed;
pub mod applyset;
pub mod crd_policy;
pub mod desired;
pub mod drift;
pub mod identify;
pub mod immutable;
pub mod in_use;
pub mod installed_elsewhere;
pub mod intent_digest;
pub mod lint;
pub mod mask;
pub mod observed;
pub mod order;
pub mod ownership;
pub mod plan;
pub mod planner;
pub mod prune;
pub mod readiness;
pub mod reason;
mod recreate;
pub mod refused;
pub mod removal;
pub mod request;
mod webhook_port;
pub mod yielded_fields;

pub use trainerd_object as object;
