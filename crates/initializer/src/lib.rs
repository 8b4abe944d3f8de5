//! The initializers of the Kubeflow Trainer stack: they bring a dataset or a model to the volume of a TrainJob, or
//! make the data cache that its ranks read from.
//!
//! A *source* lists files and reads ranges of them. [`download`] brings the files to the target: in parallel, in
//! parts that are gone on with after whatever ended the last attempt, verified, and renamed into place whole.

pub mod config;
pub mod digest;
pub mod download;
pub mod error;
pub mod exit;
pub mod log;
pub mod name;
pub mod part;
pub mod pattern;
pub mod progress;
pub mod provision;
pub mod record;
pub mod retry;
pub mod run;
pub mod select;
pub mod source;
pub mod target;
pub mod uri;
