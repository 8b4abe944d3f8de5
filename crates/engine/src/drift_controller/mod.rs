//! The drift controller of an installation: watches the objects of its current revision and repairs drift.
//!
//! No request is made while nothing changes. One foreign change costs one write, and a read where the metadata
//! does not show what was changed. The revision is the intent, so nothing is journalled. The lease is acquired for
//! the first write and kept for a while, so that a burst acquires it once.

mod event;
mod lease_holder;
mod object_cache;
mod packed;
mod reconnection;
mod snapshot;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use trainerd_cluster::Cluster;
use trainerd_cluster::retry::Backoff;
use trainerd_plan::desired::Installation;
use trainerd_plan::drift::{Contention, Drifted, NotRepaired, Remedy, Rules, Verdict};
use trainerd_plan::object::ObjectKey;

pub use self::event::{DriftEvent, RepairMode};
use self::lease_holder::LeaseHolder;
use self::object_cache::{Assessment, ObjectCache};
pub use self::object_cache::{OwnerSeen, RecordSeen};
use self::reconnection::Reconnections;
pub use self::snapshot::{DriftState, DriftStatus, StatusSnapshot};
use self::work::Work;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::record::{Journal, Outcome};
use crate::run_policy::RunPolicy;
use crate::state::State;
use crate::store::Control;
use crate::watches::WatchMessage;

/// What a snapshot says of the record of the installation.
struct RecordSummary {
    /// resourceVersion of the record.
    version: Option<String>,
    number: u64,
    outcome: Option<Outcome>,
    journal: Option<Journal>,
    control: Control,
}

/// Reconciles one installation with its current revision.
///
/// Driven by [`DriftController::next`] alone; only its watches have tasks.
pub struct DriftController {
    cluster: Cluster,
    installation: Installation,
    objects: ObjectCache,
    mode: RepairMode,
    policy: RunPolicy,
    record: Option<RecordSummary>,
    contention: Contention,
    /// The origin of the clock that contention counts on.
    began: Instant,
    drift: BTreeMap<ObjectKey, DriftStatus>,
    /// When drift that is to be repaired was first noticed.
    noticed: BTreeMap<ObjectKey, Instant>,
    /// Objects to write as soon as the lease is ours.
    queue: VecDeque<ObjectKey>,
    /// Webhooks behind which a repair replaces pods.
    reconnections: Reconnections,
    /// Objects that are being read or written.
    busy: BTreeSet<ObjectKey>,
    /// Objects to check again, and when; `None` while a check is in progress.
    again: BTreeMap<ObjectKey, (Option<Instant>, Backoff)>,
    work: FuturesUnordered<LocalBoxFuture<'static, Work>>,
    lease: LeaseHolder,
    /// Whether the record is being read: until then nothing is written.
    checking: bool,
    /// Until then watches may lag behind the last plan: apparent drift is read first.
    late: Option<Instant>,
    events: VecDeque<DriftEvent>,
    halt: watch::Sender<bool>,
}

/// How long events of a plan's writes may take to arrive, well above what a busy API server takes. Later ones cause a
/// repair that changes nothing.
const LATE: Duration = Duration::from_secs(10);

/// Time between two checks of a foreign object in the place of ours.
const FOREIGN: Duration = Duration::from_mins(5);

/// Backoff of a repair that is refused.
fn patience() -> Backoff {
    Backoff::new(Duration::from_secs(1), Duration::from_mins(5))
}

impl DriftController {
    /// The drift controller of an engine's installation, which watches only the record at first.
    pub fn new(engine: &Engine) -> Self {
        let (halt, _) = watch::channel(false);
        Self {
            cluster: engine.cluster().clone(),
            installation: engine.installation().clone(),
            objects: ObjectCache::new(engine.cluster(), engine.installation()),
            mode: RepairMode::Suspended,
            policy: RunPolicy::of(&BTreeMap::new()),
            record: None,
            contention: Contention::default(),
            began: Instant::now(),
            drift: BTreeMap::new(),
            noticed: BTreeMap::new(),
            queue: VecDeque::new(),
            reconnections: Reconnections::default(),
            busy: BTreeSet::new(),
            again: BTreeMap::new(),
            work: FuturesUnordered::new(),
            lease: LeaseHolder::new(engine),
            checking: false,
            late: None,
            events: VecDeque::new(),
            halt,
        }
    }

