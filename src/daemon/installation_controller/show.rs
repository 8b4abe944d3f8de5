//! Publishes the controller's state in the status.

use trainerd_engine::drift_controller::StatusSnapshot;
use trainerd_engine::{Engine, State};

use super::InstallationController;
use crate::daemon::status_store::{Phase, RevisionView};
use crate::problem::Exit;
use crate::problem::Problem;

impl InstallationController {
    /// Publishes the current state.
    pub(super) fn show(&mut self) {
        let snapshot = self.drift_controller.snapshot();
        let troubles = self.drift_controller.troubles();
        let (lease, observed) = (self.drift_controller.holds_lease(), self.drift_controller.is_observed());
        let state = self.state.as_ref();
        let paused = state.and_then(|state| state.control().paused.clone());
        let undone = |snapshot: &StatusSnapshot| snapshot.drift.iter().any(|drift| drift.state.is_undone());
        let ready = self.repair.is_none()
            && !self.drift_controller.is_in_doubt()
            && snapshot.as_ref().is_some_and(|snapshot| snapshot.status.ready && !undone(snapshot));
        let (mut phase, mut reason) = match (&self.blocked, &snapshot) {
            _ if paused.is_some() => (Phase::Paused, None),
            _ if self.standby => (Phase::Standby, None),
            (Some(blocked), _) => (blocked.phase, Some(blocked.problem.clone())),
            (None, None) => (Phase::Absent, None),
            (None, Some(_)) if !observed => (Phase::Starting, None),
            (None, Some(_)) if ready => (Phase::Ready, None),
            (None, Some(_)) => (Phase::Waiting, None),
        };
        if let Some((kind, why)) = troubles.first().filter(|_| self.blocked.is_none()) {
            phase = Phase::Disconnected;
            let problem = Problem::new(Exit::Cluster, "watch-interrupted", format!("failed to watch {kind}"));
            reason = Some(problem.because(why.clone()).hint("it is retried until it succeeds"));
        }
        self.status.write(|view| {
            view.settled = matches!(phase, Phase::Ready | Phase::Standby);
            (view.phase, view.reason, view.paused) = (phase, reason, paused);
            (view.snapshot, view.troubles) = (snapshot, troubles);
            (view.lease, view.observed) = (lease, observed);
        });
    }
}

/// The revisions, newest first.
pub(super) fn revisions(engine: &Engine, state: &State) -> Vec<RevisionView> {
    let history = engine.known_history(state).into_iter().rev();
    history
        .map(|(header, outcome)| RevisionView {
            number: header.number,
            created: header.created,
            by: header.by,
            asked_by: header.asked_by,
            purpose: header.purpose,
            versions: header
                .components
                .iter()
                .map(|(name, component)| (name.clone(), component.version.to_string()))
                .collect(),
            outcome: outcome.as_ref().map_or_else(|| "not started".to_owned(), ToString::to_string),
        })
        .collect()
}
