//! What Prometheus reads of a manager: the series of controller-runtime and client-go, so that dashboards and alerts
//! made for them keep working.

mod process;
mod train_jobs;

use std::sync::Arc;
use std::time::Duration;

use trainerd_cluster::{Observer, Verb};
use trainerd_serve::metrics::{
    Counter, Definition, Description, Family, Gauge, Histogram, MetricsError, Unit,
};
use trainerd_serve::{Certificates, Metrics};

use crate::cache::Store;
pub(crate) use train_jobs::TrainJobMetrics;

/// Bounds of a reconcile and of a webhook call, in seconds: controller-runtime's.
const CALLS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25,
    1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0,
    50.0, 60.0,
];
/// Bounds of the time in a queue, in seconds: client-go's powers of ten.
const QUEUED: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];

const RECONCILES: Definition<Counter, 2> = Definition::counter(
    "controller_runtime_reconcile",
    "Reconciles by controller and result",
    ["controller", "result"],
);
const RECONCILE_ERRORS: Definition<Counter, 1> = Definition::counter(
    "controller_runtime_reconcile_errors",
    "Reconciles that failed, by controller",
    ["controller"],
);
const TERMINAL_ERRORS: Definition<Counter, 1> = Definition::counter(
    "controller_runtime_terminal_reconcile_errors",
    "Reconciles that failed for good, by controller",
    ["controller"],
);
const RECONCILE_PANICS: Definition<Counter, 1> = Definition::counter(
    "controller_runtime_reconcile_panics",
    "Reconciles that panicked, by controller",
    ["controller"],
);
const RECONCILE_TIMEOUTS: Definition<Counter, 1> = Definition::counter(
    "controller_runtime_reconcile_timeouts",
    "Reconciles that took too long, by controller",
    ["controller"],
);
const RECONCILE_TIME: Definition<Histogram, 1> = Definition::histogram(
    "controller_runtime_reconcile_time_seconds",
    "Time of a reconcile, by controller",
    ["controller"],
    CALLS,
)
.unit(Unit::Seconds);
const MAX_CONCURRENT: Definition<Gauge, 1> = Definition::gauge(
    "controller_runtime_max_concurrent_reconciles",
    "Most concurrent reconciles, by controller",
    ["controller"],
);
const ACTIVE_WORKERS: Definition<Gauge, 1> = Definition::gauge(
    "controller_runtime_active_workers",
    "Workers that reconcile now, by controller",
    ["controller"],
);
const WEBHOOK_REQUESTS: Definition<Counter, 2> = Definition::counter(
    "controller_runtime_webhook_requests",
    "Admission requests by path and HTTP status",
    ["webhook", "code"],
);
const WEBHOOK_LATENCY: Definition<Histogram, 1> = Definition::histogram(
    "controller_runtime_webhook_latency_seconds",
    "Time of an admission request, by path",
    ["webhook"],
    CALLS,
)
.unit(Unit::Seconds);
const WEBHOOK_IN_FLIGHT: Definition<Gauge, 1> = Definition::gauge(
    "controller_runtime_webhook_requests_in_flight",
    "Admission requests in progress, by path",
    ["webhook"],
);
const WEBHOOK_PANICS: Definition<Counter, 0> =
    Definition::counter("controller_runtime_webhook_panics", "Admission requests that panicked", []);
const QUEUE_DEPTH: Definition<Gauge, 3> =
    Definition::gauge("workqueue_depth", "Keys that wait", ["name", "controller", "priority"]);
const QUEUE_ADDS: Definition<Counter, 2> =
    Definition::counter("workqueue_adds", "Keys that were added", ["name", "controller"]);
const QUEUE_RETRIES: Definition<Counter, 2> =
    Definition::counter("workqueue_retries", "Keys that were added after a failure", ["name", "controller"]);
const QUEUE_TIME: Definition<Histogram, 2> = Definition::histogram(
    "workqueue_queue_duration_seconds",
    "Time that a key waits",
    ["name", "controller"],
    QUEUED,
)
.unit(Unit::Seconds);
const WORK_TIME: Definition<Histogram, 2> = Definition::histogram(
    "workqueue_work_duration_seconds",
    "Time that the work on a key takes",
    ["name", "controller"],
    QUEUED,
)
.unit(Unit::Seconds);
const UNFINISHED: Definition<Gauge, 2> = Definition::gauge(
    "workqueue_unfinished_work_seconds",
    "Time of the work that is in progress, all together",
    ["name", "controller"],
)
.unit(Unit::Seconds);
const LONGEST: Definition<Gauge, 2> = Definition::gauge(
    "workqueue_longest_running_processor_seconds",
    "Time of the longest work that is in progress",
    ["name", "controller"],
)
.unit(Unit::Seconds);
const REQUESTS: Definition<Counter, 3> = Definition::counter(
    "rest_client_requests",
    "Requests to the API server by status, method and host",
    ["code", "method", "host"],
);
const LEADER: Definition<Gauge, 1> =
    Definition::gauge("leader_election_master_status", "1 while this process leads", ["name"]);
