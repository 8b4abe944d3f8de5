//! What is counted while it happens. What can be asked for at a scrape is in [`crate::health`].

use std::time::Duration;

use trainerd_serve::Metrics;
use trainerd_serve::metrics::{Counter, Definition, Family, Gauge, Histogram, MetricsError, Unit};

use crate::source::Kind;

/// Upper bounds of times, seconds: from a chunk in memory to a source that hardly answers.
const TIMES: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

/// Shorter waits are the work of the network.
const STALL: Duration = Duration::from_millis(1);

const PLAN_SECONDS: Definition<Gauge, 0> =
    Definition::gauge("datacache_plan_seconds", "Time that the source took to be opened and counted", [])
        .unit(Unit::Seconds);
const LOAD_SECONDS: Definition<Histogram, 0> =
    Definition::histogram("datacache_load_seconds", "Time of a chunk from the source", [], TIMES)
        .unit(Unit::Seconds);
const LOAD_BYTES: Definition<Counter, 0> =
    Definition::counter("datacache_load_bytes", "Bytes of chunks that came from the source", [])
        .unit(Unit::Bytes);
const STORE_REQUESTS: Definition<Counter, 2> = Definition::counter(
    "datacache_store_requests",
    "Requests to stores, by what came of them",
    ["op", "result"],
);
const STREAM_BYTES: Definition<Counter, 0> =
    Definition::counter("datacache_stream_bytes", "Bytes of rows that were handed to clients", [])
        .unit(Unit::Bytes);
const STALL_SECONDS: Definition<Histogram, 0> = Definition::histogram(
    "datacache_stream_stall_seconds",
    "Time that a stream waited for its client, of a millisecond and more",
    [],
    TIMES,
)
.unit(Unit::Seconds);
const FIRST_SECONDS: Definition<Histogram, 0> = Definition::histogram(
    "datacache_first_batch_seconds",
    "Time from a request to its first rows",
    [],
    TIMES,
)
.unit(Unit::Seconds);
const ERRORS: Definition<Counter, 1> =
    Definition::counter("datacache_errors", "Failures of the source, by what they are", ["category"]);

/// Counters of one process.
#[derive(Debug)]
pub struct Meters {
    plan_seconds: Gauge,
    load_seconds: Histogram,
    load_bytes: Counter,
    store_requests: Family<Counter, 2>,
    stream_bytes: Counter,
    stall_seconds: Histogram,
    first_seconds: Histogram,
    errors: Family<Counter, 1>,
}

impl Meters {
    /// Registered among these metrics.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            plan_seconds: metrics.register(&PLAN_SECONDS)?.with([]),
            load_seconds: metrics.register(&LOAD_SECONDS)?.with([]),
            load_bytes: metrics.register(&LOAD_BYTES)?.with([]),
            store_requests: metrics.register(&STORE_REQUESTS)?,
            stream_bytes: metrics.register(&STREAM_BYTES)?.with([]),
            stall_seconds: metrics.register(&STALL_SECONDS)?.with([]),
            first_seconds: metrics.register(&FIRST_SECONDS)?.with([]),
            errors: metrics.register(&ERRORS)?,
        })
    }

    /// The source was opened and counted.
    pub(crate) fn planned(&self, took: Duration) {
        self.plan_seconds.set(took.as_secs_f64());
    }

    /// A chunk came from the source.
    pub(crate) fn loaded(&self, bytes: usize, took: Duration) {
        self.load_bytes.inc_by(bytes as u64);
        self.load_seconds.observe(took.as_secs_f64());
    }

    /// A store answered, or did not.
    pub(crate) fn request(&self, operation: &str, error: Option<&object_store::Error>) {
        use object_store::Error as E;
        let result = match error {
            None => "ok",
            Some(E::NotFound { .. }) => "not_found",
            Some(E::PermissionDenied { .. } | E::Unauthenticated { .. }) => "denied",
            Some(E::Precondition { .. }) => "changed",
            Some(_) => "failed",
        };
        self.store_requests.with([operation, result]).inc();
    }

    /// A message was handed to a client, which had not taken the ones before for so long.
    pub(crate) fn sent(&self, bytes: usize, waited: Duration) {
        self.stream_bytes.inc_by(bytes as u64);
        if waited >= STALL {
            self.stall_seconds.observe(waited.as_secs_f64());
        }
    }

    /// A stream had its first rows.
    pub(crate) fn first(&self, took: Duration) {
        self.first_seconds.observe(took.as_secs_f64());
    }

    /// The source failed.
    pub(crate) fn failed(&self, kind: Kind) {
        let category = match kind {
            Kind::Unreachable => "unreachable",
            Kind::Denied => "denied",
            Kind::Changed => "changed",
            Kind::Invalid => "invalid",
        };
        self.errors.with([category]).inc();
    }
}
