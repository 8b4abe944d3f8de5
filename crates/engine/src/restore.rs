//! Writes again what of trainerd's own Secrets is missing or damaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use trainerd_plan::desired::Desired;

use crate::damage::Damage;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::namespace::released;
use crate::revision::Header;
use crate::run_options::RunOptions;
use crate::state::State;

impl Engine {
    /// Writes a record that was lost again, as it is concluded now. Does nothing where it is there.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub async fn write_record(&self, state: State, options: &RunOptions<'_>) -> Result<State, EngineError> {
        if !matches!(state.damage, Some(Damage::Record { .. })) {
            return Ok(state);
        }
        let guard = self.lease(None, options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(self.write_record_with_lease()).await;
        self.store.let_go();
        released(guard, answer).await
    }

    async fn write_record_with_lease(&self) -> Result<State, EngineError> {
        // Somebody else may have been faster.
        let mut state = self.open_damaged().await?;
        if matches!(state.damage, Some(Damage::Record { .. })) {
            state.stored = self.store.write(&state.stored).await?;
            state.damage = None;
        }
        Ok(state)
    }

    /// The revisions that are known, but of which something is missing or damaged.
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn damaged_revisions(&self) -> Result<Vec<Header>, EngineError> {
        let mut damaged = Vec::new();
        for header in self.store.known_headers() {
            if self.store.load_if_sound(header.number).await?.is_none() {
                damaged.push(header);
            }
        }
        Ok(damaged)
    }

    /// Writes revisions again of which something is lost, whatever plan is in progress. Only those that `rendered` gives
    /// exactly as they were are written; returns their numbers.
    ///
    /// # Errors
    /// [`EngineError::Request`], a lost lease: what is not written yet is as it was.
    pub async fn write_revisions(
        &self,
        state: &State,
        rendered: Vec<(Header, Arc<Desired>)>,
        options: &RunOptions<'_>,
    ) -> Result<Vec<u64>, EngineError> {
        let mut packed = Vec::new();
        for (header, desired) in rendered {
            // What is sound of the revision itself is shared; another one may go before it.
            let package = self.store.packing(Some(header.number), desired).await?.done().await?;
            if package.digest == header.digest {
                packed.push((header, package));
            }
        }
        if packed.is_empty() {
            return Ok(Vec::new());
        }
        let guard = self.lease(state.record().token.clone(), options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(async {
            let mut numbers = Vec::new();
            for (header, package) in packed {
                numbers.push(header.number);
                self.store.save(header, package).await?;
            }
            Ok(numbers)
        });
        let answer = answer.await;
        self.store.let_go();
        released(guard, answer).await
    }

    /// What is missing of each revision, by number: the names of Secrets.
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn missing(&self) -> Result<BTreeMap<u64, Vec<String>>, EngineError> {
        self.store.missing().await
    }
}
