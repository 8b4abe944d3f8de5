//! The certificate of the webhooks: made here, kept in a Secret, told to the API server.
//!
//! Made as cert-controller 0.16 makes it, so that a manager of either implementation takes over what the other left:
//! the Secret is there beforehand and is only ever updated, keys are RSA in PKCS#1, names and lifetimes are the same.

mod authority;
mod check;
mod injection;
mod mount;
mod rotation;

pub(crate) use mount::{Mount, NotMounted};
pub(crate) use rotation::{Rotation, RotationError};
