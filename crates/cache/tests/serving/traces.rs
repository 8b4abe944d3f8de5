//! Spans of requests and of the plan, below those that their callers name.

use std::sync::LazyLock;
use std::time::Duration;

use arrow_flight::FlightDescriptor;
use futures::TryStreamExt as _;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{Value, global};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use trainerd_cache::head::Seen;
use trainerd_cache::worker::State;

use crate::group::{Group, client, write};

/// What the process sends; other tests of this program send, too.
static EXPORTED: LazyLock<InMemorySpanExporter> = LazyLock::new(|| {
    let exporter = InMemorySpanExporter::default();
    global::set_tracer_provider(SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build());
    exporter
});

/// A trace of its own for each test: its id and the span that everything is below.
fn trace(number: u8) -> (String, TraceId, SpanId) {
    let (trace, span) = (format!("{:032x}", 0xa0_u8 + number), format!("{:016x}", 0xb0_u8 + number));
    let ids = (TraceId::from_hex(&trace).unwrap(), SpanId::from_hex(&span).unwrap());
    (format!("00-{trace}-{span}-01"), ids.0, ids.1)
}

/// The spans of a trace, once there are so many.
async fn spans(trace: TraceId, count: usize) -> Vec<SpanData> {
    let wait = async {
        loop {
            let spans = EXPORTED.get_finished_spans().unwrap();
            let of_trace: Vec<SpanData> =
                spans.into_iter().filter(|span| span.span_context.trace_id() == trace).collect();
            if of_trace.len() >= count {
                return of_trace;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap()
}

fn attribute<'a>(span: &'a SpanData, name: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == name).map(|attribute| &attribute.value)
}

fn with<T>(message: T, traceparent: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_their_loads_are_spans_below_that_of_the_client() {
    LazyLock::force(&EXPORTED);
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..1000, 500);
    let group = Group::start(folder.path(), &[], 1).await;
    let (traceparent, id, parent) = trace(1);
    let descriptor = FlightDescriptor::new_path(vec!["0".into(), "1".into()]);
    let mut head = client(&group.head());
    let info = head.get_flight_info(with(descriptor, &traceparent)).await.unwrap().into_inner();
    let mut worker = client(&group.worker(0));
    // What was loaded at the start is loaded again, by the stream.
    let is_warm = |worker: &Seen| worker.status.as_ref().is_some_and(|status| status.state == State::Warm);
    group.until(|status| status.workers.iter().all(is_warm)).await;
    let forget = arrow_flight::Action { r#type: "drop".to_owned(), body: bytes::Bytes::new() };
    worker.do_action(forget).await.unwrap().into_inner().try_collect::<Vec<_>>().await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let messages = worker.do_get(with(ticket, &traceparent)).await.unwrap().into_inner();
    messages.try_collect::<Vec<_>>().await.unwrap();
    let refused = arrow_flight::Ticket { ticket: vec![0xFF].into() };
    worker.do_get(with(refused, &traceparent)).await.unwrap_err();

    let spans = spans(id, 5).await;
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let (asked, read) = (named("GetFlightInfo"), named("DoGet"));
    assert_eq!((asked.len(), read.len()), (1, 2));
    for span in asked.iter().chain(&read) {
        assert_eq!((span.parent_span_id, &span.span_kind), (parent, &SpanKind::Server));
    }
    let (good, bad): (Vec<_>, Vec<_>) = read.into_iter().partition(|span| span.status == Status::Unset);
    assert_eq!(bad[0].status, Status::error("Invalid ticket format"));
    assert_eq!(attribute(good[0], "datacache.rows"), Some(&Value::I64(1000)));
    // A row group is a unit, and small enough for one chunk.
    let loads = named("load");
    assert_eq!(loads.len(), 2);
    for load in loads {
        assert_eq!(load.parent_span_id, good[0].span_context.span_id());
        assert_eq!(attribute(load, "datacache.rows"), Some(&Value::I64(500)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_continues_the_trace_that_the_process_was_started_in() {
    LazyLock::force(&EXPORTED);
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..10, 100);
    let (traceparent, id, parent) = trace(2);
    let _group = Group::start(folder.path(), &[("TRACEPARENT", &traceparent)], 1).await;
    let spans = spans(id, 1).await;
    assert_eq!((spans[0].name.as_ref(), spans[0].parent_span_id), ("plan", parent));
    assert_eq!(attribute(&spans[0], "datacache.rows"), Some(&Value::I64(10)));
}
