//! What can go wrong between a source and the target.

use std::path::PathBuf;
use std::time::Duration;

/// Any cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why files could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source refuses: 401, 403.
    #[error("{what} is denied: {why}")]
    Denied {
        /// On what.
        what: String,
        /// What the source said.
        why: String,
    },
    /// A repository that wants its terms accepted.
    #[error("{0} is a gated repository, and this token has no access to it")]
    Gated(String),
    /// The source has no such thing.
    #[error("{what} does not exist{why}")]
    NotFound {
        /// What.
        what: String,
        /// More about it, or nothing.
        why: String,
    },
    /// Files there are, but none is wanted.
    #[error("none of the {listed} files of {uri} is wanted by the patterns")]
    NothingMatched {
        /// Where.
        uri: String,
        /// How many there are.
        listed: usize,
    },
    /// The source does not take the request: 4xx.
    #[error("{what} was refused with status {status}: {why}")]
    Refused {
        /// On what.
        what: String,
        /// HTTP status.
        status: u16,
        /// What the source said.
        why: String,
    },
    /// The source is busy or out of order: 408, 429, 5xx.
    #[error("{what} was answered with status {status}")]
    Busy {
        /// On what.
        what: String,
        /// HTTP status.
        status: u16,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
    /// No answer, or one that was cut off.
    #[error("{what} was interrupted")]
    Interrupted {
        /// On what.
        what: String,
        /// How.
        source: Cause,
    },
    /// No connection: nobody listens there, or the name has no address. A server that is starting is so.
    #[error("{what} cannot be reached")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// Why.
        source: Cause,
    },
    /// It could not be reached for as long as it is waited for.
    #[error("{what} could not be reached for {seconds} s")]
    Absent {
        /// What was asked for.
        what: String,
        /// How long.
        seconds: u64,
        /// The last failure.
        source: Box<Self>,
    },
    /// Attempts are used up.
    #[error("{what} failed {attempts} times without getting on")]
    Exhausted {
        /// What.
        what: String,
        /// How often.
        attempts: u32,
        /// The last failure.
        source: Box<Self>,
    },
    /// An answer that makes no sense.
    #[error("{what} was answered with something unexpected: {why}")]
    Answer {
        /// On what.
        what: String,
        /// What it was.
        why: String,
    },
    /// The source is another one than when it was listed.
    #[error("{what} changed while it was read: {why}")]
    Changed {
        /// Which file.
        what: String,
        /// How that was seen.
        why: String,
    },
    /// The bytes are not those that the source promised.
    #[error("{what} has the {kind} {found} instead of {expected}")]
    Digest {
        /// Which file.
        what: String,
        /// Kind of digest.
        kind: &'static str,
        /// By the source.
        expected: String,
        /// Of the bytes.
        found: String,
    },
    /// A file that cannot be placed below the target.
    #[error(transparent)]
    Name(#[from] crate::name::Error),
    /// Two files that would be one.
    #[error("{0} and {1} of the source would be the same file or folder")]
    Clash(String, String),
    /// The files do not fit.
    #[error("the files need {needed} more bytes, and {target} has {free} free")]
    Space {
        /// Where.
        target: String,
        /// Bytes that are missing.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A symbolic link where a file or folder is to be.
    #[error("{0} is a symbolic link; what is behind it is not written to")]
    Link(PathBuf),
    /// The target cannot be written to.
    #[error("failed to {action} {path}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A client that cannot be made, or variables that contradict each other.
    #[error("failed to use the source {uri}")]
    Source {
        /// Without credentials.
        uri: String,
        /// Why.
        source: Cause,
    },
    /// A task ended early.
    #[error("failed to go on: a task ended early")]
    Task(#[source] tokio::task::JoinError),
}

impl Error {
    /// Whether the same request may succeed, and how long the source wants to be left alone.
    pub fn retry(&self) -> Option<Option<Duration>> {
        match self {
            Self::Busy { after, .. } => Some(*after),
            Self::Interrupted { .. } | Self::Unreachable { .. } => Some(None),
            _ => None,
        }
    }

    /// A failure on a path.
    pub fn disk(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { action, path, source }
    }
}
