//! The end.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures::{StreamExt, stream};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep};
use trainerd_serve::{Limits, events};

use crate::client::{Server, begin, is_closed, read_until};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn shutdown_finishes_requests_and_accepts_no_more() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        async move || {
            entered.notify_one();
            go.notified().await;
            "answered"
        }
    };
    let (mut server, addr) = Server::tcp(Router::new().route("/", get(handler)), Limits::default()).await;
    let mut open = begin(addr, REQUEST).await;
    entered.notified().await;
    server.stop();
    while TcpStream::connect(addr).await.is_ok() {
        sleep(Duration::from_millis(10)).await;
    }
    go.notify_one();
    read_until(&mut open, "answered").await;
    assert!(is_closed(&mut open).await);
    server.ended().await.unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_delay_shutdown() {
    let router = Router::new().route("/", get(|| async { "here" }));
    let limits = Limits { grace: Duration::from_mins(1), ..Limits::default() };
    let (mut server, addr) = Server::tcp(router, limits).await;
    let mut used = begin(addr, REQUEST).await;
    read_until(&mut used, "here").await;
    let _fresh = begin(addr, "").await;
    sleep(Duration::from_millis(50)).await;
    server.stop();
    server.ended().await.unwrap();
}

/// A client that sends at the moment at which its connection closes cannot tell whether it was heard.
#[tokio::test]
async fn keep_alive_clients_are_told_before_the_connection_closes() {
    let router = Router::new().route("/", get(|| async { "here" }));
    let limits = Limits { linger: Duration::from_secs(1), ..Limits::default() };
    let (mut server, addr) = Server::tcp(router, limits).await;
    let mut used = begin(addr, REQUEST).await;
    assert!(!read_until(&mut used, "here").await.contains("connection: close"));
    let _unused = begin(addr, "").await;
    sleep(Duration::from_millis(50)).await;
    server.stop();
    sleep(Duration::from_millis(100)).await;
    used.write_all(REQUEST.as_bytes()).await.unwrap();
    let answer = read_until(&mut used, "here").await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(is_closed(&mut used).await);
    server.ended().await.unwrap();
}

/// On a busy machine the time to close is over before what was sent is read.
#[tokio::test]
async fn a_pending_request_is_answered_before_its_connection_closes() {
    let router = Router::new().route("/", get(|| async { "here" }));
    let limits = Limits { linger: Duration::from_millis(30), ..Limits::default() };
    // Which of the two is looked at first must not be luck.
    for _ in 0..20 {
        let (mut server, addr) = Server::tcp(router.clone(), limits.clone()).await;
        let mut used = begin(addr, REQUEST).await;
        read_until(&mut used, "here").await;
        server.stop();
        sleep(Duration::from_millis(5)).await;
        used.write_all(REQUEST.as_bytes()).await.unwrap();
        // The runtime has this one thread: the server does not run meanwhile.
        std::thread::sleep(Duration::from_millis(60));
        assert!(read_until(&mut used, "here").await.contains("connection: close"));
        server.ended().await.unwrap();
    }
}

#[tokio::test]
async fn shutdown_ends_event_streams_at_once() {
    let (sender, _) = broadcast::channel(4);
    let subscribe = sender.clone();
    let router =
        Router::new().route("/", get(async move || events::stream(subscribe.subscribe(), Vec::new())));
    let limits = Limits { grace: Duration::from_mins(1), ..Limits::default() };
    let (mut server, addr) = Server::tcp(router, limits).await;
    let mut open = begin(addr, REQUEST).await;
    read_until(&mut open, "text/event-stream").await;
    server.stop();
    // The last chunk: the client sees an end, not a break.
    read_until(&mut open, "0\r\n\r\n").await;
    server.ended().await.unwrap();
}

#[tokio::test]
async fn requests_are_cut_off_after_the_grace_period() {
    let endless = || async {
        let first = stream::iter([Ok::<_, Infallible>("begun")]);
        Body::from_stream(first.chain(stream::pending()))
    };
    let never = || pending::<&str>();
    let router = Router::new().route("/", get(endless)).route("/never", get(never));
    let grace = Duration::from_millis(300);
    let (mut server, addr) = Server::tcp(router, Limits { grace, ..Limits::default() }).await;
    let mut open = begin(addr, REQUEST).await;
    read_until(&mut open, "begun").await;
    let mut unanswered = begin(addr, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await;
    sleep(Duration::from_millis(50)).await;
    let start = Instant::now();
    server.stop();
    server.ended().await.unwrap();
    assert!(start.elapsed() >= grace);
    assert!(is_closed(&mut open).await);
    assert!(is_closed(&mut unanswered).await);
}
