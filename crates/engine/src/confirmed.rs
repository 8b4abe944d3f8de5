//! A plan that was seen: it runs as it was seen, by what is there now, and what it leaves out is said.

use std::sync::Arc;
use std::time::Duration;

use trainerd_plan::in_use::PendingDeletion;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::prepared::Prepared;
use crate::state::State;

/// How long what was observed is believed: longer than a request takes, and shorter than a person needs to read a plan.
pub(crate) const FRESH: Duration = Duration::from_secs(3);

impl Engine {
    /// A plan that waited is made again, so that nothing is believed of what was seen before the wait.
    ///
    /// # Errors
    /// [`EngineError::ChangedMeanwhile`] where it would do more now than what was seen.
    pub(crate) async fn as_of_now(&self, state: &State, prepared: Prepared) -> Result<Prepared, EngineError> {
        if prepared.observed_at.elapsed() < FRESH {
            return Ok(prepared);
        }
        let (desired, purpose) = (Arc::clone(&prepared.desired), prepared.plan.purpose);
        let only = prepared.only.as_deref();
        let again = self.prepare_only(state, desired, purpose, prepared.allow, only).await?;
        let added = again.plan.beyond(&prepared.plan);
        if !added.is_empty() || (again.revision, again.persist) != (prepared.revision, prepared.persist) {
            return Err(EngineError::ChangedMeanwhile { added });
        }
        Ok(again)
    }
}

/// The state that a plan has led to, unless something was left out of it.
pub(crate) fn but_for(pending: Vec<PendingDeletion>, state: State) -> Result<State, EngineError> {
    if pending.is_empty() { Ok(state) } else { Err(EngineError::PendingDeletion { pending }) }
}
