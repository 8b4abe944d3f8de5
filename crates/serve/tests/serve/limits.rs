//! What a client may cost.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use trainerd_serve::{Limits, ServeError};

use crate::client::{self, Server, begin, is_closed, read_until};

fn router() -> Router {
    let length = |body: Bytes| async move { body.len().to_string() };
    let large = post(length).layer(DefaultBodyLimit::max(1 << 20));
    Router::new()
        .route("/", get(|| async { "here" }))
        .route("/length", post(length))
        .route("/large", large)
        .route("/panic", get(panics))
}

async fn panics() -> &'static str {
    panic!("as asked for")
}

#[tokio::test]
async fn bodies_are_limited_per_route() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let (_server, addr) = Server::tcp(router(), limits).await;
    let cases = [("/length", 1000, "200"), ("/length", 1001, "413"), ("/large", 100_000, "200")];
    for (path, bytes, status) in cases {
        let answer = client::post(TcpStream::connect(addr).await.unwrap(), path, bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {bytes}: {answer}");
        assert!(status != "200" || answer.ends_with(&bytes.to_string()), "{answer}");
    }
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_off() {
    let brief = Duration::from_millis(200);
    let limits = Limits { header_time: brief, body_time: brief, ..Limits::default() };
    let (_server, addr) = Server::tcp(router(), limits).await;
    for request in
        ["", "GET / HTTP/1.1\r\nHost:", "POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx"]
    {
        let start = Instant::now();
        let mut slow = begin(addr, request).await;
        assert!(is_closed(&mut slow).await, "{request:?}");
        assert!(start.elapsed() >= brief, "{request:?}");
    }
}

#[tokio::test]
async fn large_heads_are_refused() {
    let (_server, addr) = Server::tcp(router(), Limits::default()).await;
    for (bytes, status) in [(10_000, "200"), (100_000, "431")] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(bytes));
        let answer = client::exchange(TcpStream::connect(addr).await.unwrap(), &request).await;
        // The refusal may be lost: the connection is reset while we still send.
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) || (bytes > 65536 && answer.is_empty()),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let (_server, addr) = Server::tcp(router(), limits).await;
    let mut first = begin(addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_until(&mut first, "here").await;
    let mut second = begin(addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let early = timeout(Duration::from_millis(200), read_until(&mut second, "here")).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    read_until(&mut second, "here").await;
}

#[tokio::test]
async fn a_panic_ends_the_server_with_its_cause() {
    let (server, addr) = Server::tcp(router(), Limits::default()).await;
    let answer = client::get(TcpStream::connect(addr).await.unwrap(), "/panic").await;
    assert_eq!(answer, "");
    let ServeError::Panicked { source } = server.ended().await.unwrap_err();
    assert_eq!(*source.into_panic().downcast::<&str>().unwrap(), "as asked for");
}
