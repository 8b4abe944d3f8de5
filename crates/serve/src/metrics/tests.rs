use axum::body::{Body, to_bytes};
use http::Request;
use tower_service::Service;

use super::*;

const REQUESTS: Definition<Counter, 2> =
    Definition::counter("trainerd_api_requests", "Requests to the API server", ["verb", "kind"]);
const LEADER: Definition<Gauge, 0> = Definition::gauge("trainerd_leader", "Whether this process leads", []);
const PASS: Definition<Histogram, 1> = Definition::histogram(
    "trainerd_pass_duration_seconds",
    "Time a pass takes",
    ["result"],
    &[0.1, 1.0, 10.0],
)
.unit(Unit::Seconds);
const BUILD: Definition<Info, 2> =
    Definition::info("trainerd_build", "What this binary is", ["version", "revision"]);
const MEMORY: Definition<Gauge, 0> =
    Definition::gauge("process_resident_memory_bytes", "Memory in use", []).unit(Unit::Bytes);
const CPU: Definition<Counter, 1> =
    Definition::counter("trainerd_cpu_seconds", "Processor time used", ["mode"]).unit(Unit::Seconds);
const UNUSED: Definition<Counter, 1> = Definition::counter("trainerd_unused", "Never counted", ["a"]);

fn sample() -> Metrics {
    let metrics = Metrics::new();
    let requests = metrics.register(&REQUESTS).unwrap();
    requests.with(["patch", "Secret"]).inc_by(3);
    requests.with(["get", "we\"ird\\na\nme"]).inc();
    requests.clone().with(["patch", "Secret"]).inc();
    requests.with(["delete", "Secret"]).inc();
    requests.remove(["delete", "Secret"]);
    metrics.register(&LEADER).unwrap();
    let pass = metrics.register(&PASS).unwrap();
    pass.with(["settled"]).observe(0.5);
    pass.with(["settled"]).observe(100.0);
    metrics.register(&BUILD).unwrap().with(["0.1.0", "abc"]);
    metrics.compute(&MEMORY, || vec![([], 15_728_640.0)]).unwrap();
    let cpu = || vec![("user", 1.5), ("system", 0.25), ("user", 2.5)];
    metrics
        .compute(&CPU, move || cpu().into_iter().map(|(mode, s)| ([mode.to_owned()], s)).collect())
        .unwrap();
    metrics.register(&UNUSED).unwrap();
    metrics
}

#[test]
fn exposition() {
    insta::assert_snapshot!(sample().encode().unwrap());
}

#[test]
fn descriptions() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&sample().descriptions()).unwrap());
}

/// What is described is what is exposed.
#[test]
fn declared_series_match_the_exposition() {
    let metrics = sample();
    let exposition = metrics.encode().unwrap();
    let mut exposed: Vec<_> = exposition
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
        .collect();
    exposed.sort();
    exposed.dedup();
    let mut described: Vec<_> = metrics.descriptions().iter().flat_map(Description::series).collect();
    described.retain(|series| series != "trainerd_unused_total");
    described.sort();
    assert_eq!(exposed, described);
    for description in
        metrics.descriptions().iter().filter(|description| description.name != UNUSED.describe().name)
    {
        let kind = serde_json::to_value(description.kind).unwrap();
        let line = format!("# TYPE {} {}\n", description.name, kind.as_str().unwrap());
        assert!(exposition.contains(&line), "{line}");
    }
}

#[test]
fn a_metric_is_registered_once() {
    const TOTAL: Definition<Gauge, 0> = Definition::gauge("trainerd_api_requests_total", "Another", []);
    const SAME: Definition<Gauge, 0> = Definition::gauge("trainerd_api_requests", "Another", []);
    const COUNT: Definition<Gauge, 0> =
        Definition::gauge("trainerd_pass_duration_seconds_count", "Another", []);
    let metrics = sample();
    let before = metrics.descriptions();
    for definition in [&TOTAL, &SAME, &COUNT, &LEADER] {
        let error = metrics.register(definition).unwrap_err();
        assert!(matches!(&error, MetricsError::Taken { .. }), "{error}");
    }
    assert_eq!(metrics.descriptions(), before);
}

#[tokio::test]
async fn the_content_type_of_a_scrape_is_set() {
    let metrics = sample();
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let response = metrics.router().call(request).await.unwrap();
    assert_eq!(
        response.headers()[CONTENT_TYPE],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let body = to_bytes(response.into_body(), 100_000).await.unwrap();
    assert_eq!(body, metrics.encode().unwrap());
}
