//! Observing, executing, waiting, journal and revisions.
//!
//! [`Engine`] brings an installation to a desired state and records it. What is decided is
//! decided by `trainerd-plan`; here it is acted on. A process may be killed between any two requests: the
//! next one finds the journal open and finishes what was begun.

mod adoption;
mod assessment;
pub mod chunk;
mod confirmed;
mod control;
mod damage;
pub mod drift_controller;
mod engine;
pub mod error;
pub mod event;
mod execute;
mod failed;
mod live;
mod namespace;
mod observe;
mod pods;
mod preflight;
mod prepare;
mod prepared;
pub mod record;
mod recover;
pub mod removal;
mod restore;
mod retry;
pub mod revision;
pub mod rights;
mod rollback;
mod run;
mod run_options;
mod run_policy;
mod state;
mod status;
mod step_graph;
mod store;
mod supersede;
mod waits;
mod watches;
mod webhook_probe;
mod write;
mod write_error;

pub use damage::Damage;
pub use engine::Engine;
pub use error::EngineError;
pub use event::{Event, Sink};
pub use execute::Cancel;
pub use pods::PodsChecked;
pub use prepared::Prepared;
pub use run_options::RunOptions;
pub use run_policy::RunPolicy;
pub use state::State;
pub use status::{ComponentStatus, ObjectStatus, Status};
pub use store::{Control, Found, Marker, installations};
