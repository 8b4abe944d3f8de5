//! Our kinds and the Kubernetes types they embed: the type table, and the CustomResourceDefinitions that
//! follow from it for every version of every component.
//!
//! To add a version: a row in `releases.rs`, gated lines in `types/` for what changed, a digest a CRD in
//! `tests/crds.rs`.

pub mod crds;
pub mod kinds;
mod releases;
mod roots;
mod types;

pub use types::table;
