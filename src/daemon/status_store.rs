//! The daemon's state, for the API, the probes, the metrics and the page.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use trainerd_engine::drift_controller::StatusSnapshot;
use trainerd_engine::{Event, Marker};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::plan::{Counts, Purpose};
use trainerd_plan::reason::WaitingOn;

use super::hosting;
use super::hosting::view::{HostedView, ReconcilerPlace};
use crate::problem::Problem;

/// Events that a slow reader may be behind before it misses some.
const BACKLOG: usize = 256;

/// Phase of the installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Nothing was seen yet.
    #[default]
    Starting,
    /// Nothing is installed, and no options are declared.
    Absent,
    /// A plan runs.
    Running,
    /// Everything is ready and matches the options.
    Ready,
    /// Some object is not ready.
    Waiting,
    /// Every object is ready, and a hosted workload is not.
    Degraded,
    /// Reconciliation is suspended.
    Paused,
    /// Another daemon acts; this one only observes.
    Standby,
    /// What the options want is refused.
    Refused,
    /// A plan failed.
    Failed,
    /// The options cannot be read, or are wrong.
    Invalid,
    /// Another process holds the lease.
    Held,
    /// The API server does not answer.
    Disconnected,
}

impl Phase {
    /// Every phase, for the metric that has one series each.
    pub(crate) const ALL: [Self; 13] = [
        Self::Starting,
        Self::Absent,
        Self::Running,
        Self::Ready,
        Self::Waiting,
        Self::Paused,
        Self::Standby,
        Self::Refused,
        Self::Failed,
        Self::Invalid,
        Self::Held,
        Self::Disconnected,
        Self::Degraded,
    ];

    /// The word, as JSON and metrics have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Absent => "absent",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::Standby => "standby",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Held => "held",
            Self::Disconnected => "disconnected",
        }
    }
}

/// A plan that runs, or the last one that did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanView {
    /// What for.
    pub(crate) purpose: Purpose,
    /// The revision that it leads to.
    pub(crate) revision: Option<u64>,
    /// Its steps by kind.
    pub(crate) counts: Counts,
    /// Steps done.
    pub(crate) done: usize,
    /// Steps in all.
    pub(crate) total: usize,
    /// When it began.
    pub(crate) started: Timestamp,
    /// When it ended, and how: nothing while it runs.
    pub(crate) ended: Option<Timestamp>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// What it waits for.
    pub(crate) waiting: Vec<Waiting>,
    /// Where it goes back to, and why, if it does.
    pub(crate) back: Option<RollingBack>,
}

/// A plan failed and is being rolled back.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RollingBack {
    /// The revision to return to.
    pub(crate) to: u64,
    /// What failed.
    pub(crate) reason: String,
}

/// A wait of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waiting {
    /// The object; nothing where the plan as a whole waits.
    pub(crate) object: Option<ObjectKey>,
    /// For what, in words.
    pub(crate) text: String,
    /// For what, in one word, as metrics have it.
    pub(crate) reason: &'static str,
    /// For what.
    #[serde(skip)]
    pub(crate) on: WaitingOn,
    /// Since when it waits for anything.
    pub(crate) since: Timestamp,
}

/// Whether the API server serves the kinds of the configured service mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MeshApi {
    /// It does, or no mesh is configured.
    #[default]
    Served,
    /// It does not (yet).
    Missing,
}

