//! Health, status and metrics over plain HTTP. They show no data.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use trainerd_serve::Metrics;
use trainerd_serve::metrics::{Counter, Definition, Gauge, Info, MetricsError, Unit};

use crate::head::Head;
use crate::worker::Worker;

const BUILD: Definition<Info, 2> =
    Definition::info("datacache_build", "The running binary and what it is", ["version", "role"]);
const STATE: Definition<Gauge, 1> =
    Definition::gauge("datacache_state", "1 for the state that it is in", ["state"]);
const INSECURE: Definition<Gauge, 0> =
    Definition::gauge("datacache_insecure", "Whether rows are served without TLS or without a token", []);
const WORKER_UP: Definition<Gauge, 1> =
    Definition::gauge("datacache_worker_up", "Whether a worker answers and has its assignment", ["worker"]);
const PLAN_ROWS: Definition<Gauge, 0> = Definition::gauge("datacache_plan_rows", "Rows of the dataset", []);
const PLAN_UNITS: Definition<Gauge, 0> = Definition::gauge("datacache_plan_units", "Units of the plan", []);
const CACHE_BYTES: Definition<Gauge, 1> =
    Definition::gauge("datacache_cache_bytes", "Bytes of rows that are kept, by tier", ["tier"])
        .unit(Unit::Bytes);
const CACHE_REQUESTS: Definition<Counter, 2> = Definition::counter(
    "datacache_cache_requests",
    "Chunks that streams asked for, by whether they were kept",
    ["tier", "result"],
);
const RESERVED: Definition<Gauge, 1> =
    Definition::gauge("datacache_memory_reserved_bytes", "Bytes that memory is set aside for", ["part"])
        .unit(Unit::Bytes);
const STREAMS: Definition<Gauge, 0> = Definition::gauge("datacache_stream_active", "Streams to clients", []);

/// Something with a status.
pub trait Health: Send + Sync + 'static {
    /// Whether clients should be sent here; else why not.
    fn ready(&self) -> Result<(), String>;

    /// Everything that is known, for `/status`.
    fn describe(&self) -> serde_json::Value;

    /// Registers its metrics.
    fn metrics(self: Arc<Self>, metrics: &Metrics) -> Result<(), MetricsError>;
}

fn value(status: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(status).unwrap_or_default()
}

/// Counts are far below what a float holds exactly.
#[expect(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

impl Health for Head {
    fn ready(&self) -> Result<(), String> {
        Self::ready(self)
    }

    fn describe(&self) -> serde_json::Value {
        value(&self.status())
    }

    fn metrics(self: Arc<Self>, metrics: &Metrics) -> Result<(), MetricsError> {
        let insecure = self.is_insecure();
        metrics.register(&BUILD)?.with([env!("CARGO_PKG_VERSION"), "head"]);
        let head = Arc::clone(&self);
        metrics.compute(&STATE, move || vec![([head.status().state.to_owned()], 1.0)])?;
        let head = Arc::clone(&self);
        metrics.compute(&WORKER_UP, move || {
            let workers = head.status().workers.into_iter();
            workers.map(|seen| ([seen.address], f64::from(u8::from(seen.is_up)))).collect()
        })?;
        let head = Arc::clone(&self);
        metrics.compute(&PLAN_ROWS, move || vec![([], float(head.status().rows))])?;
        metrics.compute(&PLAN_UNITS, move || vec![([], float(self.status().units as u64))])?;
        metrics.compute(&INSECURE, move || vec![([], f64::from(u8::from(insecure)))])
    }
}

impl Health for Worker {
    fn ready(&self) -> Result<(), String> {
        Self::ready(self)
    }

    fn describe(&self) -> serde_json::Value {
        value(&self.status())
    }

    fn metrics(self: Arc<Self>, metrics: &Metrics) -> Result<(), MetricsError> {
        let insecure = self.is_insecure();
        metrics.register(&BUILD)?.with([env!("CARGO_PKG_VERSION"), "worker"]);
        let worker = Arc::clone(&self);
        metrics.compute(&STATE, move || vec![([format!("{:?}", worker.status().state)], 1.0)])?;
        let worker = Arc::clone(&self);
        metrics.compute(&CACHE_BYTES, move || {
            let status = worker.status();
            let memory = (["memory".to_owned()], float(status.cached_bytes));
            let disk = status.disk_bytes.map(|bytes| (["disk".to_owned()], float(bytes)));
            std::iter::once(memory).chain(disk).collect()
        })?;
        let worker = Arc::clone(&self);
        metrics.compute(&CACHE_REQUESTS, move || {
            let status = worker.status();
            let of =
                |tier: &str, result: &str, count: u64| ([tier.to_owned(), result.to_owned()], float(count));
            // What is not in memory is looked for on the disk.
            let mut requests = vec![
                of("memory", "hit", status.hits),
                of("memory", "miss", status.misses + status.disk_hits),
            ];
            if status.disk_bytes.is_some() {
                requests.push(of("disk", "hit", status.disk_hits));
                requests.push(of("disk", "miss", status.misses));
            }
            requests
        })?;
        let worker = Arc::clone(&self);
        metrics.compute(&RESERVED, move || {
            let parts = worker.reserved().into_iter();
            parts.map(|(part, bytes)| ([part.to_owned()], float(bytes))).collect()
        })?;
        metrics.compute(&STREAMS, move || vec![([], float(self.status().streams))])?;
        metrics.compute(&INSECURE, move || vec![([], f64::from(u8::from(insecure)))])
    }
}

/// `/ready`, `/live`, `/status` and `/metrics`. `stopping` ends readiness.
pub fn router<H: Health>(
    health: &Arc<H>,
    metrics: &Metrics,
    stopping: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> Result<Router, MetricsError> {
    Arc::clone(health).metrics(metrics)?;
    let asked = Arc::clone(health);
    let ready = move || {
        let is_ready = asked.ready().is_ok() && !stopping();
        async move {
            if is_ready {
                (http::StatusCode::OK, "ready").into_response()
            } else {
                (http::StatusCode::SERVICE_UNAVAILABLE, "not ready").into_response()
            }
        }
    };
    let described = Arc::clone(health);
    let status = move || {
        let status = described.describe();
        async move { axum::Json(status) }
    };
    Ok(Router::new()
        .route("/ready", get(ready))
        .route("/live", get(|| async { "live" }))
        .route("/status", get(status))
        .merge(metrics.router()))
}
