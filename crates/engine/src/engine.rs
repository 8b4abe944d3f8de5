//! The engine's verbs: open, recover, prepare, run, roll back, and the account they keep.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use trainerd_cluster::Cluster;
use trainerd_cluster::lease::{Claim, Fence};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::{Desired, Installation, Naming};
use trainerd_plan::elsewhere;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Plan, Purpose};
use trainerd_plan::planner;
use trainerd_plan::request::Request;
use trainerd_plan::yielding;

use crate::confirmed::but_for;
use crate::damage::Damage;
use crate::error::EngineError;
use crate::event::Event;
use crate::execute::{self, Ended, Limits};
use crate::namespace::released;
use crate::observe;
use crate::preflight;
use crate::prepared::{Persist, Prepared};
use crate::record::{Journal, Outcome, Phase, Record};
use crate::recover::Start;
use crate::revision::{self, Header, Revision};
use crate::run_options::RunOptions;
use crate::run_policy::RunPolicy;
use crate::state::State;
use crate::store::{Package, Store, Stored};

/// Brings one installation to what is desired of it.
pub struct Engine {
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    pub(crate) by: String,
    /// Whether somebody says that this process is the one to write.
    pub(crate) claim: Claim,
    naming: Naming,
}

impl Engine {
    /// An engine for one installation. `by` says in revisions who asked: the command line.
    pub fn new(cluster: Cluster, installation: Installation, by: String) -> Self {
        let (store, claim) = (Store::new(cluster.clone(), installation), Claim::default());
        Self { store, cluster, by, claim, naming: Naming::default() }
    }

    /// The same where what is installed anew is called so.
    #[must_use]
    pub fn with_naming(self, naming: Naming) -> Self {
        Self { naming, ..self }
    }

    /// How objects are called: as those of the current revision are, for nothing renames them.
    pub fn naming(&self, state: &State) -> Naming {
        state.header().map_or(self.naming, |header| header.naming)
    }

    /// With objects that people edit: they are no part of any revision, are neither observed nor written by a plan, and
    /// only go when the installation is removed, where trainerd made them.
    #[must_use]
    pub fn leaving_to_people(mut self, objects: Vec<ObjectKey>) -> Self {
        self.store.edited = objects.into_iter().collect();
        self
    }

    /// Says whether this process is the one that shall hold the lease, for whoever is told so.
    pub fn lease_claim(&self) -> &Claim {
        &self.claim
    }

    /// Whose engine it is.
    pub fn installation(&self) -> &Installation {
        self.store.installation()
    }

    /// The connection.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Reads where the installation is.
    ///
    /// # Errors
    /// [`EngineError::Unreadable`] where the current revision cannot be read; [`Engine::open_damaged`] goes on.
    pub async fn open(&self) -> Result<State, EngineError> {
        let state = self.open_damaged().await?;
        match state.damage {
            Some(Damage::Objects { revision, why, renderable, readable }) => {
                Err(EngineError::Unreadable { revision, why, renderable, readable })
            }
            _ => Ok(state),
        }
    }

    /// Reads where the installation is, as far as it can be read: [`State::damage`] says what is missing.
    pub async fn open_damaged(&self) -> Result<State, EngineError> {
        let stored = self.store.open().await?;
        Box::pin(self.assessed(stored)).await
    }

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

