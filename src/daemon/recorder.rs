//! What happened, for the log and the metrics.

use std::time::Duration;

use trainerd_engine::Event;
use trainerd_engine::upkeep::{DriftStatus, News};

use super::metrics::Counts;

/// Writes down what happens.
#[derive(Clone)]
pub(crate) struct Recorder {
    counts: Counts,
}

impl Recorder {
    /// A recorder that counts there.
    pub(crate) fn new(counts: Counts) -> Self {
        Self { counts }
    }

    /// A pass of the loop ended.
    pub(crate) fn pass(&self, took: Duration, kept: bool) {
        self.counts.passes.with([if kept { "kept" } else { "failed" }]).inc();
        self.counts.pass_seconds.with([]).observe(took.as_secs_f64());
    }

    /// A plan ended.
    pub(crate) fn plan(&self, purpose: &str, result: &str) {
        self.counts.plans.with([purpose, result]).inc();
    }

    /// An event of a plan.
    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Planned { purpose, revision, counts } => {
                tracing::info!(%purpose, revision, ?counts, "a plan begins");
            }
            Event::Recovering { purpose, target, undo } => {
                tracing::info!(%purpose, target, undo, "finishing a plan that was broken off");
            }
            Event::Waiting { object, on } => {
                let object = object.as_ref().map(ToString::to_string);
                tracing::info!(object, on = %on, "waiting");
            }
            Event::Retrying { object, error, after_ms } => {
                tracing::info!(%object, error, after_ms, "trying again");
            }
            Event::Failed { object, error } => {
                let object = object.as_ref().map(ToString::to_string);
                tracing::warn!(object, error, "a step failed");
            }
            Event::RollingBack { to, reason } => tracing::warn!(to, reason, "rolling back"),
            Event::Started { object, verb } => tracing::debug!(%object, verb, "started"),
            Event::Done { object, verb, millis, .. } => tracing::debug!(%object, verb, millis, "done"),
        }
    }

    /// News of the upkeep.
    pub(crate) fn news(&self, news: &News) {
        match news {
            News::Drifted(drift) => {
                self.counts.drift_found.with([&drift.object.kind]).inc();
                let DriftStatus { object, changes, by, state, .. } = drift;
                let paths: Vec<String> = changes.iter().map(|change| change.path.to_string()).collect();
                tracing::info!(%object, ?paths, ?by, ?state, "changed by somebody");
            }
            News::Repaired { object, verb, by, took } => {
                self.counts.drift_repaired.with([&object.kind, verb]).inc();
                self.counts.repair_seconds.with([]).observe(took.as_secs_f64());
                tracing::info!(%object, verb, ?by, ?took, "put right");
            }
            News::Gone(object) => tracing::info!(%object, "is as it should be again"),
            News::NeedsPlan { why } => tracing::info!(why, "a plan is needed"),
            News::Changed | News::Record(_) | News::Paused(_) => {}
        }
    }
}
