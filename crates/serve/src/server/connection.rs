//! One connection, from its first request to its last.

use std::convert::Infallible;
use std::pin::pin;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tower_service::Service;

use super::Limits;
use super::body;
use crate::auth::Identity;

/// hyper takes no smaller buffer.
const LEAST_BUFFER: usize = 8 << 10;

/// That the server was told to stop.
#[derive(Clone, Debug)]
pub(super) struct Closing(watch::Receiver<()>);

impl Closing {
    /// Stops when the sending half is dropped.
    pub(super) fn new(open: watch::Receiver<()>) -> Self {
        Self(open)
    }

    /// Whether the server was told to stop.
    fn is_told(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Done once the server was told to stop.
    pub(super) async fn told(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// A connection whose other end may be known before it says anything.
pub trait Peer {
    /// Who that is, as the system vouches for it.
    fn identity(&self) -> Option<Identity>;
}

impl Peer for UnixStream {
    /// The user of the process that connected, as `uid N`: names are a matter of the machine's own tables.
    fn identity(&self) -> Option<Identity> {
        let user = self.peer_cred().ok()?.uid();
        Some(Identity { name: format!("uid {user}"), groups: Vec::new() })
    }
}

impl Peer for TcpStream {
    fn identity(&self) -> Option<Identity> {
        None
    }
}

impl Peer for TlsStream<TcpStream> {
    fn identity(&self) -> Option<Identity> {
        None
    }
}

/// Answers requests until the client is done, or the server closes and the request in progress is answered.
pub(super) async fn answer<I>(io: I, router: Router, limits: Limits, closing: Closing)
where
    I: AsyncRead + AsyncWrite + Peer + Unpin + Send + 'static,
{
    let identity = io.identity();
    let linger = limits.linger;
    let told = {
        let told = closing.clone().told();
        async move {
            told.await;
            if !linger.is_zero() {
                tokio::time::sleep(linger).await;
            }
        }
    };
    let body_time = limits.body_time;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        let (closing, identity) = (closing.clone(), identity.clone());
        async move {
            let mut request = request.map(|incoming| body::within(Body::new(incoming), body_time));
            if let Some(identity) = identity {
                request.extensions_mut().insert(identity);
            }
            let response: Result<Response, Infallible> = router.call(request).await;
            response.map(|mut response| {
                if closing.is_told() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                body::ending_with(response, closing.told())
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(LEAST_BUFFER))
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // First what has come already: a connection that is told to end while a request waits to be read would be closed
        // over it, and whoever sent it cannot tell whether it was acted on.
        biased;
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke off");
    }
}
