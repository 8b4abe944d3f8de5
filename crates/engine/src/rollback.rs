//! Going back to an earlier revision, over a plan that was broken off if need be.

use jiff::Timestamp;
use trainerd_cluster::lease::Fence;
use trainerd_plan::plan::Purpose;

use crate::engine::{Engine, Prepared, RunOptions, State, next_number};
use crate::error::EngineError;
use crate::place::released;
use crate::record::{Journal, Phase};
use crate::recover::written_before;
use crate::revision::{Header, Revision};

impl Engine {
    /// Plans the way back to an earlier revision, which becomes a new one.
    ///
    /// `to`: its number; `None` for the one before the current. Needs no catalog.
    pub async fn prepare_rollback(
        &self,
        state: &State,
        to: Option<u64>,
        allow_lossy: bool,
    ) -> Result<Prepared, EngineError> {
        let current = state.current.as_ref();
        let number = match (to, current) {
            (Some(number), _) => number,
            (None, Some(current)) => {
                current.header.parent.ok_or(EngineError::NothingBefore(current.header.number))?
            }
            (None, None) => return Err(self.not_installed()),
        };
        let target = self.store.load(number).await?;
        self.prepare(state, target.desired, Purpose::Rollback, allow_lossy).await
    }

    /// Runs a rollback. Unlike other plans it may replace one that was broken off.
    pub async fn replace(
        &self,
        state: State,
        to: Option<u64>,
        allow_lossy: bool,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let Some(journal) = state.journal().cloned() else {
            let prepared = self.prepare_rollback(&state, to, allow_lossy).await?;
            return self.run(state, prepared, options).await;
        };
        let number = to.or(journal.from).ok_or(EngineError::NothingBefore(journal.target))?;
        let wanted = self.store.load(number).await?;
        let heading = state.record().heading().unwrap_or(journal.target);
        if journal.extent.is_none() && self.store.header(heading).await?.digest == wanted.header.digest {
            return self.recover(state, options).await;
        }
        self.check_lossy(&state, &journal, &wanted, allow_lossy).await?;
        let guard = self.lease(options.sink).await?;
        let answer = self.replace_with_lease(wanted, allow_lossy, &guard.fence(), options).await;
        released(guard, answer).await
    }

    /// Refuses before anything is written what the plan under the new journal would refuse.
    async fn check_lossy(
        &self,
        state: &State,
        journal: &Journal,
        wanted: &Revision,
        allow_lossy: bool,
    ) -> Result<(), EngineError> {
        let broken = self.store.load(state.record().heading().unwrap_or(journal.target)).await?;
        let observed = self.observe(&[&broken.desired, &wanted.desired]).await?;
        let last = written_before(&wanted.desired, &[broken]);
        self.plan(Purpose::Rollback, &wanted.desired, Some(&last), &observed, allow_lossy).map(drop)
    }

    async fn replace_with_lease(
        &self,
        wanted: Revision,
        allow_lossy: bool,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let mut state = self.open().await?;
        let number = next_number(state.record());
        let header = Header {
            number,
            parent: state.record().current,
            created: Timestamp::now(),
            by: self.by.clone(),
            purpose: Purpose::Rollback,
            ..wanted.header
        };
        if self.store.numbers().await?.contains(&number) {
            self.store.forget(number).await?;
        }
        self.store.save(header, &wanted.desired).await?;
        let journal = Journal {
            purpose: Purpose::Rollback,
            target: number,
            from: state.record().current,
            touched: Vec::new(),
            phase: Phase::Forward,
            extent: None,
            allow_lossy,
            started: Timestamp::now(),
            by: self.by.clone(),
        };
        state.stored.record = state.stored.record.open(journal)?;
        self.include(&mut state.stored, &[&wanted.desired]);
        state.stored = self.store.write(&state.stored).await?;
        self.finish(state, guard, options).await
    }
}
