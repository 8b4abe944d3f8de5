//! Requests that meet trouble.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use trainerd_cluster::retry::{RetryPolicy, with_retry};
use trainerd_cluster::{Cluster, RequestError, TransportFailure};

use crate::server::{Reply, Server, configmap, configmaps, connect_to, ok};

/// A server that answers `reply` until the given request, from 1, which succeeds.
async fn troubled(good: usize, reply: impl Fn() -> Reply + Send + 'static) -> (Server, Cluster) {
    let mut requests = 0;
    let server = Server::start(move |_| {
        requests += 1;
        if requests >= good { ok(&configmap("a", 1)) } else { reply() }
    })
    .await;
    let cluster = server.connect().await;
    (server, cluster)
}

#[tokio::test]
async fn retry_after_of_a_busy_server_is_respected() {
    let (server, cluster) = troubled(2, || {
        Reply::Answer(
            429,
            vec![("retry-after", "1".to_owned())],
            "Too many requests, please try again later.\n".to_owned(),
        )
    })
    .await;
    let start = Instant::now();
    let mut reasons = Vec::new();
    let observe =
        |wait: &trainerd_cluster::retry::RetryWait<'_>| reasons.push((wait.attempt, wait.error.to_string()));
    with_retry(&RetryPolicy::default(), None, observe, async |_| {
        cluster.get(&configmaps(), Some("ns"), "a").await
    })
    .await
    .unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.log().len(), 2);
    assert_eq!(reasons, [(1, "Too many requests, please try again later.".to_owned())]);
}

#[tokio::test]
async fn the_client_library_does_not_retry() {
    for code in [429, 503, 504] {
        let (server, cluster) = troubled(9, move || Reply::Answer(code, vec![], String::new())).await;
        let error = cluster.get(&configmaps(), Some("ns"), "a").await.unwrap_err();
        assert!(error.retry().is_some(), "{error:?}");
        assert_eq!(server.log().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn a_broken_connection_is_retried() {
    let (server, cluster) = troubled(3, || Reply::Cut).await;
    let error = cluster.get(&configmaps(), Some("ns"), "a").await.unwrap_err();
    assert!(
        matches!(error, RequestError::Unreachable { failure: TransportFailure::Broken, .. }),
        "{error:?}"
    );
    with_retry(
        &RetryPolicy::default(),
        None,
        |_| {},
        async |_| cluster.get(&configmaps(), Some("ns"), "a").await,
    )
    .await
    .unwrap();
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let (_server, cluster) = troubled(9, || Reply::Silence).await;
    let start = Instant::now();
    let error = cluster
        .with_timeout(Duration::from_millis(200))
        .get(&configmaps(), Some("ns"), "a")
        .await
        .unwrap_err();
    assert!(matches!(error, RequestError::Timeout { retry_after: None, .. }), "{error:?}");
    assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_stopped_server_is_unreachable() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    // Answers the first request and closes for ever.
    let accept = tokio::spawn(async move {
        let (mut stream, _) = gone.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await.unwrap();
        let body = json!({ "status": { "allowed": false } }).to_string();
        stream
            .write_all(
                format!(
                    "HTTP/1.1 200 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            )
            .await
            .unwrap();
    });
    let cluster = connect_to(&url, "").await.unwrap();
    accept.await.unwrap();
    let error = cluster.get(&configmaps(), Some("ns"), "a").await.unwrap_err();
    assert!(
        matches!(error, RequestError::Unreachable { failure: TransportFailure::Connect, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn an_invalid_response_is_reported_with_its_request() {
    let (_server, cluster) = troubled(9, || Reply::Answer(200, vec![], "{\"kind\":".to_owned())).await;
    let error = cluster.get(&configmaps(), Some("ns"), "a").await.unwrap_err();
    assert_eq!(error.to_string(), "failed to decode the response to get /api/v1/namespaces/ns/configmaps/a");
    assert!(error.retry().is_none());
}
