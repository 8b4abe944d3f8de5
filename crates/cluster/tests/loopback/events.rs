//! Events that are said again.

use std::time::Duration;

use serde_json::json;
use trainerd_cluster::event_recorder::{EventLimits, EventType, NewEvent, event_recorder};

use crate::server::{Server, ok};

#[tokio::test]
async fn repeated_events_form_a_series_outside_the_burst_limit() {
    let server = Server::start(|_| ok(&json!({}))).await;
    let limits = EventLimits { queue: 32, burst: Some(2) };
    let (recorder, writer) = event_recorder(server.connect().await, "c".to_owned(), "i".to_owned(), limits);
    let event = |note: &str| {
        let job = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns", "uid": "u"},
        });
        NewEvent::about(&job, EventType::Warning, ("Drifted", "Repair"), note.to_owned()).unwrap()
    };
    // The third of the same comes too soon to be written, and the third kind is one too many.
    for note in ["one", "one", "one", "two", "three", "two"] {
        recorder.record(event(note));
    }
    drop(recorder);
    tokio::time::timeout(Duration::from_secs(10), writer.run()).await.unwrap();
    let events = "/apis/events.k8s.io/v1/namespaces/ns/events";
    let log = server.log();
    let (made, again): (Vec<_>, Vec<_>) = log.iter().partition(|request| request.is("POST", events));
    assert_eq!(made.iter().map(|request| &request.body["note"]).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(made[0].body["regarding"]["uid"], "u");
    assert_eq!(again.len(), 2);
    for (made, again) in made.iter().zip(again) {
        let name = made.body["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("a."), "{name}");
        assert!(again.is("PATCH", &format!("{events}/{name}")), "{}", again.path);
        assert_eq!(again.body["series"]["count"], 2);
        assert!(again.body["series"]["lastObservedTime"].is_string());
    }
}
