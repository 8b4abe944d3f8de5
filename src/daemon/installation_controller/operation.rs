//! Operations that users start: reconcile now, apply a staged upgrade, roll back.

use std::sync::{Arc, PoisonError};

use trainerd_engine::{EngineError, RunOptions, State};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::plan::Purpose;

use super::InstallationController;
use super::blocked::Stop;
use crate::daemon::operations::OperationHandle;
use crate::target::Target;
use crate::written::Written;

/// An operation that a user starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Plan the current revision again, without using cached state.
    Reconcile {
        /// Objects whose immutable fields differ are deleted and recreated.
        recreate: bool,
        /// Limits it to a component.
        component: Option<String>,
    },
    /// Apply the staged upgrade.
    Upgrade {
        /// CRD changes may drop what is stored.
        allow_lossy: bool,
    },
    /// Roll back to an earlier revision until the options change.
    Rollback {
        /// Which; the one before the current where none is named.
        to: Option<u64>,
        /// CRD changes may drop what is stored.
        allow_lossy: bool,
    },
}

impl InstallationController {
    /// Schedules the operation for the next pass, and counts writes from now on.
    pub(super) fn start_operation(
        &mut self,
        operation: Operation,
        asked_by: Option<String>,
        handle: OperationHandle,
    ) {
        if matches!(operation, Operation::Reconcile { .. }) {
            self.recorder.command("Reconciling", asked_by.as_deref());
        }
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Written::default();
        self.asked_by = asked_by;
        self.operation = Some((operation, handle));
    }

    /// What the operation allows the next plan.
    pub(super) fn allowed(&self) -> Allowed {
        match &self.operation {
            Some((Operation::Upgrade { allow_lossy }, _)) => {
                Allowed { lossy: *allow_lossy, ..Allowed::default() }
            }
            Some((Operation::Reconcile { recreate, component: None }, _)) => {
                Allowed { recreate: *recreate, ..Allowed::default() }
            }
            _ => Allowed::default(),
        }
    }

    /// Reports the outcome of the operation after a pass, unless the pass is repeated.
    pub(super) fn answer(&mut self, ended: &Result<(), Stop>) {
        if matches!(ended, Err(Stop::Requeue)) {
            return;
        }
        let Some((_, handle)) = self.operation.take() else { return };
        match ended {
            Ok(()) => {
                let revision = self.status.view().revisions.first().map(|revision| revision.number);
                let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                handle.done(revision, written.changed(), written.recreated());
            }
            Err(Stop::Blocked(blocked)) => {
                let problem = &blocked.problem;
                let why = problem.why().join("; ");
                let message = if why.is_empty() {
                    problem.message.clone()
                } else {
                    format!("{}: {why}", problem.message)
                };
                handle.refused(blocked.phase.word(), message);
            }
            // The handle reports it when dropped.
            Err(Stop::Shutdown | Stop::Requeue) => {}
        }
    }

    /// Whether an upgrade waits for approval.
    pub(super) fn is_staged(&self, state: &State, wanted: &Target) -> bool {
        let is_asked_for = matches!(self.operation, Some((Operation::Upgrade { .. }, _)));
        !is_asked_for && wanted.is_staged(&self.engine, state)
    }

    /// Plans the current revision again: for repairs that need a plan, and on request.
    pub(super) async fn repair_now(&mut self) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        let Some(state) = self.state.clone() else { return Ok(()) };
        let Some(current) = &state.current else { return Ok(()) };
        let desired = Arc::clone(&current.desired);
        let (only, recreate) = match &self.operation {
            Some((Operation::Reconcile { recreate, component }, _)) => (component.clone(), *recreate),
            _ => (None, false),
        };
        let allow = Allowed { recreate, ..Allowed::default() };
        let prepare = engine.prepare_only(&state, desired, Purpose::Change, allow, only.as_deref());
        let prepared = match self.aside(prepare).await? {
            Ok(prepared) => prepared,
            // This error concerns only the operation and does not block the installation.
            Err(error @ (EngineError::NoSuchComponent { .. } | EngineError::NotDeployed { .. })) => {
                if let Some((_, handle)) = self.operation.take() {
                    handle.refused("refused", trainerd_causes::one_line(&error));
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

    /// Rolls back to an earlier revision, replacing a plan in progress.
    pub(super) async fn roll_back(&mut self, to: Option<u64>, allow_lossy: bool) -> Result<(), Stop> {
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