/// A revision in the list of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevisionView {
    pub(crate) number: u64,
    pub(crate) created: Timestamp,
    pub(crate) by: String,
    /// Who asked a daemon for it over its API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asked_by: Option<String>,
    pub(crate) purpose: Purpose,
    /// Component versions.
    pub(crate) versions: BTreeMap<String, String>,
    /// Its outcome, in words.
    pub(crate) outcome: String,
}

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusView {
    /// The installation's name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Version of the daemon.
    pub(crate) version: &'static str,
    /// Where the options are declared.
    pub(crate) source: String,
    /// Which options are in force; nothing before the first.
    pub(crate) generation: Option<String>,
    /// Which options are declared now: those that the phase and its reason are about.
    pub(crate) declared: Option<String>,
    /// Which newer options wait for the plan that runs: they replace it once nothing moves.
    pub(crate) newer: Option<String>,
    /// How the installation is.
    pub(crate) phase: Phase,
    /// Why it is not ready.
    pub(crate) reason: Option<Problem>,
    /// Whether it matches the options and is ready.
    pub(crate) settled: bool,
    /// The version of a staged upgrade, if one waits for approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) staged: Option<String>,
    /// Whether the configured service mesh has its API.
    #[serde(skip)]
    pub(crate) mesh_api: MeshApi,
    /// The trainer's version that is being installed.
    #[serde(skip)]
    pub(crate) heading: Option<String>,
    /// Whether, and by whom, it is paused.
    pub(crate) paused: Option<Marker>,
    /// Status and drift; nothing while nothing is installed.
    #[serde(rename = "outlook")]
    pub(crate) snapshot: Option<StatusSnapshot>,
    /// The plan that runs, or ran last.
    pub(crate) plan: Option<PlanView>,
    /// The revisions, newest first.
    pub(crate) revisions: Vec<RevisionView>,
    /// Whether the lease is held.
    pub(crate) lease: bool,
    /// Watches that are interrupted: kind, and why.
    pub(crate) troubles: Vec<(String, String)>,
    /// Whether every kind was seen once.
    pub(crate) observed: bool,
    /// The workloads that this daemon hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hosted: Vec<HostedView>,
    /// Where the reconciler is to be.
    #[serde(skip)]
    pub(crate) reconciler_place: ReconcilerPlace,
}

impl StatusView {
    /// What is hosted belongs to what is kept: all objects ready without it is not ready.
    fn weigh_hosted(&mut self) {
        match hosting::view::problem(&self.hosted, self.reconciler_place) {
            Some(problem) if matches!(self.phase, Phase::Ready | Phase::Degraded) => {
                (self.phase, self.reason, self.settled) = (Phase::Degraded, Some(problem), false);
            }
            None if self.phase == Phase::Degraded => {
                (self.phase, self.reason, self.settled) = (Phase::Ready, None, true);
            }
            _ => {}
        }
    }
}

/// The daemon's state, with subscribers.
#[derive(Clone)]
pub(crate) struct StatusStore {
    view: watch::Sender<Arc<StatusView>>,
    events: broadcast::Sender<Arc<Event>>,
}

impl StatusStore {
    /// A status of an installation of which nothing is known.
    pub(crate) fn new(view: StatusView) -> Self {
        let (view, _) = watch::channel(Arc::new(view));
        let (events, _) = broadcast::channel(BACKLOG);
        Self { view, events }
    }

    /// What is known now.
    pub(crate) fn view(&self) -> Arc<StatusView> {
        Arc::clone(&self.view.borrow())
    }

    /// Subscribes to changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<StatusView>> {
        self.view.subscribe()
    }

    /// The events of plans from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Updates the state; subscribers are notified only of changes.
    pub(crate) fn write(&self, change: impl FnOnce(&mut StatusView)) {
        self.view.send_if_modified(|view| {
            let mut new = StatusView::clone(view);
            change(&mut new);
            new.weigh_hosted();
            let changed = new != **view;
            if changed {
                *view = Arc::new(new);
            }
            changed
        });
    }

    /// An event of a plan.
    pub(crate) fn event(&self, event: Event) {
        self.write(|view| take(view, &event));
        // There may be no subscriber.
        let _ = self.events.send(Arc::new(event));
    }
}