const CERTIFICATE_READS: Definition<Counter, 0> =
    Definition::counter("certwatcher_read_certificate", "Certificates that were read", []);
const CERTIFICATE_ERRORS: Definition<Counter, 0> =
    Definition::counter("certwatcher_read_certificate_errors", "Certificates that could not be read", []);

/// Every metric that a manager serves, by name: what dashboards are held against.
///
/// # Errors
/// Two metrics of one name.
pub fn descriptions() -> Result<Vec<Description>, MetricsError> {
    let metrics = ManagerMetrics::new()?;
    TrainJobMetrics::register(&metrics.registry, Store::new())?;
    Ok(metrics.registry.descriptions())
}

/// Everything that a manager counts.
pub(crate) struct ManagerMetrics {
    pub(crate) registry: Metrics,
    reconciles: Family<Counter, 2>,
    errors: Family<Counter, 1>,
    panics: Family<Counter, 1>,
    time: Family<Histogram, 1>,
    max_concurrent: Family<Gauge, 1>,
    active: Family<Gauge, 1>,
    webhook_requests: Family<Counter, 2>,
    webhook_latency: Family<Histogram, 1>,
    webhook_in_flight: Family<Gauge, 1>,
    pub(crate) webhook_panics: Counter,
    depth: Family<Gauge, 3>,
    adds: Family<Counter, 2>,
    retries: Family<Counter, 2>,
    queue_time: Family<Histogram, 2>,
    work_time: Family<Histogram, 2>,
    requests: Family<Counter, 3>,
    leader: Family<Gauge, 1>,
}

/// How a reconcile ended, as its counter has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReconcileResult {
    /// Nothing is left to do.
    Success,
    /// It failed, and comes again with a backoff.
    Error,
    /// It comes again after a time.
    RequeueAfter,
}

impl ManagerMetrics {
    pub(crate) fn new() -> Result<Self, MetricsError> {
        let registry = Metrics::new();
        registry.register(&TERMINAL_ERRORS)?;
        registry.register(&RECONCILE_TIMEOUTS)?;
        process::register(&registry)?;
        Ok(Self {
            reconciles: registry.register(&RECONCILES)?,
            errors: registry.register(&RECONCILE_ERRORS)?,
            panics: registry.register(&RECONCILE_PANICS)?,
            time: registry.register(&RECONCILE_TIME)?,
            max_concurrent: registry.register(&MAX_CONCURRENT)?,
            active: registry.register(&ACTIVE_WORKERS)?,
            webhook_requests: registry.register(&WEBHOOK_REQUESTS)?,
            webhook_latency: registry.register(&WEBHOOK_LATENCY)?,
            webhook_in_flight: registry.register(&WEBHOOK_IN_FLIGHT)?,
            webhook_panics: registry.register(&WEBHOOK_PANICS)?.with([]),
            depth: registry.register(&QUEUE_DEPTH)?,
            adds: registry.register(&QUEUE_ADDS)?,
            retries: registry.register(&QUEUE_RETRIES)?,
            queue_time: registry.register(&QUEUE_TIME)?,
            work_time: registry.register(&WORK_TIME)?,
            requests: registry.register(&REQUESTS)?,
            leader: registry.register(&LEADER)?,
            registry,
        })
    }

    /// Counts the requests of a client to that host.
    pub(crate) fn observer(&self, host: Arc<std::sync::OnceLock<String>>) -> Observer {
        let requests = self.requests.clone();
        Observer::new(move |request| {
            let method = match request.verb {
                Verb::Get | Verb::List | Verb::Watch => "GET",
                Verb::Create => "POST",
                Verb::Update => "PUT",
                Verb::Patch => "PATCH",
                Verb::Delete => "DELETE",
            };
            // client-go says so where there was no answer.
            let code = if request.code == 0 { "<error>".to_owned() } else { request.code.to_string() };
            requests.with([&code, method, host.get().map_or("", String::as_str)]).inc();
        })
    }

    /// Whether this process leads.
    pub(crate) fn leads(&self, election: &str, leads: bool) {
        self.leader.with([election]).set(f64::from(u8::from(leads)));
    }

    /// What the queue of a controller is counted by.
    pub(crate) fn queue(&self, controller: &str) -> QueueMetrics {
        let labels = [controller, controller];
        QueueMetrics {
            depth: self.depth.with([controller, controller, ""]),
            adds: self.adds.with(labels),
            retries: self.retries.with(labels),
            queue_time: self.queue_time.with(labels),
            work_time: self.work_time.with(labels),
        }
    }

