//! The Trainer controller.
//!
//! What is to be made of a TrainJob, and whether one is admitted, is decided by `trainerd-pipeline`, which is pure. Here
//! is what is thin around it: [`run`] starts a manager that keeps caches of what there is, hands what it finds to the
//! pipeline, writes what comes out, and answers webhooks, probes and scrapes.
//!
//! For everything that talks to it, it is the controller manager of Kubeflow Trainer: the same flags, configuration
//! file, ports, names, certificates and lease.

mod address;
mod cache;
mod certificates;
mod controller;
mod controllers;
mod dial;
mod election;
mod facts;
pub mod flags;
mod keys;
mod kinds;
pub mod log;
mod lookup;
mod manager;
mod merge;
mod metrics;
mod metrics_auth;
mod optimization;
mod probes;
mod queue;
mod report_auth;
mod runtimes;
mod servers;
mod settings;
mod snapshots;
mod status_server;
mod stores;
mod trainjob;
mod webhook;
mod webhook_handlers;

pub use address::AddressError;
pub use election::ElectionError;
pub use flags::Flags;
pub use keys::RandomKeys;
pub use manager::{ManagerError, run};
pub use metrics::descriptions as metric_descriptions;
pub use settings::{Environment, Hosted, SettingsError};
