//! Runs a plan that is ready: lease, revision, journal, steps, journal closed.

use std::sync::Arc;

use trainerd_cluster::lease::Fence;

use crate::confirmed::but_for;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::event::Event;
use crate::execute::Ended;
use crate::namespace::released;
use crate::preflight;
use crate::prepared::{Persist, Prepared};
use crate::recover::Start;
use crate::revision::{Header, Revision};
use crate::run_options::RunOptions;
use crate::state::State;

impl Engine {
    /// Whether everything that a plan and its records need is allowed.
    ///
    /// # Errors
    /// [`EngineError::Permissions`] with all that is missing.
    pub async fn check_permissions(&self, prepared: &Prepared) -> Result<(), EngineError> {
        preflight::check(&self.cluster, &prepared.plan).await
    }

    /// Runs a prepared plan and records it: namespace, lease, revision, journal, steps, journal
    /// closed.
    ///
    /// A plan that waited, at a prompt say, is made again from what is there now, and runs only where that adds nothing
    /// to what was seen.
    ///
    /// A plan that meets what somebody else deleted or made meanwhile is made again, a few times; one that fails is
    /// undone if it left a revision and the option `auto-rollback` says so.
    ///
    /// # Errors
    /// [`EngineError::RolledBack`], [`EngineError::Failed`]: the plan did not succeed, the journal is closed.
    /// [`EngineError::PendingDeletion`]: all of it succeeded that can be done now, and the journal is closed.
    /// [`EngineError::TimedOut`], [`EngineError::Interrupted`], a lost lease: the journal stays open, and
    /// [`Engine::recover`] continues from there.
    pub async fn run(
        &self,
        state: State,
        prepared: Prepared,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let state = Box::pin(self.write_record(state, options)).await?;
        (options.sink)(Event::Planned {
            purpose: prepared.plan.purpose,
            revision: Some(prepared.revision),
            counts: prepared.plan.counts(),
        });
        let pending = prepared.plan.pending_deletions.clone();
        if prepared.is_empty() {
            self.walk(&prepared.plan, prepared.observed, None, &prepared.desired, options)
                .await?
                .into_result(prepared.plan.purpose, prepared.revision, options)?;
            return but_for(pending, state);
        }
        self.check_permissions(&prepared).await?;
        // Where there is a record, or the plan saw it, the namespace exists: what is written next would tell.
        if state.stored.version.is_none() && !self.has_seen_namespace(&prepared.observed) {
            self.ensure_namespace().await?;
        }
        let guard = self.lease(state.record().token.clone(), options.sink).await?;
        self.store.hold(guard.fence());
        let answer = Box::pin(self.run_with_lease(state, prepared, &guard.fence(), options)).await;
        self.store.let_go();
        released(guard, answer).await.and_then(|state| but_for(pending, state))
    }

    async fn run_with_lease(
        &self,
        mut state: State,
        prepared: Prepared,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        // The plan was made before the lease was taken, perhaps long ago at a prompt.
        let is_successor = state.record().token.as_ref().is_some_and(|token| guard.token().follows(token));
        if !is_successor && self.store.record().await?.version != state.stored.version {
            return Err(EngineError::ChangedMeanwhile { added: Vec::new() });
        }
        let mut prepared = self.as_of_now(&state, prepared).await?;
        if let Some(header) = prepared.restored.take() {
            self.store.save(header, prepared.package.clone()).await?;
            let header = self.store.header(prepared.revision).await?;
            state = state.at(Revision { header, desired: Arc::clone(&prepared.desired) });
            state.damage = None;
        }
        if prepared.persist == Persist::Nothing {
            self.repair_current(&state, prepared, guard, options).await?;
            return Ok(state);
        }
        let Prepared { plan, revision, from, desired, package, observed, persist, allow, .. } = prepared;
        if persist == Persist::Revision {
            let asked_by = options.asked_by.clone();
            let header = Header { asked_by, ..self.header(&state, revision, &plan, &desired) };
            self.store.save(header, package).await?;
        }
        let from = from.filter(|from| *from != revision);
        let journal = self.journal(plan.purpose, revision, from, allow, options);
        let mut stored = state.stored;
        stored.record = stored.record.open(journal)?;
        self.include(&mut stored, &[&desired]);
        state.stored = self.store.write(&stored).await?;
        let ended = self.walk(&plan, observed, Some(guard), &desired, options).await?;
        let header = self.store.header(revision).await?;
        self.go_on(state, Some(Revision { header, desired }), Start::Walked(Box::new(ended)), guard, options)
            .await
    }

    /// Runs a plan to the revision that the installation is at, which needs no journal.
    async fn repair_current(
        &self,
        state: &State,
        mut prepared: Prepared,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<(), EngineError> {
        let (purpose, revision) = (prepared.plan.purpose, prepared.revision);
        loop {
            let Prepared { plan, observed, desired, allow, only, .. } = prepared;
            match self.walk(&plan, observed, Some(guard), &desired, options).await? {
                Ended::Failed { failure, .. } if options.may_plan_again(&failure).await => {
                    prepared = self.prepare_only(state, desired, purpose, allow, only.as_deref()).await?;
                }
                ended => return ended.into_result(purpose, revision, options),
            }
            if prepared.persist != Persist::Nothing {
                return Err(EngineError::ChangedMeanwhile { added: Vec::new() });
            }
        }
    }
}
