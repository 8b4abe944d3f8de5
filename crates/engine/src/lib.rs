//! Observing, executing, waiting, journal and revisions.
//!
//! [`Engine`] brings an installation to a desired state and keeps the account of it. What is decided is
//! decided by `trainerd-plan`; here it is acted on. A process may be killed between any two requests: the
//! next one finds the journal open and finishes what was begun.

mod admission;
mod adoption;
pub mod chunk;
mod confirmed;
mod damage;
mod engine;
pub mod error;
pub mod event;
mod execute;
mod failed;
mod live;
mod observe;
mod place;
mod pods;
mod preflight;
pub mod record;
mod recover;
pub mod removal;
mod retry;
pub mod revision;
mod rollback;
mod standing;
mod state;
mod status;
mod store;
mod supersede;
mod terms;
pub mod upkeep;
mod walk;
mod watches;
mod write;

pub use damage::Damage;
pub use engine::{Engine, Prepared, RunOptions};
pub use error::EngineError;
pub use event::{Event, Sink};
pub use execute::Cancel;
pub use pods::PodsChecked;
pub use state::State;
pub use status::{ComponentStatus, ObjectStatus, Status};
pub use store::{Found, Note, Standing, installations};
pub use terms::Terms;
