//! Why a step's request was given up.

use trainerd_cluster::RequestError;
use trainerd_cluster::lease::LeaseLost;

/// Why a step's request was given up.
pub(crate) enum WriteError {
    /// The last answer.
    Request(RequestError),
    /// The object that was to go is no longer the installation's.
    ChangedHands,
    /// The object that was to be made was made by somebody else, and is as they made it.
    Overtaken {
        /// By whom.
        owner: String,
    },
    /// As [`Self::Overtaken`], and what was added to it could not be taken back.
    NotGivenBack(RequestError),
    /// The right to write was lost before it was sent.
    LeaseLost(LeaseLost),
}

impl From<RequestError> for WriteError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}