/// Applies an event to the state.
fn take(view: &mut StatusView, event: &Event) {
    match event {
        Event::Planned { purpose, revision, counts } => {
            // A rollback begins after it was announced.
            let before = view.plan.take().filter(|plan| plan.ended.is_none());
            let back = before.and_then(|plan| plan.back).filter(|back| Some(back.to) == *revision);
            let total = counts.create + counts.change + counts.delete + counts.keep;
            view.plan = Some(PlanView {
                purpose: *purpose,
                revision: *revision,
                counts: *counts,
                done: 0,
                total,
                started: Timestamp::now(),
                ended: None,
                error: None,
                waiting: Vec::new(),
                back,
            });
        }
        Event::Done { object, done, total, .. } => {
            if let Some(plan) = &mut view.plan {
                (plan.done, plan.total) = (*done, *total);
                plan.waiting.retain(|waiting| waiting.object.as_ref() != Some(object));
            }
        }
        Event::Waiting { object, on } => {
            if let Some(plan) = &mut view.plan {
                let (text, reason) = (on.to_string(), on.word());
                if let Some(known) = plan.waiting.iter_mut().find(|known| known.object == *object) {
                    (known.text, known.reason, known.on) = (text, reason, on.clone());
                } else {
                    let (object, on, since) = (object.clone(), on.clone(), Timestamp::now());
                    plan.waiting.push(Waiting { object, text, reason, on, since });
                }
            }
        }
        Event::Failed { error, .. } => {
            if let Some(plan) = &mut view.plan {
                plan.error = Some(error.clone());
            }
        }
        Event::RollingBack { to, reason } => {
            if let Some(plan) = &mut view.plan {
                plan.back = Some(RollingBack { to: *to, reason: reason.clone() });
            }
        }
        // The plan in its place is announced next.
        Event::Overtaken { .. }
        | Event::Recovering { .. }
        | Event::Started { .. }
        | Event::ChangedByAdmission { .. }
        | Event::Retrying { .. } => {}
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey { group: "apps".into(), kind: "Deployment".into(), namespace: None, name: name.into() }
    }

    #[test]
    fn a_plan_shows_its_waits_until_they_end() {
        let status = StatusStore::new(StatusView::default());
        let counts = Counts { create: 2, change: 1, delete: 0, keep: 4 };
        let mut told = status.events();
        status.event(Event::Planned { purpose: Purpose::Install, revision: Some(1), counts });
        let on = |message: &str| WaitingOn::ready(key("a"), message);
        status.event(Event::Waiting { object: Some(key("a")), on: on("0/1") });
        status.event(Event::Waiting { object: Some(key("a")), on: on("1/2") });
        let plan = status.view().plan.clone().unwrap();
        assert_eq!((plan.total, plan.waiting.len()), (7, 1));
        assert!(plan.waiting[0].text.contains("1/2"));
        let done = Event::Done { object: key("a"), verb: "create", millis: 1, done: 3, total: 7 };
        status.event(done);
        let plan = status.view().plan.clone().unwrap();
        assert_eq!((plan.done, plan.waiting.len()), (3, 0));
        assert!(matches!(*told.try_recv().unwrap(), Event::Planned { .. }));
    }

    #[test]
    fn a_revision_that_leaves_the_reconciler_to_a_daemon_is_degraded_without_one() {
        let status = StatusStore::new(StatusView::default());
        let now = |change: fn(&mut StatusView)| {
            status.write(change);
            let view = status.view();
            (view.phase, view.settled, view.reason.as_ref().map(|problem| problem.code))
        };
        let ready = now(|view| {
            (view.phase, view.settled, view.reason) = (Phase::Ready, true, None);
            view.reconciler_place.is_left_to_daemons = true;
        });
        assert_eq!(ready, (Phase::Degraded, false, Some("not-hosted")));
        // Other phases are more urgent.
        let waiting = now(|view| (view.phase, view.reason) = (Phase::Waiting, None));
        assert_eq!(waiting, (Phase::Waiting, false, None));
        let back = now(|view| view.phase = Phase::Ready);
        assert_eq!(back.0, Phase::Degraded);
        // One that may be here and is not yet is no ready installation either.
        let starting = now(|view| view.reconciler_place.may_be_here = true);
        assert_eq!(starting, (Phase::Degraded, false, Some("hosted-degraded")));
        let elsewhere = now(|view| view.reconciler_place.is_left_to_daemons = false);
        assert_eq!(elsewhere, (Phase::Ready, true, None));
    }

    #[test]
    fn unchanged_status_notifies_nobody() {
        let status = StatusStore::new(StatusView::default());
        let mut changes = status.follow();
        changes.mark_unchanged();
        status.write(|view| view.lease = false);
        assert!(!changes.has_changed().unwrap());
        status.write(|view| view.lease = true);
        assert!(changes.has_changed().unwrap());
    }
}
