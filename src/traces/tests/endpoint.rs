//! What comes to an endpoint, and what an endpoint that takes nothing costs. The environment of a process cannot be
//! changed in a test: each runs this binary again, with the variables that a person would set.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use trainerd_engine::Event;
use trainerd_plan::plan::{Counts, Purpose};
use trainerd_traces::FLUSH;

use super::{deployment, installation};
use crate::traces::Traces;

/// How many steps the process that is traced makes.
const STEPS: &str = "TRAINERD_TEST_STEPS";

type Request = (String, HeaderMap, Bytes);
type Requests = Arc<Mutex<Vec<Request>>>;

/// Runs nothing by itself: what the tests below run, with an endpoint. Like the daemon it has one thread.
#[tokio::test]
#[ignore = "run by the other tests"]
async fn a_process_that_is_traced() {
    let Some(steps) = std::env::var(STEPS).ok().and_then(|steps| steps.parse::<usize>().ok()) else { return };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let traces = Traces::of_environment(&installation());
    let began = Instant::now();
    let counts = Counts { create: steps, change: 0, delete: 0, keep: 0 };
    traces.event(&Event::Planned { purpose: Purpose::Install, revision: Some(1), counts });
    for step in 0..steps {
        let (component, object) = ("trainer".to_owned(), deployment(&step.to_string()));
        traces.event(&Event::Started { component, object: object.clone(), verb: "create" });
        traces.event(&Event::Done { object, verb: "create", millis: 1, done: step + 1, total: steps });
        // Where the endpoint is dead, requests fail while the plan continues.
        if step % 300 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let ran = began.elapsed();
    let began = Instant::now();
    traces.close().await;
    let closed = began.elapsed();
    println!("threads={}", std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count));
    let pauses = Duration::from_millis(50) * u32::try_from(steps / 300 + 1).unwrap();
    assert!(ran < pauses + Duration::from_secs(2), "the plan was slowed: {ran:?}");
    assert!(closed < FLUSH + Duration::from_secs(1), "the end was held up: {closed:?}");
}

async fn run(steps: usize, variables: &[(&str, String)]) -> Output {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "traces::tests::endpoint::a_process_that_is_traced", "--ignored", "--nocapture"])
        .env(STEPS, steps.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().cloned()).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    output
}

/// An endpoint that takes everything.
async fn taker() -> (String, Requests) {
    async fn take(State(requests): State<Requests>, uri: Uri, headers: HeaderMap, body: Bytes) {
        requests.lock().unwrap().push((uri.path().to_owned(), headers, body));
    }
    let requests = Requests::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(take).with_state(Arc::clone(&requests));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint, requests)
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, &str> {
    attributes.iter().filter_map(text_of).collect()
}

fn text_of(attribute: &KeyValue) -> Option<(&str, &str)> {
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some((&attribute.key, text)),
        _ => None,
    }
}

#[tokio::test]
async fn spans_are_exported_as_configured() {
    let (endpoint, requests) = taker().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue,authorization=Bearer%20a".to_owned()),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=east".to_owned()),
    ];
    run(3, &variables).await;
    let requests = std::mem::take(&mut *requests.lock().unwrap());
    let mut names = Vec::new();
    for (path, headers, body) in &requests {
        assert_eq!(path, "/v1/traces");
        assert_eq!(headers["x-tenant"], "blue");
        assert_eq!(headers["authorization"], "Bearer a");
        let told = ExportTraceServiceRequest::decode(body.clone()).unwrap();
        for group in &told.resource_spans {
            let resource = texts(&group.resource.as_ref().unwrap().attributes);
            assert_eq!((resource["service.name"], resource["k8s.cluster.name"]), ("trainerd", "east"));
            assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
            for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let outcome = texts(&span.attributes)["trainerd.outcome"];
                names.push(format!("{} {outcome}", span.name));
            }
        }
    }
    names.sort();
    // The plan was still open when the process ended.
    let step = "create Deployment done";
    assert_eq!(names, [step, step, step, "plan install interrupted"]);
}

#[tokio::test]
async fn service_name_and_sampler_are_respected() {
    let (endpoint, requests) = taker().await;
    let named = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("{endpoint}/own/path")),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other".to_owned()),
        ("OTEL_SERVICE_NAME", "blue".to_owned()),
    ];
    run(1, &named).await;
    let taken = std::mem::take(&mut *requests.lock().unwrap());
    let (path, _, body) = &taken[0];
    let told = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let resource = texts(&told.resource_spans[0].resource.as_ref().unwrap().attributes);
    assert_eq!((path.as_str(), resource["service.name"]), ("/own/path", "blue"));
    let off = ("OTEL_TRACES_SAMPLER", "always_off".to_owned());
    run(1, &[&named[..], &[off]].concat()).await;
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_an_endpoint_no_thread_is_started() {
    let threads = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, rest) = text.split_once("threads=").unwrap();
        rest.lines().next().unwrap().parse::<usize>().unwrap()
    };
    let none = run(1, &[]).await;
    // Whoever flushes needs one more: that much the number is worth.
    let (endpoint, _) = taker().await;
    let some = run(1, &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
    assert!(threads(&none) < threads(&some), "{none:?} {some:?}");
    assert!(none.stderr.is_empty(), "{none:?}");
}

#[tokio::test]
async fn an_https_endpoint_uses_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let first = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_u8().await.unwrap()
    });
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
    let output = run(1, &variables).await;
    let handshake = 22;
    assert_eq!(first.await.unwrap(), handshake);
    assert_eq!(complaints(&output), 1, "it is no server: {output:?}");
}

/// How often the log says that the collector takes no traces.
fn complaints(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stderr).matches("does not accept traces").count()
}

#[tokio::test]
async fn a_silent_endpoint_delays_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(connection) = listener.accept().await {
            held.push(connection);
        }
        held
    });
    // More than the queue takes.
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ];
    let output = run(6000, &variables).await;
    assert_eq!(complaints(&output), 1, "{output:?}");
    held.abort();
}

#[tokio::test]
async fn an_unreachable_endpoint_is_reported_once() {
    // Bound, and closed again: nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ];
    let output = run(3000, &variables).await;
    assert_eq!(complaints(&output), 1, "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("refused"), "{told}");
}

#[tokio::test]
async fn an_invalid_configuration_is_reported_and_disables_tracing() {
    let (endpoint, requests) = taker().await;
    let variables =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".to_owned())];
    let output = run(1, &variables).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("tracing is off") && told.contains("OTEL_EXPORTER_OTLP_PROTOCOL is grpc"),
        "{told}"
    );
    assert!(requests.lock().unwrap().is_empty());
}
