//! `cache://`: the objects of a data cache, made for a TrainJob, and waited for.

pub mod objects;
pub mod run;
pub mod settings;

use trainerd_cluster::{ConnectError, RequestError};

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster cannot be reached.
    #[error("failed to connect to the cluster")]
    Connect(#[from] ConnectError),
    /// The API server refuses.
    #[error("failed to {action}")]
    Request {
        /// What was tried, on which object.
        action: String,
        /// What was answered.
        source: RequestError,
    },
    /// An object of somebody else has the name.
    #[error("{object} exists and does not belong to the TrainJob {job}")]
    Foreign {
        /// Kind and name.
        object: String,
        /// The TrainJob.
        job: String,
    },
    /// The object that was waited for is gone.
    #[error("{0} was deleted while it was waited for")]
    Gone(String),
    /// The cache is not there in time.
    #[error("{object} is not available after {seconds} s: {reason}")]
    Late {
        /// What was waited for.
        object: String,
        /// How long.
        seconds: u64,
        /// Why not, as far as it is known.
        reason: String,
    },
    /// An object without what every object has.
    #[error("{0} has no uid")]
    Uid(String),
}
