//! Why the demo could not continue.

use crate::image::product;
use crate::{cargo, cluster, command, foreground};

/// A demo that could not continue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Trainerd could not be built.
    #[error("failed to build trainerd")]
    Build(#[from] cargo::Error),
    /// Trainerd's image could not be made.
    #[error(transparent)]
    Image(#[from] product::Error),
    /// The cluster, or one of its programs.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Trainerd itself; what it said has been seen already.
    #[error(transparent)]
    Trainerd(#[from] foreground::Error),
    /// A look at the cluster.
    #[error(transparent)]
    Kubectl(#[from] command::Error),
    /// What was printed could not be read.
    #[error("failed to read what {program} printed")]
    Answer {
        /// The program.
        program: &'static str,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// Somebody's cluster holds something that the demo would make.
    #[error("failed to begin: the cluster has {0} already")]
    InTheWay(&'static str),
    /// The cluster is not as it should be after a step.
    #[error("unexpected result: {0}")]
    Broken(String),
    /// A TrainJob failed.
    #[error("TrainJob {name} failed: {why}")]
    JobFailed {
        /// Its name.
        name: String,
        /// The message of its condition.
        why: String,
    },
    /// A TrainJob took too long.
    #[error("failed to see TrainJob {name} {what} within {seconds} s; its pods: {pods}")]
    TimedOut {
        /// Its name.
        name: String,
        /// "run" or "complete".
        what: &'static str,
        /// The bound.
        seconds: u64,
        /// Its pods with their phases.
        pods: String,
    },
}

impl Error {
    /// What to do about it, where that can be told.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::InTheWay(_) => Some(format!(
                "unset KUBECONFIG for a cluster of its own, or clear this one: {}",
                super::CLEARING.join(", ")
            )),
            _ => None,
        }
    }
}