    /// As [`Engine::prepare`], of one component alone where one is named: what else there is stays as it is.
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
        let plan = plan.map_err(|refused| EngineError::Refused(elsewhere::gathered(refused, &observed)))?;
        let mut package = packing.done().await?;
        if yielding::is_yielding(&desired, &plan) {
            desired = Arc::new(yielding::with_yielded(Arc::unwrap_or_clone(desired), &plan));
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

    pub(crate) async fn observe(&self, states: &[&Desired]) -> Result<Observed, EngineError> {
        let mut observed = observe::observe(&self.cluster, self.installation(), states).await?;
        // One that an earlier version of trainerd made carries our label still.
        observed.objects.retain(|key, _| !self.store.edited.contains(key));
        Ok(observed)
    }

    pub(crate) fn request<'a>(
        &'a self,
        purpose: Purpose,
        desired: &'a Desired,
        last: Option<&'a Desired>,
        observed: &'a Observed,
        policy: &'a RunPolicy,
        allow: Allowed,
    ) -> Request<'a> {
        Request {
            purpose,
            desired,
            last,
            observed,
            conflicts: policy.conflicts,
            ignored: &policy.drift_ignore,
            allow,
            only: None,
            field_manager: self.cluster.field_manager(),
        }
    }

    /// The namespace of the installation, made if it is absent.
    ///
    /// # Errors
    /// [`EngineError::Refused`] where it is being deleted.
    pub async fn prepare_namespace(&self) -> Result<(), EngineError> {
        self.ensure_namespace().await
    }

    /// Whether everything that a plan and its account need is allowed.
    ///
    /// # Errors
    /// [`EngineError::Permissions`] with all that is missing.
    pub async fn check_permissions(&self, prepared: &Prepared) -> Result<(), EngineError> {
        preflight::check(&self.cluster, &prepared.plan).await
    }

    /// Runs a prepared plan, and keeps the account: namespace, lease, revision, journal, steps, journal
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
    /// [`EngineError::Held`]: all of it succeeded that can be done now, and the journal is closed.
    /// [`EngineError::TimedOut`], [`EngineError::Interrupted`], a lost lease: the journal stays open, and
    /// [`Engine::recover`] goes on from there.
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
        let held = prepared.plan.held.clone();
        if prepared.is_empty() {
            self.walk(&prepared.plan, prepared.observed, None, &prepared.desired, options)
                .await?
                .into_result(prepared.plan.purpose, prepared.revision, options)?;
            return but_for(held, state);
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
        released(guard, answer).await.and_then(|state| but_for(held, state))
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

    /// The journal of a plan that goes forward, from now on.
    pub(crate) fn journal(
        &self,
        purpose: Purpose,
        target: u64,
        from: Option<u64>,
        allow: Allowed,
        options: &RunOptions<'_>,
    ) -> Journal {
        Journal {
            purpose,
            target,
            from,
            touched: Vec::new(),
            phase: Phase::Forward,
            extent: None,
            allow_lossy: allow.lossy,
            allow_in_use: allow.in_use,
            allow_recreate: allow.recreate,
            started: Timestamp::now(),
            by: self.by.clone(),
            asked_by: options.asked_by.clone(),
        }
    }

    /// The header of the revision that a plan leads to; its package knows the rest.
    pub(crate) fn header(&self, state: &State, number: u64, plan: &Plan, desired: &Desired) -> Header {
        Header {
            number,
            parent: state.record().current,
            created: Timestamp::now(),
            by: self.by.clone(),
            asked_by: None,
            purpose: plan.purpose,
            installation: desired.installation.clone(),
            naming: desired.naming,
            components: desired.components.clone(),
            options: desired.options.clone(),
            given: desired.given.clone(),
            taken: revision::forced(plan),
            digest: String::new(),
            chunks: Vec::new(),
        }
    }

    /// What other tools read of the set: the kinds and namespaces that members may have.
    pub(crate) fn include(&self, stored: &mut Stored, states: &[&Desired]) {
        for object in states.iter().flat_map(|state| &state.objects) {
            let key = object.key();
            stored.group_kinds.insert(key.group_kind());
            stored.namespaces.extend(key.namespace.filter(|name| *name != self.installation().namespace));
        }
    }

    pub(crate) async fn walk(
        &self,
        plan: &Plan,
        observed: Observed,
        guard: Option<&Fence>,
        desired: &Desired,
        options: &mut RunOptions<'_>,
    ) -> Result<Ended, EngineError> {
        let policy = RunPolicy::of(&desired.options);
        let limits = Limits {
            settle: policy.settle,
            progress_deadline: policy.progress_deadline,
            deadline: options.deadline,
        };
        execute::execute(&self.cluster, plan, observed, guard, limits, options.sink, &mut options.cancel)
            .await
    }

    /// A revision with its objects.
    pub async fn revision(&self, number: u64) -> Result<Revision, EngineError> {
        self.store.load(number).await
    }

    /// A revision with its objects; `None` where it cannot be read.
    ///
    /// # Errors
    /// [`EngineError::Request`].
    pub async fn revision_if_sound(&self, number: u64) -> Result<Option<Revision>, EngineError> {
        self.store.load_if_sound(number).await
    }

    /// The numbers of the revisions that the record tells of, or that exist, and of which nothing can be read.
    pub fn unreadable(&self, state: &State) -> Vec<u64> {
        let known = state.record().results.keys().chain(&state.stored.revisions).copied();
        let known: BTreeSet<u64> = known.chain(state.record().current).collect();
        known.into_iter().filter(|number| self.store.known_header(*number).is_none()).collect()
    }

    /// Lets go of what was kept so that it need not be read again.
    pub async fn forget(&self) {
        self.store.forget().await;
    }

    /// Every revision that was read or written by this engine, ascending, with what came of it. No request.
    pub fn known_history(&self, state: &State) -> Vec<(Header, Option<Outcome>)> {
        let outcome = |header: &Header| state.record().results.get(&header.number).cloned();
        let headers = self.store.known_headers().into_iter();
        headers.map(|header| (outcome(&header), header)).map(|(outcome, header)| (header, outcome)).collect()
    }

    pub(crate) fn not_installed(&self) -> EngineError {
        let Installation { name, namespace } = self.installation().clone();
        EngineError::NotInstalled { name, namespace }
    }
}

/// One above every number that was ever begun.
pub(crate) fn next_number(record: &Record) -> u64 {
    let known = record.results.keys().copied().chain(record.current);
    let known = known.chain(record.journal.iter().map(|journal| journal.target));
    known.max().unwrap_or(0) + 1
}
