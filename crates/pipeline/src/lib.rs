//! What becomes of a TrainJob. Three pure functions, and what they stand on:
//!
//! * [`build()`]: runtime, TrainJob and facts of the cluster → the objects to apply, or why there are none;
//! * [`validate()`]: runtime, old and new TrainJob, facts → warnings and errors of admission;
//! * [`status::reconcile`]: TrainJob, JobSet and the time → the status to write, what else to do, and when to look again.
//!
//! Around them, as pure: what becomes of an OptimizationJob ([`optimization`]), defaulting of TrainJobs ([`defaulting`]), admission of runtimes ([`runtime_admission`]), the
//! snapshot of a runtime ([`snapshot`]), the configuration file ([`config`]) and the requests of the status server
//! ([`status_server`]).
//!
//! Behaviour is that of Kubeflow Trainer 2.3 in [`Compatibility::Upstream`]; [`Compatibility::Extended`] fixes what its users report.
//! Nothing here reads a clock, an environment or a cluster: the same arguments give the same answer.

pub mod api_server;
mod build;
pub mod config;
pub mod defaulting;
mod domain_path;
mod facts;
mod field_error;
mod go;
mod info;
mod live_order;
pub mod names;
pub mod optimization;
mod patches;
mod plugins;
mod requests;
pub mod runtime_admission;
mod runtime_ref;
pub mod snapshot;
mod ssh;
pub mod status;
pub mod status_server;
mod upsert;
mod validate;
mod value;
mod wire;
mod yaml;

pub use build::{BuildError, build};
pub use facts::{BuildProfile, Compatibility, Facts, Lookup, SshKey, SshKeySource};
pub use field_error::{Cause, FieldError, aggregate};
pub use plugins::volcano::priority_classes;
pub use runtime_ref::{
    RuntimeError, RuntimeKind, UnsupportedRuntime, is_runtime_of, not_found, runtime_kind, runtime_location,
    runtime_not_found,
};
pub use ssh::FixedSshKey;
pub use trainerd_schema::Quantity;
pub use validate::{Verdict, needs_runtime, validate};
