//! Components, versions, options and images, rendered into [`Desired`](trainerd_plan::desired::Desired).
//!
//! ```text
//! config.yaml ──► Schema ─┐
//! templates/ ───► Catalog ┴► Options::parse ──► resolve ──► render ──► Desired
//!                            what was given     versions    objects
//! ```
//!
//! Pure: no cluster, no clock, no environment. The same options and versions give the same bytes. What is
//! wrong is found as early as it can be, and all of it at once: values by themselves in [`Options::parse`],
//! values against each other in [`Catalog::resolve`].

mod catalog;
mod component;
mod daemon;
mod embedded;
mod error;
mod image;
mod images;
mod kubernetes;
mod names;
mod options;
mod patches;
mod pods;
mod process;
mod render;
mod resolve;
mod resource;
mod schema;
mod tag;
mod templates;
mod upgrade;
pub mod yaml;

pub use catalog::Catalog;
pub use daemon::{
    Bootstrap, DAEMON, DAEMON_OPTIONS, DAEMON_VIEWER, daemon_audience, daemon_certificate, daemon_that_keeps,
    edited_by_people,
};
pub use error::{CatalogError, ObjectFault};
pub use image::{ImageRef, NotARegistry, NotAnImage, Registry};
pub use images::Image;
pub use options::{
    Conflicts, InvalidOptions, LogLevel, OptionError, Options, Provider, Raw, Reconciler, Rule,
    RuntimeChoice, UpgradePolicy, VersionChoice, parse_options_file,
};
pub use patches::{Patch, PatchFault, Target};
pub use process::{Process, ProcessCheck};
pub use resolve::{Current, Needed, Resolution, Resolved, Why};
pub use schema::{CONFIG_YAML, OptionSchema, OptionType, Schema};
pub use upgrade::Versions;
