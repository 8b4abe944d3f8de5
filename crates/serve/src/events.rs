//! Events that a client follows, as server-sent events.

use std::convert::Infallible;

use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::header;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Content type of an event stream.
pub(crate) const CONTENT_TYPE: &str = "text/event-stream";

/// Something that happened, in the form it is sent.
#[derive(Clone, Debug)]
pub struct Event(sse::Event);

/// Why there is no event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The name does not fit on its line.
    #[error("failed to use {name:?} as the name of an event")]
    Name {
        /// The name.
        name: &'static str,
    },
    /// The data cannot be written as JSON.
    #[error("failed to write the event {name:?} as JSON")]
    Data {
        /// Name of the event.
        name: &'static str,
        /// What went wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl Event {
    /// An event: what it is called, which it is (a client that comes back names the last one it saw in
    /// `Last-Event-ID`), and what it says.
    pub fn new(id: u64, name: &'static str, data: &impl Serialize) -> Result<Self, EventError> {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(EventError::Name { name });
        }
        let data = serde_json::to_string(data).map_err(|source| EventError::Data { name, source })?;
        Ok(Self(sse::Event::default().id(id.to_string()).event(name).data(data)))
    }

    /// What a client is sent in place of events it was too slow for. It has no id: the client's last one stays the
    /// last one it saw.
    fn lagged(missed: u64) -> Self {
        Self(sse::Event::default().event("lagged").data(format!("{{\"missed\":{missed}}}")))
    }
}

/// A response that sends `first` and then whatever `receiver` gets, until its sender is gone or the server ends.
///
/// To miss nothing, subscribe before looking at what goes into `first`. The sender never waits for a client: one that
/// is slower than the channel is long gets an event `lagged` with `{"missed": n}` in place of the oldest `n`, and
/// continues from there. After 15 s of silence a comment is sent.
pub fn stream(receiver: broadcast::Receiver<Event>, first: Vec<Event>) -> Response {
    let events = stream::unfold((first.into_iter(), receiver), |(mut first, mut receiver)| async move {
        let Event(event) = match first.next() {
            Some(event) => event,
            None => match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(missed)) => Event::lagged(missed),
                Err(RecvError::Closed) => return None,
            },
        };
        Some((Ok::<_, Infallible>(event), (first, receiver)))
    });
    let events = Sse::new(events).keep_alive(KeepAlive::default());
    ([(header::CACHE_CONTROL, "no-store")], events).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::BodyDataStream;
    use futures::{FutureExt, StreamExt};
    use tokio::time::Instant;

    use super::*;

    fn event(id: u64) -> Event {
        Event::new(id, "status", &serde_json::json!({ "phase": "a\nb" })).unwrap()
    }

    fn frame(id: u64) -> String {
        format!("id: {id}\nevent: status\ndata: {{\"phase\":\"a\\nb\"}}\n\n")
    }

    async fn read(data: &mut BodyDataStream) -> Option<String> {
        let piece = data.next().await?.unwrap();
        Some(String::from_utf8(piece.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_stream_begins_with_the_initial_events_and_ends_with_its_sender() {
        let (sender, receiver) = broadcast::channel(8);
        let response = stream(receiver, vec![event(1), event(2)]);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut data = response.into_body().into_data_stream();
        sender.send(event(3)).unwrap();
        for id in 1..=3 {
            assert_eq!(read(&mut data).await, Some(frame(id)));
        }
        assert_eq!(read(&mut data).now_or_never(), None, "waits");
        drop(sender);
        assert_eq!(read(&mut data).await, None);
    }

    #[tokio::test]
    async fn a_slow_reader_learns_how_many_events_it_missed() {
        let (sender, receiver) = broadcast::channel(2);
        let mut data = stream(receiver, Vec::new()).into_body().into_data_stream();
        for id in 1..=10 {
            sender.send(event(id)).unwrap();
        }
        assert_eq!(read(&mut data).await.unwrap(), "event: lagged\ndata: {\"missed\":8}\n\n");
        assert_eq!(read(&mut data).await, Some(frame(9)));
        assert_eq!(read(&mut data).await, Some(frame(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn comments_keep_an_idle_stream_alive() {
        let (sender, receiver) = broadcast::channel(2);
        let mut data = stream(receiver, Vec::new()).into_body().into_data_stream();
        let start = Instant::now();
        assert_eq!(read(&mut data).await.unwrap(), ":\n\n");
        assert_eq!(start.elapsed().as_secs(), 15);
        sender.send(event(1)).unwrap();
        assert_eq!(read(&mut data).await, Some(frame(1)));
        assert_eq!(start.elapsed().as_secs(), 15);
        assert_eq!(read(&mut data).await.unwrap(), ":\n\n");
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[test]
    fn event_names_are_one_line() {
        for name in ["", "a\nb", "a\rb", "a\0"] {
            assert!(matches!(Event::new(1, name, &()), Err(EventError::Name { .. })), "{name:?}");
        }
    }
}