    /// Computes for how long keys are being worked on, at every scrape.
    pub(crate) fn watch_work(
        &self,
        processing_times: impl Fn() -> Vec<(&'static str, (Duration, Duration))> + Clone + Send + Sync + 'static,
    ) -> Result<(), MetricsError> {
        let own = |name: &str| [name.to_owned(), name.to_owned()];
        let all = processing_times.clone();
        self.registry.compute(&UNFINISHED, move || {
            all().into_iter().map(|(name, (sum, _))| (own(name), sum.as_secs_f64())).collect()
        })?;
        self.registry.compute(&LONGEST, move || {
            processing_times().into_iter().map(|(name, (_, most))| (own(name), most.as_secs_f64())).collect()
        })
    }

    /// Computes how often the webhooks' certificate was read, at every scrape.
    #[expect(clippy::cast_precision_loss, reason = "nobody reads 2^53 times")]
    pub(crate) fn watch_certificates(&self, certificates: &Certificates) -> Result<(), MetricsError> {
        let (read, failed) = (certificates.clone(), certificates.clone());
        self.registry.compute(&CERTIFICATE_READS, move || vec![([], read.reads().read as f64)])?;
        self.registry.compute(&CERTIFICATE_ERRORS, move || vec![([], failed.reads().failed as f64)])
    }

    /// What a controller is counted by. Its series are there from now on.
    pub(crate) fn controller(&self, name: &'static str, workers: u32) -> ControllerMetrics {
        self.max_concurrent.with([name]).set(f64::from(workers));
        for result in ["error", "requeue", "requeue_after", "success"] {
            self.reconciles.with([name, result]);
        }
        ControllerMetrics {
            name,
            reconciles: self.reconciles.clone(),
            errors: self.errors.with([name]),
            panics: self.panics.with([name]),
            time: self.time.with([name]),
            active: self.active.with([name]),
        }
    }

    /// A webhook was called, and answers when what is returned is dropped.
    pub(crate) fn webhook(&self, path: &str) -> WebhookCall {
        let in_flight = self.webhook_in_flight.with([path]);
        in_flight.inc();
        let started = std::time::Instant::now();
        WebhookCall { in_flight, latency: self.webhook_latency.with([path]), started }
    }

    /// A webhook has answered, with that HTTP status.
    pub(crate) fn webhook_answered(&self, path: &str, code: u16) {
        self.webhook_requests.with([path, &code.to_string()]).inc();
    }
}

/// A call of a webhook that is in progress.
pub(crate) struct WebhookCall {
    in_flight: Gauge,
    latency: Histogram,
    started: std::time::Instant,
}

impl Drop for WebhookCall {
    fn drop(&mut self) {
        self.in_flight.dec();
        self.latency.observe(self.started.elapsed().as_secs_f64());
    }
}

/// What a queue is counted by.
pub(crate) struct QueueMetrics {
    depth: Gauge,
    adds: Counter,
    pub(crate) retries: Counter,
    queue_time: Histogram,
    work_time: Histogram,
}

impl QueueMetrics {
    /// A key was added; so many wait now.
    pub(crate) fn added(&self, depth: usize) {
        self.adds.inc();
        self.set_depth(depth);
    }

    /// A key was taken that had waited for that long; so many wait now.
    pub(crate) fn taken(&self, depth: usize, waited: Duration) {
        self.queue_time.observe(waited.as_secs_f64());
        self.set_depth(depth);
    }

    /// The work on a key took that long.
    pub(crate) fn worked(&self, took: Duration) {
        self.work_time.observe(took.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 keys")]
    fn set_depth(&self, depth: usize) {
        self.depth.set(depth as f64);
    }

    /// Counts for nobody.
    #[cfg(test)]
    pub(crate) fn unregistered() -> Self {
        ManagerMetrics::new().unwrap().queue("test")
    }
}

/// What a controller is counted by.
#[derive(Clone)]
pub(crate) struct ControllerMetrics {
    name: &'static str,
    reconciles: Family<Counter, 2>,
    errors: Counter,
    pub(crate) panics: Counter,
    time: Histogram,
    pub(crate) active: Gauge,
}

impl ControllerMetrics {
    /// The controller.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// A reconcile ended so after that time.
    pub(crate) fn reconciled(&self, result: ReconcileResult, took: Duration) {
        let label = match result {
            ReconcileResult::Success => "success",
            ReconcileResult::Error => "error",
            ReconcileResult::RequeueAfter => "requeue_after",
        };
        self.reconciles.with([self.name, label]).inc();
        if result == ReconcileResult::Error {
            self.errors.inc();
        }
        self.time.observe(took.as_secs_f64());
    }
}
