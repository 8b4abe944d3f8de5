//! What is counted of TrainJobs: `kubeflow_trainer_*`. Labels never hold a namespace or the name of a job: there is no
//! end of them.

use std::time::Duration;

use serde_json::Value;
use trainerd_serve::Metrics;
use trainerd_serve::metrics::{Counter, Definition, Family, Gauge, Histogram, Info, MetricsError, Unit};

use crate::cache::Store;

/// Bounds of waits and of whole jobs, in seconds: from at once to a week.
const DURATION_BUCKETS: &[f64] = &[
    1.0,
    5.0,
    15.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    4.0 * 3600.0,
    12.0 * 3600.0,
    86400.0,
    3.0 * 86400.0,
    7.0 * 86400.0,
];
/// Bounds of a build, in seconds.
const SHORT: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

const CREATED: Definition<Counter, 2> = Definition::counter(
    "kubeflow_trainer_trainjobs_created",
    "TrainJobs that were first built, by runtime",
    ["runtime_kind", "runtime"],
);
const FINISHED: Definition<Counter, 4> = Definition::counter(
    "kubeflow_trainer_trainjobs_finished",
    "TrainJobs that ended, by runtime and how",
    ["runtime_kind", "runtime", "result", "reason"],
);
const STATES: Definition<Gauge, 1> =
    Definition::gauge("kubeflow_trainer_trainjobs", "TrainJobs that there are, by state", ["state"]);
const START_WAIT: Definition<Histogram, 0> = Definition::histogram(
    "kubeflow_trainer_trainjob_start_wait_seconds",
    "Time from the creation of a TrainJob to its first start",
    [],
    DURATION_BUCKETS,
)
.unit(Unit::Seconds);
const DURATION: Definition<Histogram, 1> = Definition::histogram(
    "kubeflow_trainer_trainjob_duration_seconds",
    "Time from the last start of a TrainJob to its end",
    ["result"],
    DURATION_BUCKETS,
)
.unit(Unit::Seconds);
const BUILD: Definition<Histogram, 1> = Definition::histogram(
    "kubeflow_trainer_build_duration_seconds",
    "Time that a TrainJob's objects take to build and to apply",
    ["phase"],
    SHORT,
)
.unit(Unit::Seconds);
const APPLIES: Definition<Counter, 2> = Definition::counter(
    "kubeflow_trainer_applies",
    "Objects that were applied, by kind and result",
    ["kind", "result"],
);
const REPORTS: Definition<Counter, 1> =
    Definition::counter("kubeflow_trainer_status_reports", "Reports of progress by HTTP status", ["code"]);
const BUILD_INFO: Definition<Info, 2> =
    Definition::info("kubeflow_trainer_build", "This program", ["version", "compatibility"]);

/// What is counted of TrainJobs. Clones share it.
#[derive(Clone)]
pub(crate) struct TrainJobMetrics {
    created: Family<Counter, 2>,
    finished: Family<Counter, 4>,
    start_wait: Histogram,
    duration: Family<Histogram, 1>,
    build: Family<Histogram, 1>,
    applies: Family<Counter, 2>,
    reports: Family<Counter, 1>,
}

impl TrainJobMetrics {
    pub(crate) fn register(metrics: &Metrics, train_jobs: Store) -> Result<Self, MetricsError> {
        metrics.register(&BUILD_INFO)?.with([env!("CARGO_PKG_VERSION"), "extended"]);
        metrics.compute(&STATES, move || states(&train_jobs))?;
        Ok(Self {
            created: metrics.register(&CREATED)?,
            finished: metrics.register(&FINISHED)?,
            start_wait: metrics.register(&START_WAIT)?.with([]),
            duration: metrics.register(&DURATION)?,
            build: metrics.register(&BUILD)?,
            applies: metrics.register(&APPLIES)?,
            reports: metrics.register(&REPORTS)?,
        })
    }

    /// A TrainJob was first built.
    pub(crate) fn created(&self, job: &Value) {
        let [kind, name] = runtime(job);
        self.created.with([kind, name]).inc();
    }

    /// A TrainJob was started for the first time, so long after it was created.
    pub(crate) fn started(&self, waited: Duration) {
        self.start_wait.observe(waited.as_secs_f64());
    }

    /// A TrainJob ended, so long after its last start.
    pub(crate) fn finished(&self, job: &Value, result: &str, reason: &str, took: Duration) {
        let [kind, name] = runtime(job);
        self.finished.with([kind, name, result, reason]).inc();
        self.duration.with([result]).observe(took.as_secs_f64());
    }

    /// A phase of a build took so long.
    pub(crate) fn built(&self, phase: &str, took: Duration) {
        self.build.with([phase]).observe(took.as_secs_f64());
    }

    /// An object was applied, or not.
    pub(crate) fn applied(&self, kind: &str, succeeded: bool) {
        self.applies.with([kind, if succeeded { "success" } else { "error" }]).inc();
    }

    /// A report was answered.
    pub(crate) fn reported(&self, code: u16) {
        self.reports.with([&code.to_string()]).inc();
    }
}

fn runtime(job: &Value) -> [&str; 2] {
    let reference = &job["spec"]["runtimeRef"];
    [&reference["kind"], &reference["name"]].map(|text| text.as_str().unwrap_or_default())
}

/// How many TrainJobs are in each state.
fn states(train_jobs: &Store) -> Vec<([String; 1], f64)> {
    let mut counts = [("suspended", 0.0), ("active", 0.0), ("complete", 0.0), ("failed", 0.0)];
    for (_, stored) in train_jobs.all() {
        let job = stored.read();
        let is = |kind: &str| {
            let conditions = job["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|it| it["type"] == kind && it["status"] == "True"))
        };
        let state = if is("Complete") {
            2
        } else if is("Failed") {
            3
        } else {
            usize::from(job["spec"]["suspend"] != true)
        };
        counts[state].1 += 1.0;
    }
    counts.map(|(state, count)| ([state.to_owned()], count)).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_train_job_is_in_one_state() {
        let store = Store::new();
        let job = |name: &str, suspend: bool, condition: &str| {
            json!({
                "metadata": {"name": name, "namespace": "ns", "resourceVersion": "1"},
                "spec": {"suspend": suspend},
                "status": {"conditions": [{"type": condition, "status": "True"}]},
            })
        };
        for (name, suspend, condition) in [
            ("a", true, "Suspended"),
            ("b", false, "Other"),
            ("c", true, "Complete"),
            ("d", false, "Failed"),
            ("e", false, "Failed"),
        ] {
            store.observe(&job(name, suspend, condition));
        }
        let counts: Vec<f64> = states(&store).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1.0, 1.0, 1.0, 2.0]);
    }
}
