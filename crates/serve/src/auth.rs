//! Who asks: bearer tokens in front of a router.

mod cache;
mod expiry;
mod layer;
mod limit;

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;

pub use expiry::audiences;
use layer::{CachedAuthenticator, admit};

/// Who asks: somebody whose token was good, or, on a unix socket, the user of the process at the other end. Handlers
/// find it among the request's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name.
    pub name: String,
    /// Groups the user is in.
    pub groups: Vec<String>,
}

/// Why a token is refused. No text in here holds the token: those who make one see to that.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Nobody's token, or one that is no longer valid: 401.
    #[error("failed to recognise the token")]
    BadToken,
    /// Somebody's, who may not do this: 403.
    #[error("failed to admit {name}: {reason}")]
    Forbidden {
        /// Whose it is.
        name: String,
        /// What is missing.
        reason: String,
    },
    /// Whoever knows cannot be asked: 503, and asked again next time.
    #[error("failed to ask whose token it is")]
    Unavailable {
        /// What went wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Tells whose a token is.
pub trait Authenticator: Send + Sync + 'static {
    /// Whose token this is, and whether they are welcome. An implementation is an `async fn`.
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<Identity, Denied>> + Send;
}

/// How long an answer counts.
#[derive(Clone, Copy, Debug)]
pub struct Caching {
    /// Time after which the authenticator is asked again: a token that was revoked works for that long at most.
    pub time: Duration,
    /// Most answers that are remembered, about 200 bytes each.
    pub entries: usize,
}

impl Default for Caching {
    /// 10 s, 256 answers.
    fn default() -> Self {
        Self { time: Duration::from_secs(10), entries: 256 }
    }
}

/// The routes behind a check: requests need an `Authorization: Bearer` that `authenticator` accepts. Others are
/// answered with a [`Problem`](crate::Problem): 401 without a good token, 403 where it is not enough, 503 where nobody can tell.
///
/// Good answers and bad ones are remembered by the token's SHA-256. The header does not reach the handlers, so that
/// no log of theirs can hold a token.
///
/// The authenticator is asked about 20 tokens at once that were never good, and about two more a second; four at a time
/// are in progress. Beyond that the answer is 429. Tokens that were good within the last hour do not count.
///
/// An [event stream](crate::events) ends when its token does: at the time that a JWT names, and within half a minute
/// after the authenticator no longer accepts it.
pub fn require<A: Authenticator>(routes: Router, authenticator: A, caching: Caching) -> Router {
    let auth = Arc::new(CachedAuthenticator::new(authenticator, caching));
    routes.layer(from_fn_with_state(auth, admit::<A>))
}
