//! Why a stage of the tests did not pass.

use super::counts::Counts;
use crate::{cargo, cluster, command, demo, examples, files, foreground, lint};

/// A stage that did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tests failed; they said why.
    #[error("{counts}, in {programs}")]
    Tests {
        /// What was counted.
        counts: Counts,
        /// The programs with failing tests.
        programs: String,
    },
    /// Nothing was run where something should have been.
    #[error("no test was run")]
    NoTest,
    /// A program could not be run, or somebody pressed Ctrl-C.
    #[error(transparent)]
    Run(#[from] foreground::Error),
    /// The tests could not be built.
    #[error(transparent)]
    Build(#[from] cargo::Error),
    /// A check of the code.
    #[error(transparent)]
    Check(#[from] lint::Error),
    /// A cluster could not be started.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The demo went wrong.
    #[error(transparent)]
    Demo(#[from] demo::Error),
    /// A command that prepares a test.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A file that a test needs.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The examples went wrong.
    #[error(transparent)]
    Examples(#[from] examples::Error),
    /// No cluster can be called that.
    #[error("failed to name a cluster {0:?}")]
    Name(String),
    /// A cluster is announced, and not named.
    #[error("TRAINERD_TEST_CLUSTER is `existing`, and KUBECONFIG names no cluster")]
    NoKubeconfig,
    /// A word that says nothing.
    #[error("TRAINERD_TEST_CLUSTER is {0:?}; it may be `existing`, or not set")]
    UnknownWord(String),
}

impl Error {
    /// What to do about it, where that can be told.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::Demo(error) => error.hint(),
            Self::Examples(error) => error.hint(),
            _ => None,
        }
    }
}
