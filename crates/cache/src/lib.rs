//! The data cache of the Kubeflow Trainer stack: rows of tables and files, served over Arrow Flight from memory.
//!
//! A *head* plans: it divides the rows of a pinned source among *workers*, and tells clients which worker has which
//! rows. Workers serve them, from memory where they fit and from the source where they do not. The plan is a pure
//! function of the source, so that a head or a worker that starts again agrees with the others without asking them.

pub mod access;
pub mod arrow;
pub mod assign;
pub mod backoff;
pub mod chunks;
pub mod config;
pub mod filter;
pub mod flight;
pub mod frame;
pub mod head;
pub mod health;
pub mod meters;
pub mod plan;
mod prefetch;
pub mod rebatch;
pub mod server;
pub mod source;
pub mod spans;
pub mod store;
pub mod stream;
pub mod tls;
pub mod worker;
