//! Every metric of the daemon, defined once: what `/metrics` exposes, what alert rules and the dashboard are made of.

mod train_jobs;

use trainerd_plan::plan::Purpose;
use trainerd_serve::metrics::{
    Counter, Definition, Family, Gauge, Histogram, Info, Metrics, MetricsError, Unit,
};

use super::status_store::{Phase, StatusStore};
use crate::training::Listed;
use crate::training::on_demand::OnDemand;
pub(crate) use train_jobs::ask_before_scrapes;

/// Bounds of durations, in seconds: from a repair to an upgrade.
pub(crate) const DURATIONS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0];

pub(crate) const BUILD: Definition<Info, 1> =
    Definition::info("trainerd_build", "The running binary", ["version"]);
pub(crate) const PASSES: Definition<Counter, 1> =
    Definition::counter("trainerd_reconciles", "Reconciliation passes by result", ["result"]);
pub(crate) const PASS_SECONDS: Definition<Histogram, 0> = Definition::histogram(
    "trainerd_reconcile_duration_seconds",
    "Duration of a reconciliation pass",
    [],
    DURATIONS,
)
.unit(Unit::Seconds);
pub(crate) const REQUESTS: Definition<Counter, 3> = Definition::counter(
    "trainerd_kubernetes_requests",
    "Requests to the API server by verb, resource and status code; code 0 means no response",
    ["verb", "resource", "code"],
);
pub(crate) const DRIFT_FOUND: Definition<Counter, 1> =
    Definition::counter("trainerd_drift_detected", "Objects that others changed, by kind", ["kind"]);
pub(crate) const DRIFT_REPAIRED: Definition<Counter, 2> =
    Definition::counter("trainerd_drift_repaired", "Repaired objects, by kind and verb", ["kind", "verb"]);
pub(crate) const REPAIR_SECONDS: Definition<Histogram, 0> = Definition::histogram(
    "trainerd_drift_repair_duration_seconds",
    "Time from detecting a change to the response of the write that repaired it",
    [],
    DURATIONS,
)
.unit(Unit::Seconds);
pub(crate) const DRIFTED: Definition<Gauge, 1> = Definition::gauge(
    "trainerd_drifted_objects",
    "Objects that differ from the revision now, by state",
    ["state"],
);
pub(crate) const PLANS: Definition<Counter, 2> =
    Definition::counter("trainerd_plans", "Finished plans, by purpose and result", ["purpose", "result"]);
pub(crate) const HOSTED_UP: Definition<Gauge, 1> = Definition::gauge(
    "trainerd_hosted_up",
    "Whether a hosted workload is running and its checks succeed",
    ["workload"],
);
pub(crate) const HOSTED_RESTARTS: Definition<Counter, 1> = Definition::counter(
    "trainerd_hosted_restarts",
    "Unrequested restarts of a hosted workload",
    ["workload"],
);
pub(crate) const REVISION: Definition<Gauge, 0> =
    Definition::gauge("trainerd_revision", "Number of the current revision", []);
pub(crate) const REVISIONS: Definition<Gauge, 0> =
    Definition::gauge("trainerd_revisions", "Number of stored revisions", []);
pub(crate) const WAITS: Definition<Gauge, 1> =
    Definition::gauge("trainerd_waits", "Waits of the current plan, by reason", ["reason"]);
pub(crate) const LEADER: Definition<Gauge, 0> =
    Definition::gauge("trainerd_leader", "Whether this process holds the lease of the installation", []);
pub(crate) const PHASE: Definition<Gauge, 1> =
    Definition::gauge("trainerd_phase", "1 for the phase that the installation is in", ["phase"]);
pub(crate) const SETTLED: Definition<Gauge, 0> =
    Definition::gauge("trainerd_settled", "Whether the installation matches the options and is ready", []);
pub(crate) const OBJECTS: Definition<Gauge, 2> = Definition::gauge(
    "trainerd_objects",
    "Objects of the revision by component: ready ones and total",
    ["component", "state"],
);
pub(crate) const WATCHES: Definition<Gauge, 1> = Definition::gauge(
    "trainerd_watches_interrupted",
    "Whether the watch of a kind is interrupted",
    ["resource"],
);

/// What is counted as it happens.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) passes: Family<Counter, 1>,
    pub(crate) pass_seconds: Family<Histogram, 0>,
    pub(crate) requests: Family<Counter, 3>,
    pub(crate) drift_found: Family<Counter, 1>,
    pub(crate) drift_repaired: Family<Counter, 2>,
    pub(crate) repair_seconds: Family<Histogram, 0>,
    pub(crate) plans: Family<Counter, 2>,
    pub(crate) hosted_restarts: Family<Counter, 1>,
}

