//! Hosted processes: started in order, restarted with backoff, checked, stopped within a bound.
//!
//! The semantics are those of Pebble, the service manager of workload containers: what a [`Service`] is to do next is
//! decided by a [`Machine`], which has no process and no clock; what its checks say is counted by a [`CheckCount`]. The
//! [`Supervisor`] is what is thin around them: one task a service, which spawns, signals, reads output and asks.
//!
//! # Guarantees
//! * There is at most one process of a service: the next one is spawned once the one before was waited for.
//! * Each process leads a process group of its own, and signals go to the group.
//! * A stop ends after [`Policy::kill_delay`] and [`Policy::kill_bound`] together, with a failure if the process is still
//!   there.
//! * With a [`Guard`] no process outlives the supervisor's, however that ends.

mod check;
mod graph;
mod guard;
mod http;
mod machine;
mod policy;
mod process;
mod report;
mod ring;
mod service;
mod supervisor;

pub use check::{Check, CheckCount, Health, OnFailure};
pub use graph::{After, GraphError};
pub use guard::{Guard, GuardError};
pub use machine::{Action, AfterStop, Event, IllegalTransition, Machine, Moment, State};
pub use policy::{OnExit, Policy};
pub use process::{Launch, LaunchError};
pub use report::{Cause, Failure, Report, ServiceState};
pub use ring::Ring;
pub use service::{Prepare, Service};
pub use supervisor::{Stopped, Supervisor};
