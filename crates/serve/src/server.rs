//! Answering requests within bounds, until told to stop.

mod body;
mod connection;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::serve::Listener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

pub(crate) use body::ending_with;
pub use connection::Peer;
use connection::{Closing, answer};

/// What a client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time for the head of a request to arrive; also how long an unused connection stays open.
    pub header_time: Duration,
    /// Most bytes of a request's head.
    pub header_bytes: usize,
    /// Time for the body of a request to arrive.
    pub body_time: Duration,
    /// Most bytes of a body an extractor reads. A route's own [`DefaultBodyLimit`] layer rules over it.
    pub body_bytes: usize,
    /// Most connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// Time that requests in progress get once the server is told to stop.
    pub grace: Duration,
    /// Time that unused connections stay open once the server is told to stop. What is asked on one of them meanwhile is
    /// answered, and the answer says that it closes: a client that keeps connections is reported before one is taken from it
    /// while it sends. Part of the grace.
    pub linger: Duration,
}

impl Default for Limits {
    /// 10 s and 64 KiB for the head, 30 s and 1 MiB for the body, 512 connections, and 5 s to end,
    /// which unused connections do not wait for.
    fn default() -> Self {
        Self {
            header_time: Duration::from_secs(10),
            header_bytes: 64 << 10,
            body_time: Duration::from_secs(30),
            body_bytes: 1 << 20,
            connections: 512,
            grace: Duration::from_secs(5),
            linger: Duration::ZERO,
        }
    }
}

/// Why the server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A handler panicked. What it left behind is unknown, so nothing continues.
    #[error("failed to answer a request")]
    Panicked {
        /// The panic.
        #[source]
        source: JoinError,
    },
}

/// Serves with the default [`Limits`]; see [`serve_within`].
pub async fn serve(
    listener: impl Listener<Io: Peer>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    serve_within(&Limits::default(), listener, router, shutdown).await
}

/// Answers HTTP/1.1 requests with `router` until `shutdown` is done.
///
/// Then no connection is accepted any more, unused ones close, [event streams](crate::events) end, and requests
/// in progress have [`Limits::grace`] to be answered; what is open after that is cut off and reported as a warning.
/// The listener is dropped before that wait, so that a successor may take its place.
///
/// Where the other end of a connection is known to be a user of this machine, handlers find that user's
/// [`Identity`](crate::auth::Identity) among the request's extensions.
///
/// Dropping the future cuts everything off at once.
pub async fn serve_within(
    limits: &Limits,
    mut listener: impl Listener<Io: Peer>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let router = router.layer(DefaultBodyLimit::max(limits.body_bytes));
    let (open, closing) = watch::channel(());
    let closing = Closing::new(closing);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => check(ended)?,
            (io, _) = listener.accept(), if connections.len() < limits.connections => {
                connections.spawn(answer(io, router.clone(), limits.clone(), closing.clone()));
            }
        }
    }
    drop(listener);
    drop(open);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            check(ended)?;
        }
        Ok(())
    };
    if let Ok(ended) = timeout(limits.grace, drained).await {
        return ended;
    }
    tracing::warn!(connections = connections.len(), "failed to answer every request before the end");
    connections.shutdown().await;
    Ok(())
}

fn check(ended: Result<(), JoinError>) -> Result<(), ServeError> {
    match ended {
        Err(source) if source.is_panic() => Err(ServeError::Panicked { source }),
        Ok(()) | Err(_) => Ok(()),
    }
}
