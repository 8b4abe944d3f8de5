//! Handles the loss of trainerd's own Secrets.

use std::sync::Arc;

use trainerd_engine::{Damage, RunOptions, State};

use super::blocked::{Stop, blocked};
use super::{Declared, InstallationController, Phase};
use crate::problem::lost;

/// Whether the current revision is ambiguous: nothing is repaired then.
pub(super) fn is_uncertain(state: &State) -> bool {
    matches!(state.damage(), Some(Damage::Record { exact: false, .. }))
}

impl InstallationController {
    /// Restores lost Secrets if that changes nothing of the stack; otherwise the controller is blocked.
    pub(super) async fn repair_records(&mut self) -> Result<(), Stop> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let Some(damage) = state.damage().cloned() else { return Ok(()) };
        match &damage {
            Damage::Record { exact: true, revision } => {
                tracing::warn!(revision, "the record was lost and is being restored");
                let engine = Arc::clone(&self.engine);
                let shutdown = self.shutdown.clone();
                let write = async move {
                    let options = RunOptions::new(None, &|_| {}, shutdown);
                    engine.write_record(state, &options).await
                };
                match Box::pin(self.aside(write)).await? {
                    Ok(state) => {
                        self.take(state);
                        Ok(())
                    }
                    Err(error) => Err(self.stopped(error)),
                }
            }
            Damage::Record { exact: false, .. } => {
                let again = Some(self.soon.next_wait());
                Err(blocked(Phase::Refused, lost(&damage), again))
            }
            Damage::Revision { revision } => {
                self.repair = Some(format!("the Secret of revision {revision} was lost"));
                Ok(())
            }
            // The desired objects follow from the options; without options they are unknown.
            Damage::Objects { .. } if matches!(*self.declared.borrow(), Declared::Options(_)) => Ok(()),
            Damage::Objects { .. } => {
                let again = Some(self.soon.next_wait());
                Err(blocked(Phase::Failed, lost(&damage), again))
            }
        }
    }
}
