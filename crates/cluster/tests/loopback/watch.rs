//! Watches that are interrupted in every way and miss nothing.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{ListParams, RequestError};

use crate::server::{CONFIGMAPS, Part, Received, Reply, Server, configmap, configmaps, ok, status};

fn params() -> WatchParams {
    WatchParams {
        list: ListParams { namespace: Some("ns".to_owned()), ..ListParams::default() },
        resource_version: None,
    }
}

/// A list of ConfigMaps at a resourceVersion.
fn list(names: &[&str], version: u64) -> Reply {
    let items: Vec<_> = names.iter().map(|name| configmap(name, version)).collect();
    ok(&json!({ "metadata": { "resourceVersion": version.to_string() }, "items": items }))
}

/// `+name` for a change, `-name` for an end, `=names` for a new start, `!` for an error.
fn show(event: &Result<Event, RequestError>) -> String {
    let name = |object: &serde_json::Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    match event {
        Ok(Event::Applied(object)) => format!("+{}", name(object)),
        Ok(Event::Deleted(object)) => format!("-{}", name(object)),
        Ok(Event::Restarted(objects)) => {
            format!("={}", objects.items.iter().map(name).collect::<Vec<_>>().join(","))
        }
        Ok(Event::Resumed) => "resumed".to_owned(),
        Err(error) => format!("!{error}"),
    }
}

/// Runs a watch over scripted answers; the events of the first `count`, and what was requested: `list`, or the
/// resourceVersion of each watch.
async fn follow(
    replies: Vec<Reply>,
    params: WatchParams,
    count: usize,
) -> (Vec<String>, Vec<String>, Vec<Received>) {
    let mut replies = replies.into_iter();
    let server = Server::start(move |_| replies.next().unwrap_or(Reply::Silence)).await;
    let cluster = server.connect().await;
    let stream = cluster.watch(&configmaps(), params);
    let events =
        tokio::time::timeout(Duration::from_secs(20), stream.take(count).map(|event| show(&event)).collect())
            .await
            .unwrap();
    let log = server.log();
    let requests = log
        .iter()
        .map(|request| {
            assert!(request.is("GET", CONFIGMAPS));
            match request.query("watch") {
                Some("true") => request.query("resourceVersion").unwrap().to_owned(),
                _ => "list".to_owned(),
            }
        })
        .collect();
    (events, requests, log)
}

