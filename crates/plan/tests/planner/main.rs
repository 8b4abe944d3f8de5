//! What a plan says about a small stack.

#![expect(clippy::unwrap_used, reason = "a helper that finds nothing fails its test")]
#![expect(clippy::needless_pass_by_value, reason = "the tests read better without ampersands")]

mod again;
mod going;
mod identifying;
mod stack;
mod steps;
mod webhook_ports;
