//! What failed and was rolled back: the same again would fail the same way, unless somebody asks for another try.

use trainerd_plan::desired::Desired;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::namespace::released;
use crate::record::Outcome;
use crate::revision;
use crate::run_options::RunOptions;
use crate::state::State;

impl Engine {
    /// The revision that wanted exactly this and was rolled back, with the reason: the same again would fail the
    /// same way.
    pub fn rolled_back(&self, state: &State, desired: &Desired) -> Option<(u64, String)> {
        let digest = revision::digest(desired);
        let history = self.known_history(state).into_iter().rev();
        let asked = &state.record().retry;
        let mut history = history.filter(|(header, _)| header.digest == digest);
        let newest = history.find_map(|(header, outcome)| match outcome {
            Some(Outcome::RolledBack { reason }) => Some((header.number, reason)),
            _ => None,
        });
        newest.filter(|(number, _)| !asked.contains(number))
    }

    /// How often exactly this was tried and rolled back, as far as revisions are kept.
    pub fn tries(&self, state: &State, desired: &Desired) -> u32 {
        let digest = revision::digest(desired);
        let history = self.known_history(state).into_iter();
        let failures = history.filter(|(header, outcome)| {
            header.digest == digest && matches!(outcome, Some(Outcome::RolledBack { .. }))
        });
        u32::try_from(failures.count()).unwrap_or(u32::MAX)
    }

    /// Writes down that what was rolled back last shall be tried again, by whoever keeps the installation; which
    /// revision that is. `None` where nothing failed.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub async fn ask_for_retry(&self, options: &RunOptions<'_>) -> Result<Option<u64>, EngineError> {
        let state = self.open_damaged().await?;
        let guard = self.lease(state.record().token.clone(), options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(self.ask_for_retry_with_lease()).await;
        self.store.let_go();
        released(guard, answer).await
    }

    async fn ask_for_retry_with_lease(&self) -> Result<Option<u64>, EngineError> {
        let mut state = self.open_damaged().await?;
        let Some((number, _)) = state.record().failed().filter(|_| state.journal().is_none()) else {
            return Ok(None);
        };
        state.stored.record.retry.insert(number);
        self.store.write(&state.stored).await?;
        Ok(Some(number))
    }
}