#[tokio::test]
async fn a_watch_begins_with_a_list() {
    let (events, requests, log) = follow(
        vec![
            list(&["a"], 5),
            Reply::Stream(vec![
                Part::Event("ADDED", configmap("b", 6)),
                Part::Event("MODIFIED", configmap("a", 7)),
                // An event in two pieces.
                Part::Raw("{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"na"),
                Part::Raw("me\":\"b\",\"resourceVersion\":\"8\"}}}\n"),
                Part::Open,
            ]),
        ],
        params(),
        4,
    )
    .await;
    assert_eq!(events, ["=a", "+b", "+a", "-b"]);
    assert_eq!(requests, ["list", "5"]);
    let watch = &log[1];
    assert_eq!(watch.query("allowWatchBookmarks"), Some("true"));
    let open_for: u64 = watch.query("timeoutSeconds").unwrap().parse().unwrap();
    assert!((1800..2400).contains(&open_for));
    assert_eq!(watch.header("user-agent"), ["trainerd/9.9.9 (test)"]);
}

#[tokio::test]
async fn a_watch_resumes_after_a_disconnect() {
    let (events, requests, _) = follow(
        vec![
            list(&[], 5),
            Reply::Stream(vec![
                Part::Event("ADDED", configmap("a", 6)),
                Part::Event("BOOKMARK", json!({ "metadata": { "resourceVersion": "40" } })),
                Part::Raw("{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"half"),
                Part::Cut,
            ]),
            // Ended in order, after its time.
            Reply::Stream(vec![Part::Event("ADDED", configmap("half", 41))]),
            Reply::Cut,
            Reply::Stream(vec![Part::Event("ADDED", configmap("b", 42)), Part::Open]),
        ],
        params(),
        6,
    )
    .await;
    let broken = events.iter().position(|event| event.starts_with('!')).unwrap();
    assert!(events[broken].contains("failed to reach the API server"));
    let changes: Vec<_> = events.iter().filter(|event| !event.starts_with('!')).collect();
    assert_eq!(changes, ["=", "+a", "+half", "resumed", "+b"]);
    assert_eq!(requests, ["list", "5", "40", "41", "41"]);
}

#[tokio::test]
async fn an_expired_watch_lists_again() {
    let gone = || json!({ "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" });
    let (events, requests, _) = follow(
        vec![
            list(&["a"], 5),
            Reply::Stream(vec![Part::Event("ERROR", gone())]),
            list(&["b"], 50),
            // Or as the answer to the request itself.
            status(410, "Expired", &json!(null)),
            list(&["c"], 60),
            Reply::Stream(vec![Part::Event("ADDED", configmap("d", 61)), Part::Open]),
        ],
        params(),
        4,
    )
    .await;
    assert_eq!(events, ["=a", "=b", "=c", "+d"]);
    assert_eq!(requests, ["list", "5", "list", "50", "list", "60"]);
}

#[tokio::test]
async fn a_watch_from_a_known_list_does_not_list() {
    let params = WatchParams { resource_version: Some("77".to_owned()), ..params() };
    let (events, requests, _) =
        follow(vec![Reply::Stream(vec![Part::Event("MODIFIED", configmap("a", 78)), Part::Open])], params, 1)
            .await;
    assert_eq!(events, ["+a"]);
    assert_eq!(requests, ["77"]);
}

#[tokio::test]
async fn refusals_are_reported_and_retried() {
    let forbidden = || status(403, "Forbidden", &json!({ "kind": "configmaps" }));
    let (events, requests, _) = follow(
        vec![
            forbidden(),
            list(&["a"], 5),
            forbidden(),
            Reply::Answer(429, vec![("retry-after", "1".to_owned())], "busy".to_owned()),
            Reply::Stream(vec![Part::Event("ADDED", configmap("b", 6)), Part::Open]),
        ],
        params(),
        6,
    )
    .await;
    let refused = "!Forbidden from the fake server";
    assert_eq!(events, [refused, "=a", refused, "!busy", "resumed", "+b"]);
    assert_eq!(requests, ["list", "list", "5", "5", "5"]);
}

#[tokio::test]
async fn metadata_only_watches_receive_metadata() {
    let metadata = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": { "name": "a", "resourceVersion": "6" } });
    let replies = vec![list(&[], 5), Reply::Stream(vec![Part::Event("ADDED", metadata), Part::Open])];
    let mut replies = replies.into_iter();
    let server = Server::start(move |_| replies.next().unwrap_or(Reply::Silence)).await;
    let mut params = params();
    params.list.metadata_only = true;
    let mut stream = server.connect().await.watch(&configmaps(), params);
    stream.next().await;
    let Some(Ok(Event::Applied(object))) = stream.next().await else { panic!() };
    assert_eq!((&object["apiVersion"], &object["kind"]), (&json!("v1"), &json!("ConfigMap")));
    assert_eq!(
        server.log()[1].header("accept"),
        ["application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"]
    );
}

#[tokio::test]
async fn a_dead_connection_of_a_watch_is_detected() {
    let replies = vec![
        list(&[], 5),
        Reply::Stream(vec![Part::Event("ADDED", configmap("a", 6)), Part::Open]),
        Reply::Stream(vec![Part::Event("ADDED", configmap("b", 7)), Part::Open]),
    ];
    let mut replies = replies.into_iter();
    let server = Server::start(move |_| replies.next().unwrap_or(Reply::Silence)).await;
    let mut stream = server.connect().await.watch(&configmaps(), params());
    assert_eq!(show(&stream.next().await.unwrap()), "=");
    assert_eq!(show(&stream.next().await.unwrap()), "+a");
    // The next read waits for what never comes, until the clock has moved on.
    assert!(tokio::time::timeout(Duration::from_millis(50), stream.next()).await.is_err());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    assert_eq!(show(&stream.next().await.unwrap()), "+b");
    let versions: Vec<_> = server
        .log()
        .iter()
        .filter_map(|request| request.query("resourceVersion").map(str::to_owned))
        .collect();
    assert_eq!(versions, ["5", "6"]);
}
