//! What people ask for beside options: putting right, letting an upgrade through, going back.

use std::sync::Arc;

use trainerd_engine::{RunOptions, State, revision};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::plan::Purpose;

use super::Reconciler;
use super::blocked::Stop;
use crate::target::Target;

/// What people ask for beside options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Plan over the current revision, whatever is known of it.
    Reconcile,
    /// Let through what is staged.
    Upgrade {
        /// CRD changes may drop what is stored.
        allow_lossy: bool,
    },
    /// Go back to an earlier revision, and stay there until the options change.
    Rollback {
        /// Which; the one before the current where none is named.
        to: Option<u64>,
        /// CRD changes may drop what is stored.
        allow_lossy: bool,
    },
}

impl Reconciler {
    /// Tells whoever asked what came of it, once a pass has ended. One that is to be made again goes on trying.
    pub(super) fn answer(&mut self, ended: &Result<(), Stop>) {
        if matches!(ended, Err(Stop::Requeue)) {
            return;
        }
        let Some((_, ticket)) = self.asked_for.take() else { return };
        match ended {
            Ok(()) => ticket.done(self.status.view().revisions.first().map(|revision| revision.number)),
            Err(Stop::Blocked(blocked)) => {
                let problem = &blocked.problem;
                let why = problem.why().join("; ");
                let message = if why.is_empty() {
                    problem.message.clone()
                } else {
                    format!("{}: {why}", problem.message)
                };
                ticket.refused(blocked.phase.word(), message);
            }
            // The ticket says so itself.
            Err(Stop::Asked | Stop::Requeue) => {}
        }
    }

    /// Whether what is wanted waits for a person: another version under the policy `manual`, or what somebody went back
    /// from, which would undo what he did.
    pub(super) fn is_staged(&self, state: &State, wanted: &Target) -> bool {
        if matches!(self.asked_for, Some((Asked::Upgrade { .. }, _))) {
            return false;
        }
        let Some(current) = &state.current else { return false };
        let by_hand = wanted.desired.options.get("upgrade-policy").is_some_and(|policy| policy == "manual");
        if by_hand && wanted.purpose == Purpose::Upgrade {
            return true;
        }
        let (Purpose::Rollback, Some(parent)) = (current.header.purpose, current.header.parent) else {
            return false;
        };
        let digest = revision::digest(&wanted.desired);
        let left = self.engine.known_history(state).into_iter().find(|(header, _)| header.number == parent);
        left.is_some_and(|(header, _)| header.digest == digest)
    }

    /// Goes back to an earlier revision, over what is in progress.
    pub(super) async fn go_back(&mut self, to: Option<u64>, allow_lossy: bool) -> Result<(), Stop> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let engine = Arc::clone(&self.engine);
        let asked_by = self.asked_by.take();
        self.drive(asked_by, async move |options: &mut RunOptions<'_>| {
            let allow = Allowed { lossy: allow_lossy, ..Allowed::default() };
            Box::pin(engine.replace(state, to, allow, options)).await
        })
        .await
    }
}
