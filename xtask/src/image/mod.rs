//! Container images made here: what pods on the local node run, without a registry or a container engine.

pub mod catalog;
pub mod oci;

pub use oci::{Error, hex};
