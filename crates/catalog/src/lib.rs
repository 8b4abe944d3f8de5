//! Components, versions, options and images, rendered into [`Desired`](trainerd_plan::desired::Desired).
//!
//! ```text
//! config.yaml ──► Schema ─┐
//! templates/ ───► Catalog ┴► parse_options ──► resolve ──► render ──► Desired
//!                            what was given     versions    objects
//! ```
//!
//! Pure: no cluster, no clock, no environment. The same options and versions give the same bytes. What is
//! wrong is found as early as it can be, and all of it at once: values by themselves in [`Catalog::parse_options`],
//! values against each other in [`Catalog::resolve`].

mod catalog;
mod component;
mod daemon;
mod embedded;
mod image;
mod images;
mod kubernetes;
mod names;
mod nearest;
mod need;
mod options;
mod patched;
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

pub use catalog::{Catalog, LoadError, LookupError};
pub use component::Dangling;
pub use daemon::{
    Bootstrap, DAEMON_OPTIONS, DAEMON_VIEWER, daemon_audience, daemon_certificate, daemon_that_keeps,
    edited_by_people,
};
pub use image::{ImageRef, NotARegistry, NotAnImage, Registry};
pub use images::{Image, ImagesError};
pub use kubernetes::KubernetesError;
pub use names::DAEMON;
pub use need::{Needed, UnmetNeed};
pub use options::{
    Conflicts, InvalidOptions, LogLevel, OptionError, Options, OptionsFileError, Provider, Raw, Reconciler,
    Rule, RuntimeChoice, UpgradePolicy, VersionChoice, parse_options_file,
};
pub use patches::{Patch, PatchFault, Target};
pub use process::{Process, ProcessCheck};
pub use render::{ObjectFault, RenderError};
pub use resolve::{Current, Resolution, ResolveError, Resolved, Why};
pub use schema::{CONFIG_YAML, OptionSchema, OptionType, Schema, SchemaError};
pub use templates::TemplateError;
pub use upgrade::{UpgradeError, Versions};
