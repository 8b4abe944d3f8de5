//! Going back to an earlier revision, over a plan that was interrupted if need be.

use std::sync::Arc;

use jiff::Timestamp;
use trainerd_cluster::lease::Fence;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::plan::Purpose;
use trainerd_plan::planner;

use crate::damage::Damage;
use crate::engine::{Engine, next_number};
use crate::error::EngineError;
use crate::namespace::released;
use crate::prepared::Prepared;
use crate::recover::{Start, written_before};
use crate::revision::{Header, Revision};
use crate::run_options::RunOptions;
use crate::run_policy::RunPolicy;
use crate::state::State;

impl Engine {
    /// Plans the way back to an earlier revision, which becomes a new one.
    ///
    /// `to`: its number; `None` for the one before the current. Needs no catalog.
    pub async fn prepare_rollback(
        &self,
        state: &State,
        to: Option<u64>,
        allow: Allowed,
    ) -> Result<Prepared, EngineError> {
        let number = match (to, state.header(), state.record().current) {
            (Some(number), ..) => number,
            (None, Some(header), _) => header.parent.ok_or(EngineError::NothingBefore(header.number))?,
            // Nothing is known of it: the newest one before it that can be read.
            (None, None, Some(current)) => match state.damage() {
                Some(Damage::Objects { readable: Some(number), .. }) if *number < current => *number,
                _ => return Err(EngineError::NothingBefore(current)),
            },
            (None, None, None) => return Err(self.not_installed()),
        };
        let target = self.store.load(number).await?;
        self.prepare(state, target.desired, Purpose::Rollback, allow).await
    }

    /// Runs a rollback. Unlike other plans it may replace one that was interrupted.
    pub async fn replace(
        &self,
        state: State,
        to: Option<u64>,
        allow: Allowed,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let Some(journal) = state.journal().cloned() else {
            let prepared = self.prepare_rollback(&state, to, allow).await?;
            return self.run(state, prepared, options).await;
        };
        if to.is_none() && journal.purpose == Purpose::Rollback {
            return self.recover_allowing(state, allow, options).await;
        }
        let number = to.or(journal.from).ok_or(EngineError::NothingBefore(journal.target))?;
        let wanted = self.store.load(number).await?;
        let heading = state.record().heading().unwrap_or(journal.target);
        let broken = self.store.load_if_sound(heading).await?;
        let leads_there = broken.as_ref().is_some_and(|broken| broken.header.digest == wanted.header.digest);
        if journal.extent.is_none() && leads_there {
            return self.recover_allowing(state, allow, options).await;
        }
        self.check_replacement(broken, &wanted, allow).await?;
        let guard = self.lease(state.record().token.clone(), options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(self.replace_with_lease(wanted, allow, &guard.fence(), options)).await;
        self.store.let_go();
        released(guard, answer).await
    }

    /// Refuses before anything is written what the plan under the new journal would refuse.
    async fn check_replacement(
        &self,
        broken: Option<Revision>,
        wanted: &Revision,
        allow: Allowed,
    ) -> Result<(), EngineError> {
        let others: Vec<Revision> = broken.into_iter().collect();
        let states: Vec<_> = others.iter().chain([wanted]).map(|revision| &*revision.desired).collect();
        let observed = self.observe(&states).await?;
        let last = written_before(&wanted.desired, &others);
        let policy = RunPolicy::of(&wanted.desired.options);
        let request =
            self.request(Purpose::Rollback, &wanted.desired, Some(&last), &observed, &policy, allow);
        planner::resume(&request).map(drop).map_err(EngineError::Refused)
    }

    async fn replace_with_lease(
        &self,
        wanted: Revision,
        allow: Allowed,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let mut state = self.open_damaged().await?;
        let number = next_number(state.record());
        let header = Header {
            number,
            parent: state.record().current,
            created: Timestamp::now(),
            by: self.by.clone(),
            asked_by: options.asked_by.clone(),
            purpose: Purpose::Rollback,
            taken: Vec::new(),
            ..wanted.header
        };
        let desired = wanted.desired;
        let package = self.store.packing(header.parent, Arc::clone(&desired)).await?.done().await?;
        self.store.save(header, package).await?;
        let journal = self.journal(Purpose::Rollback, number, state.record().current, allow, options);
        state.stored.record = state.stored.record.open(journal)?;
        self.include(&mut state.stored, &[&*desired]);
        state.stored = self.store.write(&state.stored).await?;
        self.go_on(state, None, Start::Fresh, guard, options).await
    }
}