    /// Follows the current revision of this state from now on.
    ///
    /// # Errors
    /// [`EngineError::Packing`] if memory for its objects cannot be allocated.
    pub fn set(&mut self, state: &State, mode: RepairMode) -> Result<(), EngineError> {
        self.lease.know(state.record().token.clone());
        self.objects.follow_record(&state.stored.listed);
        self.mode = mode;
        if let Some(current) = &state.current {
            let policy = RunPolicy::of(&current.desired.options);
            let set = self.objects.set(&current.desired, policy != self.policy);
            set.map_err(|error| EngineError::Packing(error.into()))?;
            self.policy = policy;
        } else {
            self.objects.clear();
        }
        let number = state.current.as_ref().map(|current| current.header.number);
        self.record = number.map(|number| RecordSummary {
            version: state.version().map(str::to_owned),
            number,
            outcome: state.record().results.get(&number).cloned(),
            journal: state.journal().cloned(),
            control: state.control().clone(),
        });
        self.drift.clear();
        self.noticed.clear();
        self.queue.clear();
        self.reconnections.clear();
        self.again.clear();
        if mode != RepairMode::Suspended {
            self.look_at_all();
        }
        self.changed();
        Ok(())
    }

    /// Resumes after [`Self::step_aside`].
    pub fn go_on(&mut self, mode: RepairMode) {
        self.mode = mode;
        if mode != RepairMode::Suspended {
            self.look_at_all();
        }
        self.changed();
    }

    /// Steps aside for a plan: awaits requests in flight and releases the lease.
    pub async fn step_aside(&mut self) {
        self.mode = RepairMode::Suspended;
        self.queue.clear();
        self.again.clear();
        self.halt.send_replace(true);
        while let Some(work) = self.work.next().await {
            self.worked(work);
        }
        self.halt.send_replace(false);
        self.lease.release().await;
    }

    /// A plan has written: the next watch events may be older than that.
    pub fn plan_ran(&mut self) {
        self.late = Some(Instant::now() + LATE);
    }

    /// Whether apparent drift has still to be read.
    pub fn is_in_doubt(&self) -> bool {
        self.is_late() && !self.busy.is_empty()
    }

    /// Whether every kind was listed.
    pub fn is_observed(&self) -> bool {
        self.objects.is_current()
    }

    /// Why watches are interrupted: by kind, in sentences.
    pub fn troubles(&self) -> Vec<(String, String)> {
        self.objects.troubles().map(|(kind, why)| (kind.to_owned(), why)).collect()
    }

    /// Whether the lease is held now.
    pub fn holds_lease(&self) -> bool {
        self.lease.is_held()
    }

