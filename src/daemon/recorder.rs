//! What happened, for the log, the metrics, Kubernetes Events and traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use trainerd_causes::one_line;
use trainerd_cluster::event_recorder::{EventRecorder, EventType, NewEvent};
use trainerd_engine::drift_controller::{DriftEvent, DriftState, DriftStatus};
use trainerd_engine::{EngineError, Event};
use trainerd_plan::applyset;
use trainerd_plan::desired::Installation;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::plan::Purpose;
use trainerd_supervise::Report;

use super::hosting::outage;
use super::metrics::Counts;
use super::status_store::Phase;
use crate::options::declared::Source;
use crate::problem::Problem;
use crate::traces::Traces;

/// Writes down what happens.
#[derive(Clone)]
pub(crate) struct Recorder {
    counts: Counts,
    events: EventRecorder,
    traces: Traces,
    /// The Secret with the record: what Events about the installation as a whole are about.
    record: ObjectKey,
    /// The ConfigMap in which the options are declared, where they are in one.
    options: Option<ObjectKey>,
    /// On standby: another daemon tells the cluster.
    standby: Arc<AtomicBool>,
}

impl Recorder {
    /// A recorder for an installation.
    pub(crate) fn new(
        counts: Counts,
        events: EventRecorder,
        traces: Traces,
        installation: &Installation,
        source: &Source,
    ) -> Self {
        let record = ObjectKey {
            group: String::new(),
            kind: "Secret".to_owned(),
            namespace: Some(installation.namespace.clone()),
            name: applyset::parent_name(installation),
        };
        let options = match source {
            Source::ConfigMap { namespace, name } => Some(ObjectKey {
                group: String::new(),
                kind: "ConfigMap".to_owned(),
                namespace: Some(namespace.clone()),
                name: name.clone(),
            }),
            Source::File(_) | Source::Api => None,
        };
        Self { counts, events, traces, record, options, standby: Arc::default() }
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

    /// Something stands in the way of a pass. `uid`: of the ConfigMap with the options, where they are in one.
    pub(crate) fn blocked(&self, phase: Phase, problem: &Problem, uid: Option<String>) {
        let (word, why) = (phase.word(), problem.why().join("; "));
        tracing::warn!(phase = word, code = problem.code, why, hint = problem.hint, "{}", problem.message);
        let note = format!("{}: {why}", problem.message);
        if let Some((reason, what)) = options_event(phase) {
            let hint = problem.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            self.tell_of_options(EventType::Warning, reason, format!("{what}: {note}{hint}"), uid);
        }
        self.tell(EventType::Warning, "Blocked", "Reconcile", note);
    }

    /// Nothing stands in the way any more, where something in that phase did.
    pub(crate) fn overcome(&self, phase: Phase, uid: Option<String>) {
        if options_event(phase).is_some() {
            self.tell_of_options(
                EventType::Normal,
                "OptionsApplied",
                "these options are in force".to_owned(),
                uid,
            );
        }
    }

    /// Somebody asked for something over the API, and it was done.
    pub(crate) fn command(&self, what: &'static str, who: Option<&str>) {
        let who = who.unwrap_or("somebody unknown");
        tracing::info!(who, what, "requested over the API");
        let note = format!("{} by {who}, over the API of the daemon", what.to_lowercase());
        self.tell(EventType::Normal, what, "Reconcile", note);
    }

    /// A plan ended: the last one of those that ran for this. A plan that was interrupted did not.
    pub(crate) fn plan(
        &self,
        purpose: Purpose,
        revision: Option<u64>,
        error: Option<&EngineError>,
        asked_by: Option<&str>,
    ) {
        match error {
            None => self.plan_done(purpose, revision, asked_by),
            Some(EngineError::Interrupted) => {}
            // The plan that failed was told as it went back; the last one is the one that brought it back.
            Some(EngineError::RolledBack { purpose, revision, back, reason }) => {
                self.plan_failed(*purpose, Some(*revision), reason);
                self.plan_done(Purpose::Rollback, Some(*back), None);
            }
            Some(error) => self.plan_failed(purpose, revision, &one_line(error)),
        }
    }

    fn plan_done(&self, purpose: Purpose, revision: Option<u64>, asked_by: Option<&str>) {
        self.counts.plans.with([&purpose.to_string(), "done"]).inc();
        let who = asked_by.map(|who| format!(", requested by {who}")).unwrap_or_default();
        let note = format!("the {purpose}{} is done{who}", to(revision));
        self.tell(EventType::Normal, "PlanDone", "Execute", note);
    }

    fn plan_failed(&self, purpose: Purpose, revision: Option<u64>, why: &str) {
        self.counts.plans.with([&purpose.to_string(), "failed"]).inc();
        let note = format!("the {purpose}{} failed: {why}", to(revision));
        self.tell(EventType::Warning, "PlanFailed", "Execute", note);
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
                tracing::info!(%purpose, target, undo, "finishing a plan that was interrupted");
                let note = format!("finishing the {purpose} to revision {target}, which was interrupted");
                self.tell(EventType::Normal, "Recovering", "Execute", note);
            }
            Event::Waiting { object, on } => {
                let object = object.as_ref().map(ToString::to_string);
                tracing::info!(object, on = %on, "waiting");
            }
            Event::Retrying { object, error, after_ms } => {
                tracing::info!(%object, error, after_ms, "trying again");
            }
            Event::ChangedByAdmission { object, fields } => {
                tracing::warn!(%object, ?fields, "changed by admission control and left as it is");
            }
            Event::Overtaken { why, .. } => {
                tracing::warn!(why, "planning again");
                self.tell(EventType::Warning, "Overtaken", "Execute", format!("planning again: {why}"));
            }
            Event::Failed { object, error } => {
                let object = object.as_ref().map(ToString::to_string);
                tracing::warn!(object, error, "a step failed");
            }
            Event::RollingBack { to, reason } => {
                tracing::warn!(to, reason, "rolling back");
                self.tell(
                    EventType::Warning,
                    "RollingBack",
                    "Execute",
                    format!("rolling back to revision {to}: {reason}"),
                );
            }
            Event::Started { object, verb, .. } => tracing::debug!(%object, verb, "started"),
            Event::Done { object, verb, millis, .. } => tracing::debug!(%object, verb, millis, "done"),
        }
    }

    /// An event of the drift controller.
    pub(crate) fn drift_event(&self, event: &DriftEvent) {
        self.traces.drift_event(event);
        match event {
            DriftEvent::Drifted(drift) => self.drifted(drift),
            DriftEvent::Repaired { object, verb, by, took, .. } => {
                self.counts.drift_repaired.with([&object.kind, verb]).inc();
                self.counts.repair_seconds.with([]).observe(took.as_secs_f64());
                tracing::info!(%object, verb, ?by, ?took, "repaired");
                let who = if by.is_empty() { "somebody".to_owned() } else { by.join(", ") };
                let note = format!("{object} was changed by {who} and repaired");
                self.tell(EventType::Normal, "DriftRepaired", "Repair", note);
            }
            DriftEvent::Gone(object) => tracing::info!(%object, "no longer differs"),
            DriftEvent::NeedsPlan { why } => tracing::info!(why, "a plan is needed"),
            DriftEvent::Changed | DriftEvent::Record(_) | DriftEvent::Paused(_) | DriftEvent::Owner(_) => {}
        }
    }

    fn drifted(&self, drift: &DriftStatus) {
        self.counts.drift_found.with([&drift.object.kind]).inc();
        let DriftStatus { object, changes, by, state, .. } = drift;
        let paths: Vec<String> = changes.iter().map(|change| change.path.to_string()).collect();
        tracing::info!(%object, ?paths, ?by, ?state, "changed by somebody");
        let note = match state {
            DriftState::Contended { path, manager, seconds } => {
                format!("{object}: {manager} keeps changing {path} back; not repaired for {seconds} s")
            }
            DriftState::Left { why } => format!("{object}: {} differs: {why}", paths.join(", ")),
            DriftState::Failed { error } => format!("{object} cannot be repaired: {error}"),
            DriftState::Repairing | DriftState::Waiting { .. } | DriftState::Paused => return,
        };
        let reason = if matches!(state, DriftState::Contended { .. }) { "Contended" } else { "Drift" };
        self.tell(EventType::Warning, reason, "Repair", note);
    }

    /// A hosted workload is another way than before.
    pub(crate) fn hosted(&self, before: Option<&Report>, now: &Report) {
        let restarts = now.restarts - before.map_or(0, |before| before.restarts);
        self.counts.hosted_restarts.with([&now.name]).inc_by(restarts);
        let name = &now.name;
        let failure = now.failure.as_ref();
        if let Some(failure) =
            failure.filter(|failure| before.is_none_or(|it| it.failure.as_ref() != Some(*failure)))
        {
            let note = format!("hosted workload {name}: {}", failure.message);
            self.tell(EventType::Warning, "HostedFailed", "Host", note);
        }
        if let Some(outage) = before.and_then(|before| outage(before, now)) {
            tracing::info!(workload = name, ?outage, "ready again");
            let note = format!("hosted workload {name} is ready again after {:.1} s", outage.as_secs_f32());
            self.tell(EventType::Normal, "HostedRecovered", "Host", note);
        }
    }

    /// An Event about the installation.
    fn tell(&self, event_type: EventType, reason: &'static str, action: &'static str, note: String) {
        self.record_event(self.record.clone(), None, event_type, (reason, action), note);
    }

    /// An Event about the ConfigMap with the options, where they are in one: `kubectl describe` shows it to whoever
    /// edited it, for which it takes the uid.
    fn tell_of_options(
        &self,
        event_type: EventType,
        reason: &'static str,
        note: String,
        uid: Option<String>,
    ) {
        if let Some(options) = self.options.clone() {
            self.record_event(options, uid, event_type, (reason, "Reconcile"), note);
        }
    }

    fn record_event(
        &self,
        regarding: ObjectKey,
        uid: Option<String>,
        event_type: EventType,
        (reason, action): (&'static str, &'static str),
        note: String,
    ) {
        if self.standby.load(Ordering::Relaxed) {
            return;
        }
        let api_version = "v1".to_owned();
        self.events.record(NewEvent { regarding, uid, api_version, event_type, reason, action, note });
    }
}

fn to(revision: Option<u64>) -> String {
    revision.map(|revision| format!(" to revision {revision}")).unwrap_or_default()
}

/// What whoever edits the options receives what stands in their way, in a word and in words; `None` where it is
/// nothing about the options.
fn options_event(phase: Phase) -> Option<(&'static str, &'static str)> {
    match phase {
        Phase::Invalid => {
            Some(("OptionsInvalid", "these options are invalid; the previous ones stay in effect"))
        }
        Phase::Refused => {
            Some(("OptionsRefused", "these options are refused; the previous ones stay in effect"))
        }
        Phase::Failed => Some(("OptionsFailed", "these options failed to be applied")),
        Phase::Starting
        | Phase::Absent
        | Phase::Running
        | Phase::Ready
        | Phase::Waiting
        | Phase::Degraded
        | Phase::Paused
        | Phase::Standby
        | Phase::Held
        | Phase::Disconnected => None,
    }
}
