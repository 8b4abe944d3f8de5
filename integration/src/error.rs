//! Why a test could not be run.

use std::path::PathBuf;

use trainerd_cluster::{ConnectError, RequestError};

/// Why a test could not be run. What the product does wrong is no error here: it is what tests look at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a process.
    #[error("failed to {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or program.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A program ended in another way than it should.
    #[error("failed to run {command}: {output}")]
    Command {
        /// Its command line.
        command: String,
        /// What it wrote to stderr.
        output: String,
    },
    /// Something that is not JSON, or not what it should be.
    #[error("failed to read {what}")]
    Json {
        /// What was read.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Something is missing.
    #[error("failed to find {0}")]
    Missing(String),
    /// Somebody's cluster has an installation that is not these tests'.
    #[error(
        "failed to begin: the cluster of KUBECONFIG has an installation already; \
         `trainerd remove --purge` takes it away, if nobody needs it"
    )]
    InTheWay,
    /// No connection to the cluster.
    #[error("failed to connect to the cluster")]
    Connect(#[from] ConnectError),
    /// The API server refused something.
    #[error("failed to ask the API server")]
    Request(#[from] RequestError),
    /// The API server refused something that was asked of it directly.
    #[error("failed to ask the API server")]
    Client(#[from] kube::Error),
    /// A request cannot be made.
    #[error("failed to make a request")]
    Http(#[from] http::Error),
    /// No stand-in.
    #[error("failed to start the stand-in")]
    StandIn(#[from] crate::standin::Error),
    /// No proxy.
    #[error("failed to start the proxy")]
    Proxy(#[from] crate::proxy::Error),
    /// etcd gives no answer.
    #[error("failed to talk to etcd")]
    Etcd(#[from] hyper::Error),
    /// etcd gives another answer than was hoped for.
    #[error("failed to change etcd: {0}")]
    EtcdAnswer(String),
    /// The cluster did not come to rest.
    #[error("failed to see the cluster at rest within {seconds} s: {what}")]
    Restless {
        /// How long was waited.
        seconds: u64,
        /// What kept changing or was missing.
        what: String,
    },
}

impl Error {
    /// An error of a file or a process.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An error of reading JSON.
    pub fn json(what: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json { what, source }
    }
}
