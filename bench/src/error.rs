//! Why there are no figures.

use std::io;
use std::process::ExitStatus;

use trainerd_catalog::{InvalidOptions, LoadError, RenderError, ResolveError};
use trainerd_cluster::{ConnectError, RequestError};
use trainerd_engine::EngineError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection.
    #[error("failed to connect to the cluster")]
    Connect(#[from] ConnectError),
    /// A request of the bench's own, or of the bare client, failed.
    #[error("failed to {action} {what}")]
    Request {
        /// What was tried.
        action: &'static str,
        /// On what.
        what: String,
        /// The answer.
        #[source]
        source: Box<RequestError>,
    },
    /// The engine did not do what it is measured at.
    #[error("failed to {action}")]
    Engine {
        /// What it was to do.
        action: &'static str,
        /// Why it did not.
        #[source]
        source: Box<EngineError>,
    },
    /// There is no catalog.
    #[error("failed to load the catalog")]
    Load(#[from] Box<LoadError>),
    /// The stack's versions do not go together.
    #[error("failed to choose the versions of the stack")]
    Resolve(#[from] Box<ResolveError>),
    /// The stack cannot be rendered.
    #[error("failed to render the stack")]
    Render(#[from] Box<RenderError>),
    /// The stack's options are not what the catalog takes.
    #[error("failed to read the options of the stack")]
    Options(#[from] InvalidOptions),
    /// A file or process could not be had.
    #[error("failed to {action}")]
    Io {
        /// What was tried, on what.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The cluster of the tests, or the daemon in it, did not do its part.
    #[error("failed at the cluster of the tests")]
    Tests(#[from] trainerd_integration::Error),
    /// Another program failed.
    #[error("failed: {command} ({status}): {stderr}")]
    Program {
        /// Its command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// What a Secret holds is no base64.
    #[error("failed to read Secret {name}")]
    Secret {
        /// Which.
        name: String,
        /// What is wrong.
        #[source]
        source: base64::DecodeError,
    },
    /// What was measured is not what the figure is about.
    #[error("failed to measure: {0}")]
    Unexpected(String),
}

impl Error {
    /// An [`Error::Io`].
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// An [`Error::Request`].
    pub(crate) fn request(
        action: &'static str,
        what: impl Into<String>,
    ) -> impl FnOnce(RequestError) -> Self {
        let what = what.into();
        move |source| Self::Request { action, what, source: Box::new(source) }
    }

    /// An [`Error::Engine`].
    pub(crate) fn engine(action: &'static str) -> impl FnOnce(EngineError) -> Self {
        move |source| Self::Engine { action, source: Box::new(source) }
    }
}
