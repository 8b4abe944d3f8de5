//! What there is of a kind, kept up to date by a watch.

mod reflector;
mod store;

pub(crate) use reflector::{Kept, Reflector, strip_job_set, trim};
pub(crate) use store::{Change, Name, Store, Stored};
