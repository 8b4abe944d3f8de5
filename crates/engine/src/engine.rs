//! The engine: one installation, its cluster and its records, and what its verbs share.

use std::collections::BTreeSet;

use jiff::Timestamp;
use trainerd_cluster::Cluster;
use trainerd_cluster::lease::{Claim, Fence};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::{Desired, Installation, Naming};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Plan, Purpose};
use trainerd_plan::request::Request;

use crate::error::EngineError;
use crate::execute::{self, Ended, Limits};
use crate::observe;
use crate::record::{Journal, Outcome, Phase, Record};
use crate::revision::{self, Header, Revision};
use crate::run_options::RunOptions;
use crate::run_policy::RunPolicy;
use crate::state::State;
use crate::store::{Store, Stored};

/// Reconciles one installation with its desired state.
pub struct Engine {
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    pub(crate) by: String,
    /// Whether this process is named as the writer.
    pub(crate) claim: Claim,
    naming: Naming,
}

impl Engine {
    /// An engine for one installation. `by` says in revisions who asked: the command line.
    pub fn new(cluster: Cluster, installation: Installation, by: String) -> Self {
        let (store, claim) = (Store::new(cluster.clone(), installation), Claim::default());
        Self { store, cluster, by, claim, naming: Naming::default() }
    }

    /// The same, with names for a new installation.
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

    /// The claim by which a process is named as the holder of the lease.
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

    /// A new forward journal.
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

    /// The numbers of the revisions that the record reports, or that exist, and of which nothing can be read.
    pub fn unreadable(&self, state: &State) -> Vec<u64> {
        let known = state.record().results.keys().chain(&state.stored.revisions).copied();
        let known: BTreeSet<u64> = known.chain(state.record().current).collect();
        known.into_iter().filter(|number| self.store.known_header(*number).is_none()).collect()
    }

    /// Drops cached revisions.
    pub async fn forget(&self) {
        self.store.forget().await;
    }

    /// Every revision that was read or written by this engine, ascending, with its outcome. No request.
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
