//! The one way to talk to Kubernetes.
//!
//! [`Cluster`] is a connection: every request carries the same user agent, has a time limit and answers
//! with a [`RequestError`] that says what happened without anybody reading a message. Around it:
//! [`retry`] waits between attempts and says why, [`Lease`](lease) makes one writer of many, [`watch`] tells of
//! changes, [`permissions`] says beforehand what would be refused.
//!
//! Objects are JSON values throughout: what the API server sent is what a caller gets, unknown fields
//! included.

pub mod builtin;
mod classify;
mod cluster;
mod connect;
mod credentials;
mod discovery;
pub mod endpoints;
mod error;
pub mod event_recorder;
mod forward;
mod kinds;
mod kubeconfig;
pub mod lease;
mod lines;
mod logs;
mod observer;
mod params;
mod path;
pub mod permissions;
mod proxy;
mod rate;
mod redaction;
pub mod retry;
mod transport;
mod verbs;
mod version;
pub mod watch;

pub use cluster::Cluster;
pub use connect::{ConnectError, ConnectOptions, Waits};
pub use credentials::CredentialsError;
pub use error::{Cause, ConflictKind, FieldConflict, RequestError, Retry, TransportFailure, Verb};
pub use logs::{LogLines, LogParams};
pub use observer::{Observer, Request};
pub use params::{
    Applied, ApplyParams, CreateParams, DeleteParams, Deletion, FieldValidation, ListParams, ObjectList,
    Propagation,
};
pub use proxy::{NamedBy, NotAProxy, Proxy};
pub use version::{KubernetesVersion, VersionError};
