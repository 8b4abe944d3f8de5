//! A client of a few lines, and a server to ask.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use trainerd_serve::server::Peer;
use trainerd_serve::{Limits, ServeError, listen, serve_within};

/// Much more than anything here takes, and less than any limit that must not be reached.
pub(crate) const SOON: Duration = Duration::from_secs(3);

/// A server that runs until it is told to stop.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub(crate) fn start(listener: impl Listener<Io: Peer>, router: Router, limits: Limits) -> Self {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(async move { serve_within(&limits, listener, router, shutdown).await });
        Self { stop: Some(stop), task }
    }

    /// On a free port of loopback.
    pub(crate) async fn tcp(router: Router, limits: Limits) -> (Self, SocketAddr) {
        let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        (Self::start(listener, router, limits), addr)
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// How it ended; it must soon.
    pub(crate) async fn ended(self) -> Result<(), ServeError> {
        timeout(SOON, self.task).await.expect("the server ends").unwrap()
    }
}

/// Asks for one thing and reads until the connection closes.
pub(crate) async fn get(io: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    exchange(io, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

/// Asks with a body of that many bytes.
pub(crate) async fn post(io: impl AsyncRead + AsyncWrite + Unpin, path: &str, bytes: usize) -> String {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n");
    exchange(io, &(head + &"x".repeat(bytes))).await
}

pub(crate) async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    let mut answer = Vec::new();
    let exchanged = async {
        // A server may have answered, and closed, before it was asked in full.
        let _ = io.write_all(request.as_bytes()).await;
        let _ = io.read_to_end(&mut answer).await;
    };
    timeout(SOON, exchanged).await.expect("an answer in time");
    String::from_utf8(answer).unwrap()
}

/// Sends a request and leaves the connection open.
pub(crate) async fn begin(addr: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until `text` was seen, and gives all that was read.
pub(crate) async fn read_until(io: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut seen = String::new();
    let mut piece = [0; 4096];
    let mut looked = 0;
    // Texts are ASCII here, so that every place is a boundary.
    while !seen[looked..].contains(text) {
        looked = seen.len().saturating_sub(text.len());
        let read = timeout(SOON, io.read(&mut piece)).await.expect("more to read in time").unwrap();
        assert_ne!(read, 0, "closed after {seen:?}");
        seen.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    seen
}

/// Whether the other side has closed, or does soon.
pub(crate) async fn is_closed(io: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    timeout(SOON, io.read_to_end(&mut rest)).await.is_ok()
}
