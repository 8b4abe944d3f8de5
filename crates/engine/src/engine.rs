//! The engine's verbs: open, recover, prepare, run, roll back, and the account they keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use trainerd_cluster::lease::{Fence, Identity, LeaseConfig, LeaseGuard};
use trainerd_cluster::{Cluster, CreateParams, RequestError};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Desired, DesiredObject, Installation};
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Plan, Purpose};
use trainerd_plan::planner::{self, Conflicts};
use trainerd_plan::reason::WaitingOn;
use trainerd_plan::refused::Refused;

use crate::error::{EngineError, one_line};
use crate::event::{Event, Sink};
use crate::execute::{self, Cancel, Ended, Limits};
use crate::observe;
use crate::preflight;
use crate::record::{Journal, Outcome, Phase, Record};
use crate::retry::patiently;
use crate::revision::{self, Header, Revision};
use crate::store::{Store, Stored};

/// Brings one installation to what is desired of it.
pub struct Engine {
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    pub(crate) by: String,
}

/// What is known of an installation at the start of a command.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) stored: Stored,
    /// The revision that the cluster is at, or was last brought towards.
    pub current: Option<Revision>,
}

impl State {
    /// The record.
    pub fn record(&self) -> &Record {
        &self.stored.record
    }

    /// The plan under way, if one was broken off.
    pub fn journal(&self) -> Option<&Journal> {
        self.stored.record.journal.as_ref()
    }
}

/// How plans run under a revision's own options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Option `settle`.
    pub settle: Duration,
    /// Option `progress-deadline`.
    pub progress_deadline: Duration,
    /// Option `auto-rollback`.
    pub auto_rollback: bool,
    /// Option `conflicts`.
    pub conflicts: Conflicts,
    /// Option `revision-history`.
    pub revision_history: usize,
}

impl Terms {
    /// The terms that a revision's options set; what it does not say is as `config.yaml` has it.
    pub fn of(options: &BTreeMap<String, Value>) -> Self {
        let number = |name: &str, default: u64| options.get(name).and_then(Value::as_u64).unwrap_or(default);
        let conflicts = options.get("conflicts").cloned();
        Self {
            settle: Duration::from_secs(number("settle", 5)),
            progress_deadline: Duration::from_secs(number("progress-deadline", 600)),
            auto_rollback: options.get("auto-rollback").and_then(Value::as_bool).unwrap_or(true),
            conflicts: conflicts.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default(),
            revision_history: usize::try_from(number("revision-history", 10)).unwrap_or(10),
        }
    }
}

/// How the caller wants a run to go.
pub struct RunOptions<'a> {
    /// The caller's patience; the journal stays open when it is over.
    pub timeout: Option<Duration>,
    /// Where events go.
    pub sink: Sink<'a>,
    /// Turns true when the run shall stop.
    pub cancel: Cancel,
}

/// A plan that is ready to run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The revision that running it leads to. A repair leads to the revision that the installation is at.
    pub revision: u64,
    /// The revision it leaves.
    pub from: Option<u64>,
    #[serde(skip)]
    pub(crate) desired: Desired,
    #[serde(skip)]
    pub(crate) observed: Observed,
    #[serde(skip)]
    pub(crate) kept: Kept,
    #[serde(skip)]
    pub(crate) allow_lossy: bool,
}

/// What running a plan has to write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing: the revision is the intent, and it is deployed.
    Nothing,
    /// The journal, for the revision exists and was not brought to its end.
    Journal,
    /// A new revision, and the journal.
    Revision,
}

impl Prepared {
    /// Whether there is anything to write at all.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && self.kept == Kept::Nothing
    }

    /// Whether a new revision would be made, if only for changed options.
    pub fn makes_revision(&self) -> bool {
        self.kept == Kept::Revision
    }
}

