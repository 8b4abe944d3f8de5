//! What happened, for the log, the metrics, Kubernetes Events and traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trainerd_cluster::announce::{Announcement, Announcer, Tone};
use trainerd_engine::upkeep::{DriftState, DriftStatus, News};
use trainerd_engine::{EngineError, Event};
use trainerd_plan::applyset;
use trainerd_plan::desired::Installation;
use trainerd_plan::object::ObjectKey;

use super::metrics::Counts;
use crate::cli::errors::Problem;
use crate::traces::Traces;

/// Writes down what happens.
#[derive(Clone)]
pub(crate) struct Recorder {
    counts: Counts,
    announcer: Announcer,
    traces: Traces,
    /// The Secret with the record: what Events about the installation as a whole are about.
    record: ObjectKey,
    /// On standby: another daemon tells the cluster.
    standby: Arc<AtomicBool>,
}

impl Recorder {
    /// A recorder for an installation.
    pub(crate) fn new(
        counts: Counts,
        announcer: Announcer,
        traces: Traces,
        installation: &Installation,
    ) -> Self {
        let record = ObjectKey {
            group: String::new(),
            kind: "Secret".to_owned(),
            namespace: Some(installation.namespace.clone()),
            name: applyset::parent_name(installation),
        };
        Self { counts, announcer, traces, record, standby: Arc::default() }
    }

    /// Whether it is another daemon's turn, whose Events are not repeated.
    pub(crate) fn set_standby(&self, standby: bool) {
        self.standby.store(standby, Ordering::Relaxed);
    }

    /// A pass of the loop ended.
    pub(crate) fn pass(&self, took: Duration, kept: bool) {
        self.counts.passes.with([if kept { "kept" } else { "failed" }]).inc();
        self.counts.pass_seconds.with([]).observe(took.as_secs_f64());
    }

    /// Something stands in the way of a pass.
    pub(crate) fn obstacle(&self, phase: &'static str, problem: &Problem) {
        let why = problem.why().join("; ");
        tracing::warn!(phase, code = problem.code, why, hint = problem.hint, "{}", problem.message);
        let note = format!("{}: {why}", problem.message);
        self.tell(Tone::Warning, "Obstacle", "Reconcile", note);
    }

    /// A plan ended.
    pub(crate) fn plan(&self, purpose: &str, revision: Option<u64>, error: Option<&str>) {
        self.counts.plans.with([purpose, if error.is_none() { "done" } else { "failed" }]).inc();
        let to = revision.map(|revision| format!(" to revision {revision}")).unwrap_or_default();
        match error {
            None => self.tell(Tone::Normal, "PlanDone", "Execute", format!("the {purpose}{to} is done")),
            Some(error) => {
                self.tell(
                    Tone::Warning,
                    "PlanFailed",
                    "Execute",
                    format!("the {purpose}{to} failed: {error}"),
                );
            }
        }
    }

    /// Nothing of a plan runs any more, whether it came to its end or not.
    pub(crate) fn ran(&self, error: Option<&EngineError>) {
        self.traces.ended(error);
    }

    /// An event of a plan.
    pub(crate) fn event(&self, event: &Event) {
        self.traces.event(event);
        match event {
            Event::Planned { purpose, revision, counts } => {
                tracing::info!(%purpose, revision, ?counts, "a plan begins");
            }
            Event::Recovering { purpose, target, undo } => {
                tracing::info!(%purpose, target, undo, "finishing a plan that was broken off");
                let note = format!("finishing the {purpose} to revision {target}, which was broken off");
                self.tell(Tone::Normal, "Recovering", "Execute", note);
            }
            Event::Waiting { object, on } => {
                let object = object.as_ref().map(ToString::to_string);
                tracing::info!(object, on = %on, "waiting");
            }
            Event::Retrying { object, error, after_ms } => {
                tracing::info!(%object, error, after_ms, "trying again");
            }
            Event::Overtaken { why, .. } => {
                tracing::warn!(why, "planning again");
                self.tell(Tone::Warning, "Overtaken", "Execute", format!("planning again: {why}"));
            }
            Event::Failed { object, error } => {
                let object = object.as_ref().map(ToString::to_string);
                tracing::warn!(object, error, "a step failed");
            }
            Event::RollingBack { to, reason } => {
                tracing::warn!(to, reason, "rolling back");
                self.tell(
                    Tone::Warning,
                    "RollingBack",
                    "Execute",
                    format!("back to revision {to}: {reason}"),
                );
            }
            Event::Started { object, verb, .. } => tracing::debug!(%object, verb, "started"),
            Event::Done { object, verb, millis, .. } => tracing::debug!(%object, verb, millis, "done"),
        }
    }

    /// News of the upkeep.
    pub(crate) fn news(&self, news: &News) {
        self.traces.news(news);
        match news {
            News::Drifted(drift) => self.drifted(drift),
            News::Repaired { object, verb, by, took, .. } => {
                self.counts.drift_repaired.with([&object.kind, verb]).inc();
                self.counts.repair_seconds.with([]).observe(took.as_secs_f64());
                tracing::info!(%object, verb, ?by, ?took, "put right");
                let who = if by.is_empty() { "somebody".to_owned() } else { by.join(", ") };
                let note = format!("{object} was changed by {who} and put right");
                self.tell(Tone::Normal, "DriftRepaired", "Repair", note);
            }
            News::Gone(object) => tracing::info!(%object, "is as it should be again"),
            News::NeedsPlan { why } => tracing::info!(why, "a plan is needed"),
            News::Changed | News::Record(_) | News::Paused(_) | News::Ruled(_) => {}
        }
    }

    fn drifted(&self, drift: &DriftStatus) {
        self.counts.drift_found.with([&drift.object.kind]).inc();
        let DriftStatus { object, changes, by, state, .. } = drift;
        let paths: Vec<String> = changes.iter().map(|change| change.path.to_string()).collect();
        tracing::info!(%object, ?paths, ?by, ?state, "changed by somebody");
        let note = match state {
            DriftState::Contended { path, manager, seconds } => format!(
                "{object}: {path} is changed back by {manager} again and again; left alone for {seconds} s"
            ),
            DriftState::Left { why } => format!("{object}: {} differs: {why}", paths.join(", ")),
            DriftState::Failed { error } => format!("{object} cannot be put right: {error}"),
            DriftState::Repairing | DriftState::Waiting { .. } | DriftState::Paused => return,
        };
        let reason = if matches!(state, DriftState::Contended { .. }) { "Contended" } else { "Drift" };
        self.tell(Tone::Warning, reason, "Repair", note);
    }

    /// An Event about the installation.
    fn tell(&self, tone: Tone, reason: &'static str, action: &'static str, note: String) {
        if self.standby.load(Ordering::Relaxed) {
            return;
        }
        let (regarding, api_version) = (self.record.clone(), "v1".to_owned());
        self.announcer.announce(Announcement { regarding, api_version, tone, reason, action, note });
    }
}
