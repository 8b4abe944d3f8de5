//! What people ask for beside options: putting right, letting an upgrade through, going back.

use std::sync::{Arc, PoisonError};

use trainerd_engine::{EngineError, RunOptions, State};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::plan::Purpose;

use super::Reconciler;
use super::blocked::Stop;
use super::written::Written;
use crate::daemon::operations::Ticket;
use crate::target::Target;

/// What people ask for beside options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Plan over the current revision, whatever is known of it.
    Reconcile {
        /// What no update may change is deleted and made again.
        recreate: bool,
        /// The only component that is looked at, where it is not all.
        component: Option<String>,
    },
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
    /// The next pass does that; what is written from now on is told with what came of it.
    pub(super) fn take_ask(&mut self, asked: Asked, asked_by: Option<String>, ticket: Ticket) {
        if matches!(asked, Asked::Reconcile { .. }) {
            self.recorder.asked("Reconciling", asked_by.as_deref());
        }
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Written::default();
        self.asked_by = asked_by;
        self.asked_for = Some((asked, ticket));
    }

    /// What the next plan is allowed by whoever asked for it.
    pub(super) fn allowed(&self) -> Allowed {
        match &self.asked_for {
            Some((Asked::Upgrade { allow_lossy }, _)) => {
                Allowed { lossy: *allow_lossy, ..Allowed::default() }
            }
            Some((Asked::Reconcile { recreate, component: None }, _)) => {
                Allowed { recreate: *recreate, ..Allowed::default() }
            }
            _ => Allowed::default(),
        }
    }

    /// Tells whoever asked what came of it, once a pass has ended. One that is to be made again goes on trying.
    pub(super) fn answer(&mut self, ended: &Result<(), Stop>) {
        if matches!(ended, Err(Stop::Requeue)) {
            return;
        }
        let Some((_, ticket)) = self.asked_for.take() else { return };
        match ended {
            Ok(()) => {
                let revision = self.status.view().revisions.first().map(|revision| revision.number);
                let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                ticket.done(revision, written.changed(), written.recreated());
            }
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

    /// Whether what is wanted waits for a person who has not asked for it.
    pub(super) fn is_staged(&self, state: &State, wanted: &Target) -> bool {
        let is_asked_for = matches!(self.asked_for, Some((Asked::Upgrade { .. }, _)));
        !is_asked_for && wanted.is_staged(&self.engine, state)
    }

    /// A plan over the current revision: for what one write does not repair, and where somebody asks for it.
    pub(super) async fn repair_now(&mut self) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        let Some(state) = self.state.clone() else { return Ok(()) };
        let Some(current) = &state.current else { return Ok(()) };
        let desired = Arc::clone(&current.desired);
        let (only, recreate) = match &self.asked_for {
            Some((Asked::Reconcile { recreate, component }, _)) => (component.clone(), *recreate),
            _ => (None, false),
        };
        let allow = Allowed { recreate, ..Allowed::default() };
        let prepare = engine.prepare_only(&state, desired, Purpose::Change, allow, only.as_deref());
        let prepared = match self.aside(prepare).await? {
            Ok(prepared) => prepared,
            // That is about what was asked for, and nothing stands in the installation's own way.
            Err(error @ (EngineError::NoSuchComponent { .. } | EngineError::NotDeployed { .. })) => {
                if let Some((_, ticket)) = self.asked_for.take() {
                    ticket.refused("refused", trainerd_causes::one_line(&error));
                }
                return Ok(());
            }
            Err(error) => return Err(self.stopped(error)),
        };
        let asked_by = self.asked_by.take();
        self.drive(asked_by, async move |options: &mut RunOptions<'_>| {
            Box::pin(engine.run(state, prepared, options)).await
        })
        .await
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
