//! Newer options in the place of a plan in progress.

use trainerd_cluster::lease::Fence;

use crate::engine::{Engine, next_number};
use crate::error::EngineError;
use crate::namespace::released;
use crate::prepared::Prepared;
use crate::recover::Start;
use crate::revision::{Header, Revision};
use crate::run_options::RunOptions;
use crate::state::State;

impl Engine {
    /// Runs a plan that replaces the one in progress, which may never come to its end. It was prepared from `state` as it
    /// will be when that one is done ([`State::at`]). Where it fails, what that one would have gone back to is brought
    /// back.
    ///
    /// # Errors
    /// As [`Engine::run`]; [`EngineError::ChangedMeanwhile`] where somebody has gone on with the plan since.
    pub async fn supersede(
        &self,
        state: State,
        prepared: Prepared,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        self.check_permissions(&prepared).await?;
        let guard = self.lease(state.record().token.clone(), options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(self.supersede_with_lease(&state, prepared, &guard.fence(), options)).await;
        self.store.let_go();
        released(guard, answer).await
    }

    async fn supersede_with_lease(
        &self,
        seen: &State,
        prepared: Prepared,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let mut state = self.open_damaged().await?;
        if state.version() != seen.version() {
            return Err(EngineError::ChangedMeanwhile { added: Vec::new() });
        }
        let prepared = self.as_of_now(seen, prepared).await?;
        let Prepared { plan, desired, package, allow, .. } = prepared;
        let number = next_number(state.record());
        let asked_by = options.asked_by.clone();
        let header = Header { asked_by, ..self.header(&state, number, &plan, &desired) };
        self.store.save(header, package).await?;
        let journal = self.journal(plan.purpose, number, state.record().current, allow, options);
        state.stored.record = state.stored.record.replace(journal);
        self.include(&mut state.stored, &[&*desired]);
        state.stored = self.store.write(&state.stored).await?;
        let header = self.store.header(number).await?;
        self.go_on(state, Some(Revision { header, desired }), Start::Fresh, guard, options).await
    }
}
