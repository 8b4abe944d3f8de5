//! Bodies that end.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use futures::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use tokio::time::{Instant, timeout_at};

use crate::events;

/// A request's body that must arrive within `time`, else reading it fails.
pub(super) fn within(body: Body, time: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let deadline = Instant::now() + time;
    Body::from_stream(stream::unfold(Some(body.into_data_stream()), move |data| async move {
        let mut data = data?;
        match timeout_at(deadline, data.next()).await {
            Ok(piece) => Some((piece?.map_err(io::Error::other), Some(data))),
            Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
        }
    }))
}

/// An event stream ends when the server does, or the token that it was asked for with: there is no last event to wait
/// for. Other responses stay as they are.
pub(crate) fn ending_with(
    response: Response,
    closing: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let kind = response.headers().get(CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(events::CONTENT_TYPE.as_bytes())) {
        return response;
    }
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(closing))))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_body_timeout_covers_the_whole_body() {
        let cases = [(1, 4, true), (4, 4, false), (1, 100, false)];
        for (second, pieces, arrives) in cases {
            let slow = stream::iter(0..pieces).then(move |_| async move {
                tokio::time::sleep(Duration::from_secs(second)).await;
                Ok::<_, io::Error>("x")
            });
            let read = to_bytes(within(Body::from_stream(slow), Duration::from_secs(10)), usize::MAX).await;
            assert_eq!(read.is_ok(), arrives, "{pieces} pieces, one every {second} s");
        }
    }

    #[tokio::test]
    async fn only_event_streams_are_closed_at_shutdown() {
        for (kind, cut) in [("text/event-stream", true), ("application/json", false)] {
            let pieces = stream::iter(["a", "b"].map(Ok::<_, io::Error>));
            let response =
                Response::builder().header(CONTENT_TYPE, kind).body(Body::from_stream(pieces)).unwrap();
            let body = ending_with(response, std::future::ready(())).into_body();
            assert_eq!(to_bytes(body, 10).await.unwrap().is_empty(), cut, "{kind}");
        }
    }
}
