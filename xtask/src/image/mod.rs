//! Container images made here, without a registry or a container engine: the product's own, and what pods on the local
//! node run.

pub mod catalog;
pub mod cli;
pub mod oci;
pub mod product;
pub mod training;

pub use oci::Error;