impl Engine {
    /// An engine for one installation. `by` says in revisions who asked: the command line.
    pub fn new(cluster: Cluster, installation: Installation, by: String) -> Self {
        Self { store: Store::new(cluster.clone(), installation), cluster, by }
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
    pub async fn open(&self) -> Result<State, EngineError> {
        let stored = self.store.record().await?;
        let current = match stored.record.current {
            Some(number) => Some(self.store.load(number).await?),
            None => None,
        };
        Ok(State { stored, current })
    }

    /// Plans the way to `desired`; nothing is written.
    pub async fn prepare(
        &self,
        state: &State,
        desired: Desired,
        purpose: Purpose,
        allow_lossy: bool,
    ) -> Result<Prepared, EngineError> {
        let last = state.current.as_ref();
        let mut states: Vec<&Desired> = last.map(|revision| &revision.desired).into_iter().collect();
        states.push(&desired);
        let observed = self.observe(&states).await?;
        let plan = self.plan(purpose, &desired, last.map(|r| &r.desired), &observed, allow_lossy)?;
        let record = state.record();
        let same = last.filter(|revision| revision.header.digest == revision::digest(&desired));
        let (revision, kept) = match same {
            Some(same) => {
                let number = same.header.number;
                let deployed = record.results.get(&number) == Some(&Outcome::Deployed);
                (number, if deployed { Kept::Nothing } else { Kept::Journal })
            }
            None => (next_number(record), Kept::Revision),
        };
        Ok(Prepared { plan, revision, from: record.current, desired, observed, kept, allow_lossy })
    }

    pub(crate) async fn observe(&self, states: &[&Desired]) -> Result<Observed, EngineError> {
        observe::observe(&self.cluster, self.installation(), states).await
    }

    fn plan(
        &self,
        purpose: Purpose,
        desired: &Desired,
        last: Option<&Desired>,
        observed: &Observed,
        allow_lossy: bool,
    ) -> Result<Plan, EngineError> {
        let request = planner::Request {
            purpose,
            desired,
            last,
            observed,
            conflicts: Terms::of(&desired.options).conflicts,
            allow_lossy,
            field_manager: self.cluster.field_manager(),
        };
        planner::plan(&request).map_err(EngineError::Refused)
    }

    /// Runs a prepared plan, and keeps the account: namespace, lease, revision, journal, steps, journal
    /// closed.
    ///
    /// A plan that fails is undone if it left a revision and the option `auto-rollback` says so.
    ///
    /// # Errors
    /// [`EngineError::RolledBack`], [`EngineError::Failed`]: the plan did not succeed, the journal is closed.
    /// [`EngineError::TimedOut`], [`EngineError::Interrupted`], a lost lease: the journal stays open, and
    /// [`Engine::recover`] goes on from there.
    pub async fn run(
        &self,
        state: State,
        prepared: Prepared,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        (options.sink)(Event::Planned {
            purpose: prepared.plan.purpose,
            revision: Some(prepared.revision),
            counts: prepared.plan.counts(),
        });
        if prepared.is_empty() {
            self.walk(&prepared.plan, &prepared.observed, None, &prepared.desired, options)
                .await?
                .into_result(&prepared.plan, prepared.revision, options)?;
            return Ok(state);
        }
        preflight::check(&self.cluster, &prepared.plan).await?;
        self.ensure_namespace().await?;
        let guard = self.lease(options.sink).await?;
        let answer = self.run_with_lease(state, prepared, &guard.fence(), options).await;
        released(guard, answer).await
    }

    async fn run_with_lease(
        &self,
        mut state: State,
        prepared: Prepared,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        if prepared.kept == Kept::Nothing {
            self.walk(&prepared.plan, &prepared.observed, Some(guard), &prepared.desired, options)
                .await?
                .into_result(&prepared.plan, prepared.revision, options)?;
            return Ok(state);
        }
        if prepared.kept == Kept::Revision {
            self.keep(&state, &prepared).await?;
        }
        let journal = Journal {
            purpose: prepared.plan.purpose,
            target: prepared.revision,
            from: prepared.from.filter(|from| *from != prepared.revision),
            touched: Vec::new(),
            phase: Phase::Forward,
            extent: None,
            allow_lossy: prepared.allow_lossy,
            started: Timestamp::now(),
            by: self.by.clone(),
        };
        let mut stored = state.stored;
        stored.record = stored.record.open(journal)?;
        self.include(&mut stored, &[&prepared.desired]);
        state.stored = self.store.write(&stored).await?;
        let ended =
            self.walk(&prepared.plan, &prepared.observed, Some(guard), &prepared.desired, options).await?;
        self.conclude(state, &prepared.plan, &prepared.desired, ended, guard, options).await
    }

    /// Stores the revision that a plan leads to. One of the same number that no journal ever named was left
    /// by a run that was broken off before its journal was open: it is replaced.
    async fn keep(&self, state: &State, prepared: &Prepared) -> Result<(), EngineError> {
        let digest = revision::digest(&prepared.desired);
        if self.store.numbers().await?.contains(&prepared.revision) {
            if self.store.header(prepared.revision).await?.digest == digest {
                return Ok(());
            }
            self.store.forget(prepared.revision).await?;
        }
        let desired = &prepared.desired;
        let header = Header {
            number: prepared.revision,
            parent: state.record().current,
            created: Timestamp::now(),
            by: self.by.clone(),
            purpose: prepared.plan.purpose,
            installation: desired.installation.clone(),
            components: desired.components.clone(),
            options: desired.options.clone(),
            given: desired.given.clone(),
            digest,
            chunks: Vec::new(),
        };
        self.store.save(header, desired).await.map(drop)
    }

    /// What other tools read of the set: the kinds and namespaces that members may have.
    fn include(&self, stored: &mut Stored, states: &[&Desired]) {
        for object in states.iter().flat_map(|state| &state.objects) {
            let key = object.key();
            stored.group_kinds.insert(key.group_kind());
            stored.namespaces.extend(key.namespace.filter(|name| *name != self.installation().namespace));
        }
    }

    async fn walk(
        &self,
        plan: &Plan,
        observed: &Observed,
        guard: Option<&Fence>,
        desired: &Desired,
        options: &mut RunOptions<'_>,
    ) -> Result<Ended, EngineError> {
        let terms = Terms::of(&desired.options);
        let limits = Limits {
            settle: terms.settle,
            progress_deadline: terms.progress_deadline,
            timeout: options.timeout,
        };
        execute::execute(&self.cluster, plan, observed, guard, limits, options.sink, &mut options.cancel)
            .await
    }

    /// Closes the journal as the run ended, turning back first where that is called for.
    async fn conclude(
        &self,
        mut state: State,
        plan: &Plan,
        desired: &Desired,
        ended: Ended,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let Some(journal) = state.journal().cloned() else { return Ok(state) };
        match ended {
            Ended::Done => self.close(state, None).await,
            Ended::Failed(failure) => {
                let reason = one_line(&failure);
                let undo = Terms::of(&desired.options).auto_rollback
                    && journal.from.is_some()
                    && journal.phase == Phase::Forward
                    && matches!(journal.purpose, Purpose::Upgrade | Purpose::Change);
                if undo {
                    state.stored.record = state.stored.record.undo(reason)?;
                    state.stored = self.store.write(&state.stored).await?;
                    return Box::pin(self.finish(state, guard, options)).await;
                }
                let revision = journal.target;
                match journal.phase {
                    Phase::Forward => {
                        self.close(state, Some(reason)).await?;
                        let cause = Box::new(failure);
                        Err(EngineError::Failed { purpose: plan.purpose, revision, cause })
                    }
                    Phase::Undo { .. } => {
                        self.close(state, Some(reason)).await?;
                        let cause = Box::new(failure);
                        Err(EngineError::Failed {
                            purpose: Purpose::Rollback,
                            revision: journal.from.unwrap_or(revision),
                            cause,
                        })
                    }
                }
            }
            other => other.into_result(plan, journal.target, options).map(|()| state),
        }
    }

    async fn close(&self, mut state: State, failed: Option<String>) -> Result<State, EngineError> {
        let journal = state.journal().cloned();
        state.stored.record = state.stored.record.close(failed)?;
        state.current = match state.stored.record.current {
            Some(number) => Some(self.store.load(number).await?),
            None => None,
        };
        let keep =
            state.current.as_ref().map_or(10, |current| Terms::of(&current.desired.options).revision_history);
        let kept: BTreeSet<u64> = {
            let newest = state.stored.record.results.keys().rev().take(keep).copied();
            newest.chain(state.stored.record.current).collect()
        };
        state.stored.record.results.retain(|number, _| kept.contains(number));
        if let Some(current) = &state.current {
            // Everything else was pruned by the plan that just ended well.
            if journal.is_some()
                && matches!(state.stored.record.results.get(&current.header.number), Some(Outcome::Deployed))
            {
                state.stored.group_kinds.clear();
                state.stored.namespaces.clear();
                let desired = current.desired.clone();
                self.include(&mut state.stored, &[&desired]);
            }
        }
        state.stored = self.store.write(&state.stored).await?;
        self.store.trim(keep, &kept).await?;
        Ok(state)
    }

    /// Finishes what an open journal says, in the direction it goes. Does nothing where none is open.
    pub async fn recover(&self, state: State, options: &mut RunOptions<'_>) -> Result<State, EngineError> {
        if state.journal().is_none() {
            return Ok(state);
        }
        self.ensure_namespace().await?;
        let guard = self.lease(options.sink).await?;
        // Read again under the lease: whoever held it may have finished meanwhile.
        let answer = match self.open().await {
            Ok(state) => self.finish(state, &guard.fence(), options).await,
            Err(error) => Err(error),
        };
        released(guard, answer).await
    }

    /// Plans again towards where the open journal leads, and goes there.
    pub(crate) async fn finish(
        &self,
        state: State,
        guard: &Fence,
        options: &mut RunOptions<'_>,
    ) -> Result<State, EngineError> {
        let (Some(journal), Some(heading)) = (state.journal().cloned(), state.record().heading()) else {
            return Ok(state);
        };
        if let Some(extent) = journal.extent {
            return self.finish_removal(state, extent, guard, options).await;
        }
        let undo = matches!(journal.phase, Phase::Undo { .. });
        let target = self.store.load(heading).await?;
        let mut others = Vec::new();
        let numbers =
            [Some(journal.target), journal.from].into_iter().flatten().chain(journal.touched.iter().copied());
        for number in numbers.filter(|number| *number != heading).collect::<BTreeSet<_>>() {
            others.push(self.store.load(number).await?);
        }
        match &journal.phase {
            Phase::Undo { reason } => {
                (options.sink)(Event::RollingBack { to: heading, reason: reason.clone() });
            }
            Phase::Forward => {
                let (purpose, target) = (journal.purpose, journal.target);
                (options.sink)(Event::Recovering { purpose, target, undo });
            }
        }
        let last = written_before(&target.desired, &others);
        let states: Vec<&Desired> =
            others.iter().map(|revision| &revision.desired).chain([&target.desired]).collect();
        let observed = self.observe(&states).await?;
        let purpose = if undo { Purpose::Rollback } else { journal.purpose };
        // An automatic rollback was allowed by its option when the plan began.
        let plan =
            self.plan(purpose, &target.desired, Some(&last), &observed, undo || journal.allow_lossy)?;
        (options.sink)(Event::Planned { purpose, revision: Some(heading), counts: plan.counts() });
        let ended = self.walk(&plan, &observed, Some(guard), &target.desired, options).await?;
        let succeeded = matches!(ended, Ended::Done);
        let state = self.conclude(state, &plan, &target.desired, ended, guard, options).await?;
        match journal.phase {
            Phase::Undo { reason } if succeeded => Err(EngineError::RolledBack {
                purpose: journal.purpose,
                revision: journal.target,
                back: heading,
                reason,
            }),
            _ => Ok(state),
        }
    }

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

    /// A revision with its objects.
    pub async fn revision(&self, number: u64) -> Result<Revision, EngineError> {
        self.store.load(number).await
    }

    /// Every revision's header, ascending, with what came of it.
    pub async fn history(&self) -> Result<Vec<(Header, Option<Outcome>)>, EngineError> {
        let record = self.store.record().await?.record;
        let mut history = Vec::new();
        for number in self.store.numbers().await? {
            history.push((self.store.header(number).await?, record.results.get(&number).cloned()));
        }
        Ok(history)
    }

    pub(crate) fn not_installed(&self) -> EngineError {
        let Installation { name, namespace } = self.installation().clone();
        EngineError::NotInstalled { name, namespace }
    }

    /// The namespace of the installation, made if it is absent and marked as ours then.
    async fn ensure_namespace(&self) -> Result<(), EngineError> {
        let name = &self.installation().namespace;
        let found = observe::namespace(&self.cluster, name).await;
        match found.map_err(EngineError::request("read", format!("namespace {name}")))? {
            Some(found) if !found["metadata"]["deletionTimestamp"].is_null() => {
                Err(EngineError::Refused(vec![Refused::NamespaceTerminating { name: name.clone() }]))
            }
            Some(_) => Ok(()),
            None => {
                let manifest = serde_json::json!({
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {
                        "name": name,
                        "annotations": {applyset::CREATED_FOR: self.installation().name},
                    },
                });
                let kind = crate::kinds::namespace();
                let create = async || self.cluster.create(&kind, &manifest, CreateParams::default()).await;
                match patiently(create).await {
                    Ok(_) | Err(RequestError::AlreadyExists { .. }) => Ok(()),
                    Err(error) => Err(EngineError::request("create", format!("namespace {name}"))(error)),
                }
            }
        }
    }

    pub(crate) async fn lease(&self, sink: Sink<'_>) -> Result<LeaseGuard, EngineError> {
        let name = applyset::parent_name(self.installation());
        let report = |on: &WaitingOn| sink(Event::Waiting { object: None, on: on.clone() });
        let config = LeaseConfig::new(Identity::of_this_process());
        Ok(LeaseGuard::acquire(&self.cluster, &self.installation().namespace, &name, config, report).await?)
    }
}

/// Gives the lease back whatever the answer is; the answer is what counts.
pub(crate) async fn released<T>(guard: LeaseGuard, answer: Result<T, EngineError>) -> Result<T, EngineError> {
    // A lease that could not be given back runs out by itself.
    if let Err(error) = guard.release().await {
        tracing::warn!(error = %one_line(&error), "failed to release the lease; it runs out by itself");
    }
    answer
}

/// One above every number that was ever begun.
fn next_number(record: &Record) -> u64 {
    let known = record.results.keys().copied().chain(record.current);
    let known = known.chain(record.journal.iter().map(|journal| journal.target));
    known.max().unwrap_or(0) + 1
}

/// What was last sent, as far as several revisions may have been: the objects of the revisions that were
/// left or broken off, and of the target those that only it has.
fn written_before(target: &Desired, others: &[Revision]) -> Desired {
    let mut objects: BTreeMap<_, &DesiredObject> = BTreeMap::new();
    for revision in others {
        objects.extend(revision.desired.objects.iter().map(|object| (object.key(), object)));
    }
    for object in &target.objects {
        objects.entry(object.key()).or_insert(object);
    }
    Desired { objects: objects.into_values().cloned().collect(), ..target.clone() }
}

impl Ended {
    /// The end of a run that keeps no journal of its own, or leaves it open.
    pub(crate) fn into_result(
        self,
        plan: &Plan,
        revision: u64,
        options: &RunOptions<'_>,
    ) -> Result<(), EngineError> {
        match self {
            Self::Done => Ok(()),
            Self::Failed(failure) => {
                Err(EngineError::Failed { purpose: plan.purpose, revision, cause: Box::new(failure) })
            }
            Self::TimedOut { waiting } => {
                let seconds = options.timeout.unwrap_or_default().as_secs();
                Err(EngineError::TimedOut { seconds, waiting })
            }
            Self::Interrupted => Err(EngineError::Interrupted),
        }
    }
}
