//! What a keeper tells of what it knows.

use trainerd_engine::upkeep::Outlook;
use trainerd_engine::{Engine, State};

use super::Keeper;
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;
use crate::cli::verbs::history::outcome_text;
use crate::daemon::board::{Phase, RevisionView};

impl Keeper {
    /// Writes down what is known now.
    pub(super) fn show(&mut self) {
        let outlook = self.upkeep.outlook();
        let troubles = self.upkeep.troubles();
        let (lease, observed) = (self.upkeep.holds_lease(), self.upkeep.is_observed());
        let state = self.state.as_ref();
        let paused = state.and_then(|state| state.standing().paused.clone());
        let undone = |outlook: &Outlook| outlook.drift.iter().any(|drift| drift.state.is_undone());
        let ready = self.mend.is_none()
            && !self.upkeep.is_in_doubt()
            && outlook.as_ref().is_some_and(|outlook| outlook.status.ready && !undone(outlook));
        let (mut phase, mut reason) = match (&self.obstacle, &outlook) {
            _ if paused.is_some() => (Phase::Paused, None),
            _ if self.standby => (Phase::Standby, None),
            (Some(obstacle), _) => (obstacle.phase, Some(obstacle.problem.clone())),
            (None, None) => (Phase::Absent, None),
            (None, Some(_)) if !observed => (Phase::Starting, None),
            (None, Some(_)) if ready => (Phase::Ready, None),
            (None, Some(_)) => (Phase::Waiting, None),
        };
        if let Some((kind, why)) = troubles.first().filter(|_| self.obstacle.is_none()) {
            phase = Phase::Disconnected;
            let problem = Problem::new(Exit::Cluster, "watch-interrupted", format!("failed to watch {kind}"));
            reason = Some(problem.because(why.clone()).hint("it is tried again until it succeeds"));
        }
        self.board.write(|view| {
            view.settled = matches!(phase, Phase::Ready | Phase::Standby);
            (view.phase, view.reason, view.paused) = (phase, reason, paused);
            (view.outlook, view.troubles) = (outlook, troubles);
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
            outcome: outcome.as_ref().map_or_else(|| "not begun".to_owned(), outcome_text),
        })
        .collect()
}