    /// Runs until there is an event. Cancel-safe.
    pub async fn next(&mut self) -> DriftEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.begin();
            let wake = self.wake();
            tokio::select! {
                message = self.objects.next() => {
                    self.receive(message);
                    // Simultaneous events are published together.
                    while let Some(message) = self.objects.try_next() {
                        self.receive(message);
                    }
                }
                Some(work) = self.work.next(), if !self.work.is_empty() => self.worked(work),
                () = sleep_until(wake) => self.woke(),
            }
        }
    }

    fn receive(&mut self, message: WatchMessage) {
        let change = self.objects.take(message);
        self.events.extend(change.record.map(DriftEvent::Record));
        self.events.extend(change.paused.map(DriftEvent::Paused));
        self.events.extend(change.owner.map(DriftEvent::Owner));
        if change.surroundings || !change.objects.is_empty() {
            self.changed();
        }
        for key in change.objects {
            self.look(&key);
        }
    }

    /// The earliest moment at which something is due.
    fn wake(&self) -> Option<Instant> {
        let again = self.again.values().filter_map(|(at, _)| *at);
        let wanted = !self.queue.is_empty() || !self.to_reconnect().is_empty();
        let idle = self.busy.is_empty() && (!wanted || self.lease.is_yielding());
        let lease = self.lease.due(idle, wanted);
        again.chain(lease).min()
    }

    fn woke(&mut self) {
        let now = Instant::now();
        let due: Vec<ObjectKey> = self
            .again
            .iter()
            .filter(|(_, (at, _))| at.is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if let Some((at, _)) = self.again.get_mut(&key) {
                *at = None;
            }
            if self.drift.get(&key).is_some_and(|drift| drift.state.is_unseen()) {
                self.objects.doubt(&key);
            }
            self.look(&key);
        }
        if (self.queue.is_empty() || self.lease.is_yielding())
            && self.busy.is_empty()
            && let Some(release) = self.lease.end(now)
        {
            self.work.push(Box::pin(async move {
                release.await;
                Work::Released
            }));
        }
    }

    fn changed(&mut self) {
        if !self.events.iter().any(|event| matches!(event, DriftEvent::Changed)) {
            self.events.push_back(DriftEvent::Changed);
        }
    }

    fn look_at_all(&mut self) {
        for key in self.objects.members() {
            self.look(&key);
        }
    }

    /// The verdict about an object from what was observed, under the rules in force.
    fn sight(&self, key: &ObjectKey) -> Assessment {
        self.objects.look(&self.rules(), key)
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            installation: &self.installation,
            policy: self.policy.drift_policy,
            ignored: &self.policy.drift_ignore,
            conflicts: self.policy.conflicts,
            field_manager: self.cluster.field_manager(),
        }
    }

    /// Assesses an object and decides what to do.
    fn look(&mut self, key: &ObjectKey) {
        self.assess(key, true);
    }

    /// As [`Self::look`]; `may_read`: whether it may be read if the observation is not sufficient.
    fn assess(&mut self, key: &ObjectKey, may_read: bool) {
        if self.mode == RepairMode::Suspended || self.busy.contains(key) {
            return;
        }
        let verdict = match self.sight(key) {
            Assessment::Unknown => return,
            Assessment::Unclear if may_read => return self.read(key),
            Assessment::Clear(Verdict::Drifted(_)) if may_read && self.is_late() => return self.read(key),
            // For example deleted and recreated while it was read.
            Assessment::Unclear if self.is_first_time(key) => return self.read(key),
            Assessment::Unclear => return self.failed(key, None, "its state could not be read"),
            Assessment::Clear(verdict) => verdict,
        };
        match verdict {
            verdict @ (Verdict::Holds | Verdict::Leaving) => {
                if verdict == Verdict::Holds {
                    self.objects.trim(key);
                }
                self.again.remove(key);
                self.noticed.remove(key);
                self.queue.retain(|queued| queued != key);
                if self.drift.remove(key).is_some() {
                    self.events.push_back(DriftEvent::Gone(key.clone()));
                }
            }
            Verdict::Drifted(drifted) => self.drifted(key, &drifted),
        }
    }

    fn is_late(&self) -> bool {
        self.late.is_some_and(|late| Instant::now() < late)
    }

    fn drifted(&mut self, key: &ObjectKey, drifted: &Drifted) {
        let state = match &drifted.remedy {
            Remedy::Leave(leave) => {
                self.noticed.remove(key);
                self.again.remove(key);
                if matches!(leave, NotRepaired::Foreign { .. }) {
                    // We do not watch the foreign object's deletion.
                    self.again.insert(key.clone(), (Some(Instant::now() + FOREIGN), patience()));
                }
                DriftState::Left { why: leave.clone() }
            }
            _ if self.mode == RepairMode::Paused => DriftState::Paused,
            Remedy::Plan => {
                let why = format!("{key} does not exist");
                self.events.push_back(DriftEvent::NeedsPlan { why });
                DriftState::Repairing
            }
            Remedy::Repair(_) => self.queued(key, drifted),
        };
        self.show(key, drifted, state);
    }

    /// Queues a repair, unless a field is contended or the repair was just refused.
    fn queued(&mut self, key: &ObjectKey, drifted: &Drifted) -> DriftState {
        if let Some(contended) = self.contention.check(&drifted.contendable_fields(key), self.began.elapsed())
        {
            let at = self.began + contended.until;
            self.again.insert(key.clone(), (Some(at), patience()));
            let seconds = at.saturating_duration_since(Instant::now()).as_secs();
            return DriftState::contended(contended.field, seconds);
        }
        if matches!(self.drift.get(key).map(|status| &status.state), Some(DriftState::Contended { .. })) {
            // Another contended field, or none: the backoff was for the previous one.
            self.again.remove(key);
        }
        self.noticed.entry(key.clone()).or_insert_with(Instant::now);
        // A refused repair is retried after its backoff.
        let waits = self.again.get(key).is_some_and(|(at, _)| at.is_some());
        if !waits && !self.queue.contains(key) {
            self.queue.push_back(key.clone());
        }
        match self.drift.get(key).map(|status| &status.state) {
            Some(failed @ DriftState::Failed { .. }) if waits => failed.clone(),
            _ => DriftState::Repairing,
        }
    }

    /// Records drift, and reports it if it changed.
    fn show(&mut self, key: &ObjectKey, drifted: &Drifted, state: DriftState) {
        let place = self.objects.packed().and_then(|packed| packed.place(key));
        let component = place.map(|(component, _)| component.to_owned()).unwrap_or_default();
        let status = DriftStatus {
            component,
            object: key.clone(),
            changes: drifted.changes.clone(),
            by: drifted.by.clone(),
            state,
        };
        let known = self.drift.insert(key.clone(), status.clone());
        if known.as_ref().is_none_or(|known| !known.is_same(&status)) {
            self.events.push_back(DriftEvent::Drifted(status));
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
