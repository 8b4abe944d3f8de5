//! Desired, Observed, Plan: everything that is decided, and nothing that acts.
//!
//! Pure: no client, no clock, no randomness. Time and observations are arguments.

pub mod admission;
pub mod allowed;
pub mod applyset;
pub mod crd_policy;
pub mod desired;
pub mod drift;
pub mod elsewhere;
pub mod identify;
pub mod immutable;
pub mod in_use;
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
pub mod seal;
mod webhook_port;
pub mod yielding;

pub use trainerd_object as object;
