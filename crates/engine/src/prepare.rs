//! From a desired state to a plan that is ready to run.

use std::sync::Arc;

use tokio::time::Instant;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Desired;
use trainerd_plan::plan::Purpose;
use trainerd_plan::request::Request;
use trainerd_plan::{installed_elsewhere, planner, yielded_fields};

use crate::damage::Damage;
use crate::engine::{Engine, next_number};
use crate::error::EngineError;
use crate::prepared::{Persist, Prepared};
use crate::record::Record;
use crate::revision::{self, Revision};
use crate::run_policy::RunPolicy;
use crate::state::State;
use crate::store::Package;

impl Engine {
    /// The revisions that a plan which stopped where it was may have left something of.
    async fn leftover(&self, record: &Record) -> Result<Vec<Revision>, EngineError> {
        let mut revisions = Vec::new();
        for number in &record.leftover {
            revisions.extend(self.store.load_if_sound(*number).await?);
        }
        Ok(revisions)
    }

    /// Plans the way to `desired`; nothing is written.
    pub async fn prepare(
        &self,
        state: &State,
        desired: impl Into<Arc<Desired>>,
        purpose: Purpose,
        allow: Allowed,
    ) -> Result<Prepared, EngineError> {
        self.prepare_only(state, desired, purpose, allow, None).await
    }

    /// As [`Engine::prepare`], for one component alone where one is named: everything else stays as it is.
    ///
    /// # Errors
    /// [`EngineError::NoSuchComponent`]; [`EngineError::NotDeployed`] where `desired` is not what the installation was
    /// brought to: a part of that would leave it half done.
    pub async fn prepare_only(
        &self,
        state: &State,
        desired: impl Into<Arc<Desired>>,
        purpose: Purpose,
        allow: Allowed,
        only: Option<&str>,
    ) -> Result<Prepared, EngineError> {
        let (last, record) = (state.current.as_ref(), state.record());
        let leftover = self.leftover(record).await?;
        let mut desired: Arc<Desired> = desired.into();
        if let Some(only) = only.filter(|only| !desired.components.contains_key(*only)) {
            let known = desired.components.keys().cloned().collect();
            return Err(EngineError::NoSuchComponent { name: only.to_owned(), known });
        }
        let packing = self.store.packing(record.current, Arc::clone(&desired)).await?;
        // Its objects are those that cannot be read: what was sent last is known after all.
        let again =
            state.header().filter(|header| last.is_none() && header.digest == revision::digest(&desired));
        let mut states: Vec<&Desired> =
            leftover.iter().chain(last).map(|revision| &*revision.desired).collect();
        states.push(&desired);
        let observed_at = Instant::now();
        let observed = self.observe(&states).await?;
        let before = last.map(|revision| &*revision.desired).or(again.map(|_| &*desired));
        let policy = RunPolicy::of(&desired.options);
        let request = self.request(purpose, &desired, before, &observed, &policy, allow);
        let request = Request { only, ..request };
        let plan = planner::plan(&request);
        let plan =
            plan.map_err(|refused| EngineError::Refused(installed_elsewhere::gathered(refused, &observed)))?;
        let mut package = packing.done().await?;
        if yielded_fields::are_any(&desired, &plan) {
            desired = Arc::new(yielded_fields::with_yielded(Arc::unwrap_or_clone(desired), &plan));
            package = self.store.packing(record.current, Arc::clone(&desired)).await?.done().await?;
        }
        let same = state.header().filter(|header| header.digest == package.digest);
        let (revision, persist) = match same {
            Some(same) => {
                let number = same.number;
                let deployed = state.is_deployed(number);
                (number, if deployed { Persist::Nothing } else { Persist::Journal })
            }
            None => (self.free_number(state, &package), Persist::Revision),
        };
        if only.is_some() && persist != Persist::Nothing {
            return Err(EngineError::NotDeployed { revision });
        }
        let is_missing = matches!(state.damage, Some(Damage::Objects { .. } | Damage::Revision { .. }));
        let restored = same.filter(|_| is_missing).cloned();
        let from = record.current;
        Ok(Prepared {
            plan,
            revision,
            from,
            desired,
            package,
            observed,
            persist,
            restored,
            allow,
            only: only.map(str::to_owned),
            observed_at,
        })
    }

    /// The number of the next revision. Where nothing says what was begun, none that exists is overwritten, unless it
    /// is the very same.
    fn free_number(&self, state: &State, package: &Package) -> u64 {
        let next = next_number(state.record());
        let (None, Some(newest)) = (&state.stored.version, state.stored.revisions.last().copied()) else {
            return next;
        };
        let known = self.store.known_header(newest);
        let is_same = known.is_some_and(|header| header.digest == package.digest && header.parent.is_none());
        next.max(if is_same { newest } else { newest + 1 })
    }
}
