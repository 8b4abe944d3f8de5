//! Removal of the installation, as its source of options requires.

use std::sync::Arc;

use trainerd_engine::record::Removal;
use trainerd_engine::{EngineError, RunOptions, State};
use trainerd_juju::status::Reason;
use trainerd_plan::refused::Refused;

use super::blocked::{Stop, blocked};
use super::{InstallationController, Phase};
use crate::options::declared::OptionsSpec;
use crate::problem::Exit;
use crate::problem::Problem;
use crate::training::jobs;

impl InstallationController {
    /// What prevents the removal, counted now: an earlier count may be outdated.
    async fn in_use(&mut self) -> Result<Option<Problem>, Stop> {
        let engine = Arc::clone(&self.engine);
        let stays = jobs::stays(self.aside(jobs::count(engine.cluster())).await?);
        Ok(stays.map(|why| {
            let problem = Problem::new(Exit::Refused, "jobs-running", "the installation is in use");
            let problem = problem.because(why.clone()).with_reason(Reason::Refused { cause: why });
            problem.hint("wait for the jobs, or delete them; then remove it again")
        }))
    }

    /// Whether nothing is left to be reconciled.
    pub(super) fn is_gone(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.version().is_none() && state.damage().is_none())
    }

    /// Removes the installation. CRDs are removed too if the option `crd-policy` says so and no objects of them exist.
    pub(super) async fn remove(&mut self, spec: &OptionsSpec) -> Result<(), Stop> {
        let generation = spec.generation.clone();
        if let Some(left) = self.in_use().await? {
            // Set together, so that a client that waits for this generation sees the reason.
            self.status.write(|view| {
                (view.generation, view.phase, view.reason) =
                    (Some(generation), Phase::Refused, Some(left.clone()));
            });
            return Err(blocked(Phase::Refused, left, None));
        }
        if self.state.as_ref().and_then(State::version).is_some() {
            let extent = if spec.keeps_crds() { Removal::KeepStored } else { Removal::Purge };
            let engine = Arc::clone(&self.engine);
            let Some(state) = self.state.clone() else { return Ok(()) };
            let removed = self.drive(spec.asked_by.clone(), async move |options: &mut RunOptions<'_>| {
                let prepared = match engine.prepare_removal(&state, extent).await {
                    Err(EngineError::Refused(refused)) if keeps(&refused) => {
                        let why = refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                        tracing::warn!(why, "the CRDs are kept");
                        engine.prepare_removal(&state, Removal::KeepStored).await?
                    }
                    prepared => prepared?,
                };
                match Box::pin(engine.remove(&prepared, options)).await {
                    Ok(_) | Err(EngineError::NotInstalled { .. }) => Ok(State::nothing()),
                    Err(error) => Err(error),
                }
            });
            match removed.await {
                // Events about the removed objects are discarded.
                Err(Stop::Requeue) if self.is_gone() => {}
                other => other?,
            }
        }
        self.status.write(|view| view.generation = Some(generation));
        Ok(())
    }
}

/// Whether CRDs are kept because objects of them exist.
fn keeps(refused: &[Refused]) -> bool {
    refused.iter().all(|refused| matches!(refused, Refused::CustomObjectsExist { .. }))
}