/// Registers every metric. What is known already is read from the status store at each scrape.
pub(crate) fn register(
    metrics: &Metrics,
    store: &StatusStore,
    train_jobs: &OnDemand<Listed>,
) -> Result<Counts, MetricsError> {
    metrics.register(&BUILD)?.with([env!("CARGO_PKG_VERSION")]);
    let counts = Counts {
        passes: metrics.register(&PASSES)?,
        pass_seconds: metrics.register(&PASS_SECONDS)?,
        requests: metrics.register(&REQUESTS)?,
        drift_found: metrics.register(&DRIFT_FOUND)?,
        drift_repaired: metrics.register(&DRIFT_REPAIRED)?,
        repair_seconds: metrics.register(&REPAIR_SECONDS)?,
        plans: metrics.register(&PLANS)?,
        hosted_restarts: metrics.register(&HOSTED_RESTARTS)?,
    };
    counts.passes.with(["kept"]);
    counts.passes.with(["failed"]);
    // From the start, as PromQL's increase() does not see the first count of a series that is new with it.
    for purpose in [Purpose::Install, Purpose::Change, Purpose::Upgrade, Purpose::Rollback, Purpose::Remove] {
        for result in ["done", "failed"] {
            counts.plans.with([&purpose.to_string(), result]);
        }
    }
    let flag = |value: bool| vec![([], f64::from(u8::from(value)))];
    let own = store.clone();
    metrics.compute(&LEADER, move || flag(own.view().lease))?;
    let own = store.clone();
    metrics.compute(&SETTLED, move || flag(own.view().settled))?;
    let own = store.clone();
    metrics.compute(&PHASE, move || {
        let now = own.view().phase;
        let row = |phase: Phase| ([phase.word().to_owned()], f64::from(u8::from(phase == now)));
        Phase::ALL.into_iter().map(row).collect()
    })?;
    let own = store.clone();
    metrics.compute(&REVISION, move || {
        let view = own.view();
        view.snapshot.iter().map(|snapshot| ([], number(snapshot.status.revision))).collect()
    })?;
    let own = store.clone();
    metrics.compute(&HOSTED_UP, move || {
        let view = own.view();
        let wanted = view.hosted.iter().map(|hosted| &hosted.report).filter(|report| report.wanted);
        wanted.map(|report| ([report.name.clone()], f64::from(u8::from(report.ready)))).collect()
    })?;
    let own = store.clone();
    metrics.compute(&REVISIONS, move || vec![([], count(own.view().revisions.len()))])?;
    let own = store.clone();
    metrics.compute(&DRIFTED, move || {
        let view = own.view();
        let states = ["repairing", "waiting", "paused", "left", "contended", "failed"];
        let drift = || view.snapshot.iter().flat_map(|snapshot| &snapshot.drift);
        let row = |state: &str| {
            ([state.to_owned()], count(drift().filter(|drift| drift.state.word() == state).count()))
        };
        states.into_iter().map(row).collect()
    })?;
    let own = store.clone();
    metrics.compute(&WAITS, move || {
        let view = own.view();
        let waiting = || view.plan.iter().filter(|plan| plan.ended.is_none()).flat_map(|plan| &plan.waiting);
        let row = |reason: &'static str| {
            ([reason.to_owned()], count(waiting().filter(|waiting| waiting.reason == reason).count()))
        };
        trainerd_plan::reason::WaitingOn::WORDS.into_iter().map(row).collect()
    })?;
    let own = store.clone();
    metrics.compute(&OBJECTS, move || {
        let view = own.view();
        let components = view.snapshot.iter().flat_map(|snapshot| &snapshot.status.components);
        let rows = components.flat_map(|(name, component)| {
            let row = |state: &str, number: usize| ([name.clone(), state.to_owned()], count(number));
            [row("ready", component.ready), row("total", component.total)]
        });
        rows.collect()
    })?;
    let own = store.clone();
    metrics.compute(&WATCHES, move || {
        own.view().troubles.iter().map(|(resource, _)| ([resource.clone()], 1.0)).collect()
    })?;
    train_jobs::register(metrics, store, train_jobs)?;
    Ok(counts)
}

fn count(number: usize) -> f64 {
    self::number(u64::try_from(number).unwrap_or(u64::MAX))
}

/// Exact up to 2^53, which neither revisions nor objects reach.
#[expect(clippy::cast_precision_loss)]
fn number(number: u64) -> f64 {
    number as f64
}
