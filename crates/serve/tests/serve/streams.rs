//! Events over a real socket.

use axum::Router;
use axum::routing::get;
use tokio::sync::broadcast;
use trainerd_serve::{Event, Limits, events};

use crate::client::{Server, begin, read_until};

fn event(id: u64) -> Event {
    Event::new(id, "status", &"x".repeat(10_000)).unwrap()
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody() {
    let (sender, _) = broadcast::channel(4);
    let subscribe = sender.clone();
    let handler = async move || events::stream(subscribe.subscribe(), vec![event(0)]);
    let (_server, addr) = Server::tcp(Router::new().route("/", get(handler)), Limits::default()).await;
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut slow, mut quick) = (begin(addr, request).await, begin(addr, request).await);
    read_until(&mut slow, "id: 0\n").await;
    read_until(&mut quick, "id: 0\n").await;
    // More than all the buffers on the way hold.
    for id in 1..=2000 {
        sender.send(event(id)).unwrap();
        read_until(&mut quick, &format!("id: {id}\n")).await;
    }
    let seen = read_until(&mut slow, "id: 2000\n").await;
    assert!(seen.contains("event: lagged\ndata: {\"missed\":"), "{}", seen.len());
}
