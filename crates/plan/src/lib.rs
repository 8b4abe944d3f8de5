//! Desired, Observed, Plan: everything that is decided, and nothing that acts.
//!
//! Pure: no client, no clock, no randomness. Time and observations are arguments.

pub mod desired;
pub mod object;
pub mod observed;
pub mod readiness;
pub mod reason;
