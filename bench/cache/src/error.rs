//! Why there are no figures.

use std::error::Error as StdError;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something that others do.
    #[error("failed to {step}")]
    Step {
        /// What was tried.
        step: String,
        /// Why it failed.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Both sides of a comparison must have sent the same.
    #[error(
        "the bare server sent {bare} messages with {bare_bytes} bytes, the cache {ours} with {our_bytes}"
    )]
    Differs { bare: u64, bare_bytes: u64, ours: u64, our_bytes: u64 },
    /// Something that takes too long.
    #[error("{0} is not there after two minutes")]
    Late(&'static str),
    /// A program that ended badly.
    #[error("the initializer ended with {0}")]
    Initializer(std::process::ExitStatus),
}

/// The error of a step.
pub(crate) fn step<E: Into<Box<dyn StdError + Send + Sync>>>(
    step: impl Into<String>,
) -> impl FnOnce(E) -> Error {
    let step = step.into();
    move |source| Error::Step { step, source: source.into() }
}
