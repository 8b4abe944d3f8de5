//! Why the examples could not be run.

use crate::image::{product, training};
use crate::{cargo, cluster, command, demo, foreground, python};

/// Examples that could not be run, or did not do what they should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such example.
    #[error("failed to find an example {name}: there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// An example went wrong.
    #[error("failed to see {0}")]
    NotSeen(String),
    /// Some examples went wrong.
    #[error("failed: {0}")]
    Some(String),
    /// What the stack would be installed for is not there.
    #[error("failed to begin: the cluster of KUBECONFIG has no installation of trainerd")]
    NotInstalled,
    /// Trainerd could not be built.
    #[error("failed to build trainerd")]
    Build(#[from] cargo::Error),
    /// Trainerd's image could not be made.
    #[error(transparent)]
    Product(#[from] product::Error),
    /// A training image could not be made.
    #[error(transparent)]
    Image(#[from] training::Error),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Trainerd or kubectl on it.
    #[error(transparent)]
    Scene(#[from] demo::Error),
    /// A program.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A signal.
    #[error(transparent)]
    Foreground(#[from] foreground::Error),
    /// The packages of a script.
    #[error("failed to install what an example's script needs")]
    Python(#[from] python::Error),
    /// A file.
    #[error(transparent)]
    Files(#[from] crate::files::Error),
}

impl Error {
    /// What to do about it, where that can be told.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image(error) => error.hint(),
            Self::Cluster(error) => error.hint(),
            Self::Scene(error) => error.hint(),
            Self::NotInstalled => Some(
                "`trainerd up` installs it; unset KUBECONFIG for a cluster that is started and installed for this"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
