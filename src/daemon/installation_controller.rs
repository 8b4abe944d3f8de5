//! The control loop: each pass reads the current state and decides from that alone; between passes the drift controller
//! runs.

mod blocked;
mod command;
mod damage;
mod operation;
mod ownership;
mod removal;
mod retry;
mod rights;
mod run;
mod show;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{FusedFuture as _, LocalBoxFuture, OptionFuture};
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use trainerd_catalog::Catalog;
use trainerd_cluster::retry::Backoff;
use trainerd_engine::drift_controller::{DriftController, DriftEvent, RecordSeen, RepairMode};
use trainerd_engine::{Cancel, Engine, RunOptions, RunPolicy, State};
use trainerd_juju::desired::Intent;
use trainerd_plan::desired::Desired;
use trainerd_plan::object::ObjectKey;

use self::blocked::{Blocked, Stop, blocked};
pub(crate) use self::command::Command;
use self::command::run_command;
pub(crate) use self::operation::Operation;
use self::ownership::{Ownership, is_news};
use self::retry::Retrying;
use self::rights::Rights;
use self::show::revisions;
use super::declared::Declared;
use super::hosting::HostedReconciler;
use super::operations::OperationHandle;
use super::recorder::Recorder;
use super::status_store::{Phase, StatusStore};
use crate::options::declared::{OptionsSpec, Source};
use crate::problem::PENDING_DELETION;
use crate::target::resolve;
use crate::written::Written;

/// What triggers something between passes.
enum Trigger {
    DriftEvent(Box<DriftEvent>),
    Command(Command),
    /// Whether rights are missing.
    Rights(bool),
    /// A pass is due: other options, or the time has come.
    Due,
    Shutdown,
}

/// Why the drift controller ended.
enum Wake {
    /// A new pass is due.
    Pass,
    /// The process is to end.
    Shutdown,
}

/// Parameters of the controller.
pub(crate) struct Config {
    /// The installation.
    pub(crate) engine: Engine,
    /// Where its options are declared, and what is declared.
    pub(crate) source: Source,
    pub(crate) declared: watch::Receiver<Declared>,
    /// Commands of users.
    pub(crate) commands: mpsc::Receiver<Command>,
    /// The status and the event recorder.
    pub(crate) status: StatusStore,
    pub(crate) recorder: Recorder,
    /// Whether to claim the options from another source.
    pub(crate) force_ownership: bool,
    /// Receives the parameters of a hosted reconciler.
    pub(crate) hosting: watch::Sender<Option<HostedReconciler>>,
    /// Turns true at shutdown.
    pub(crate) shutdown: Cancel,
}

/// Reconciles an installation with its options.
pub(crate) struct InstallationController {
    engine: Arc<Engine>,
    source: Source,
    declared: watch::Receiver<Declared>,
    commands: mpsc::Receiver<Command>,
    /// Commands that wait for the API server; neither a plan nor the drift controller waits for them.
    commands_running: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    status: StatusStore,
    recorder: Recorder,
    hosting: watch::Sender<Option<HostedReconciler>>,
    shutdown: Cancel,
    drift_controller: DriftController,
    state: Option<State>,
    /// Why the current revision has to be repaired by a plan, and who asked for it.
    repair: Option<String>,
    asked_by: Option<String>,
    blocked: Option<Blocked>,
    /// The operation for the next pass.
    operation: Option<(Operation, OperationHandle)>,
    /// The objects written since then.
    written: Arc<Mutex<Written<ObjectKey>>>,
    standby: bool,
    ownership: Ownership,
    retrying: Retrying,
    rights: Rights,
    /// State of the drift controller between passes.
    mode: RepairMode,
    /// The installation was removed while paused: it is not restored until the options change or the daemon restarts.
    removed: bool,
    /// Waits between tries that are blocked; between plans that repair.
    soon: Backoff,
    late: Backoff,
}

impl InstallationController {
    /// A controller without any observations.
    pub(crate) fn new(config: Config) -> Self {
        let Config {
            engine,
            source,
            declared,
            commands,
            status,
            recorder,
            force_ownership,
            hosting,
            shutdown,
        } = config;
        Self {
            drift_controller: DriftController::new(&engine),
            engine: Arc::new(engine),
            source,
            declared,
            commands,
            commands_running: FuturesUnordered::new(),
            status,
            recorder,
            hosting,
            shutdown,
            state: None,
            repair: None,
            asked_by: None,
            blocked: None,
            operation: None,
            written: Arc::default(),
            standby: false,
            ownership: Ownership::new(force_ownership),
            retrying: Retrying::default(),
            rights: Rights::default(),
            mode: RepairMode::Suspended,
            removed: false,
            soon: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            late: Backoff::new(Duration::from_mins(1), Duration::from_mins(10)),
        }
    }

    /// Runs until shutdown.
    pub(crate) async fn run(mut self) {
        loop {
            let started = Instant::now();
            let ended = Box::pin(self.pass()).await;
            self.recorder.pass(started.elapsed(), ended.is_ok());
            self.answer(&ended);
            let again = match ended {
                Ok(()) => {
                    self.soon.reset();
                    self.late.reset();
                    if let Some(blocked) = self.blocked.take() {
                        self.recorder.overcome(blocked.phase, self.declared.borrow().uid());
                    }
                    None
                }
                Err(Stop::Shutdown) => break,
                Err(Stop::Requeue) => continue,
                Err(Stop::Blocked(blocked)) => {
                    self.recorder.blocked(blocked.phase, &blocked.problem, self.declared.borrow().uid());
                    let again = blocked.again;
                    self.blocked = Some(*blocked);
                    again
                }
            };
            self.show();
            if self.operation.is_some() {
                continue;
            }
            match self.watch(again.map(|after| Instant::now() + after)).await {
                Wake::Pass => {}
                Wake::Shutdown => break,
            }
        }
        self.drift_controller.step_aside().await;
    }

    /// Reconciles the installation with the declared options.
    async fn pass(&mut self) -> Result<(), Stop> {
        self.standby = self.declared.borrow().is_standby();
        self.recorder.set_standby(self.standby);
        self.claim_lease().await?;
        self.drift_controller.step_aside().await;
        let engine = Arc::clone(&self.engine);
        let state = match self.aside(engine.open_damaged()).await? {
            Ok(state) => state,
            Err(error) => {
                // No options are declared: the installed revision is kept.
                self.drift_controller.go_on(self.mode);
                return Err(self.stopped(error));
            }
        };
        let was_paused = self.is_paused();
        let journal = self.state.as_ref().and_then(State::journal);
        let was_going = journal.is_some_and(|journal| journal.extent.is_some());
        self.take(state);
        self.removed = self.is_gone()
            && (was_paused || was_going || self.removed)
            && !self.declared.has_changed().unwrap_or(false);
        let answer = Box::pin(self.reconcile()).await;
        let resumed = self.resume_drift_controller();
        // The next pass reads everything again; until then the memory is released.
        self.state = self.state.take().map(State::without_objects);
        self.engine.forget().await;
        resumed.and(answer)
    }

    async fn reconcile(&mut self) -> Result<(), Stop> {
        let declared = self.declared.borrow_and_update().clone();
        self.standby = declared.is_standby();
        self.ownership.begin();
        let now = declared.generation().map(str::to_owned);
        self.status.write(|view| (view.declared, view.newer) = (now, None));
        if let (true, Declared::Options(spec)) = (self.standby, &declared) {
            self.status.write(|view| view.generation = Some(spec.generation.clone()));
        }
        if self.standby || self.removed || self.is_paused() {
            return Ok(());
        }
        self.status.write(|view| view.staged = None);
        if let Some((Operation::Reconcile { .. }, _)) = &self.operation {
            self.repair = Some("somebody asked for it".to_owned());
        }
        if let Declared::Options(spec) = &declared {
            crate::log::set_level(spec.log_level());
        }
        if let Declared::Options(spec) = &declared
            && spec.intent == Intent::Remove
        {
            return Box::pin(self.remove(spec)).await;
        }
        self.with_rights().await?;
        Box::pin(self.repair_records()).await?;
        self.claim().await?;
        match self.operation {
            Some((Operation::Rollback { to, allow_lossy }, _)) => self.roll_back(to, allow_lossy).await?,
            _ => Box::pin(self.recover(&declared)).await?,
        }
        let applied = match declared {
            Declared::Nothing => Ok(()),
            Declared::Options(spec) => self.apply_options(spec).await,
            Declared::Unreadable(problem) => Err(blocked(Phase::Invalid, problem, None)),
        };
        // The installed revision is kept, whatever happens to the declared options.
        if let Some(why) = self.repair.clone() {
            tracing::info!(why, "repairing the installation by a plan");
            self.repair_now().await?;
            self.repair = None;
        }
        applied
    }

    /// Finishes an interrupted plan, unless the options have changed.
    async fn recover(&mut self, declared: &Declared) -> Result<(), Stop> {
        let Some(state) = self.state.clone().filter(|state| state.journal().is_some()) else { return Ok(()) };
        let engine = Arc::clone(&self.engine);
        if let Some((state, prepared)) = self.newer(&state, declared).await? {
            tracing::info!("newer options replace the plan that was interrupted");
            let asked_by = match declared {
                Declared::Options(spec) => spec.asked_by.clone(),
                Declared::Nothing | Declared::Unreadable(_) => None,
            };
            let supersede = async move |options: &mut RunOptions<'_>| {
                Box::pin(engine.supersede(state, prepared, options)).await
            };
            return self.drive(asked_by, supersede).await;
        }
        let recover =
            async move |options: &mut RunOptions<'_>| Box::pin(engine.recover(state, options)).await;
        self.drive(None, recover).await
    }

    /// Plans and runs the upgrade path to the declared options, step by step.
    async fn apply_options(&mut self, spec: OptionsSpec) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        // The catalog is loaded when needed, which is rare.
        let catalog = match Catalog::builtin() {
            Ok(catalog) => catalog,
            Err(error) => return Err(self.unwanted(error.into())),
        };
        loop {
            let Some(state) = self.state.clone() else { return Ok(()) };
            let wanted = match resolve(&catalog, &engine, &state, &spec.given).await {
                Ok(wanted) => wanted,
                Err(problem) => return Err(self.unwanted(problem)),
            };
            let current = state.current.as_ref();
            let same = current.is_some_and(|current| current.desired.is_rendered_like(&wanted.desired));
            let deployed = current.is_some_and(|current| state.is_deployed(current.header.number));
            if same && deployed {
                self.status.write(|view| view.generation = Some(spec.generation.clone()));
                return Ok(());
            }
            if !same {
                self.check_failed(&state, &wanted)?;
            }
            if self.is_staged(&state, &wanted) {
                let version = version(&wanted.desired);
                self.status.write(|view| {
                    (view.staged, view.generation) = (version, Some(spec.generation.clone()));
                });
                return Ok(());
            }
            // Started before the plan, which may wait for it; stopped after the plan.
            if let Some(reconciler) = HostedReconciler::of(&wanted.desired) {
                self.host(Some(reconciler));
            }
            let policy = RunPolicy::of(&wanted.desired.options);
            let is_stop = wanted.is_stop;
            let heading = version(&wanted.desired);
            self.status.write(|view| view.heading = heading);
            let prepared = engine.prepare(&state, wanted.desired, wanted.purpose, self.allowed());
            let prepared = match self.aside(prepared).await? {
                Ok(prepared) => prepared,
                Err(error) => return Err(self.stopped(error)),
            };
            if prepared.is_empty() && !is_stop {
                self.status.write(|view| view.generation = Some(spec.generation.clone()));
                return Ok(());
            }
            let running = Arc::clone(&engine);
            let run = self.drive(spec.asked_by.clone(), async move |options: &mut RunOptions<'_>| {
                Box::pin(running.run(state, prepared, options)).await
            });
            run.await.map_err(|stop| stop.retried_by(&policy))?;
            self.claim().await?;
        }
    }

    /// Awaits something until shutdown, or until another daemon is to act.
    async fn aside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let (mut shutdown, mut declared, standby) =
            (self.shutdown.clone(), self.declared.clone(), self.standby);
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|shutdown| *shutdown) => Err(Stop::Shutdown),
            Ok(_) = declared.wait_for(Declared::is_standby), if !standby => Err(Stop::Requeue),
            done = work => Ok(done),
        }
    }

    /// Whether another daemon is to act since this pass began.
    fn is_relieved(&self) -> bool {
        !self.standby && self.declared.borrow().is_standby()
    }

    fn take(&mut self, state: State) {
        let revisions = revisions(&self.engine, &state);
        self.status.write(|view| view.revisions = revisions);
        // While a plan is open, its outcome is uncertain: a running reconciler keeps running.
        if state.journal().is_none() {
            self.host(state.current.as_ref().and_then(|current| HostedReconciler::of(&current.desired)));
        }
        self.rights.follow(&state);
        self.state = Some(state);
    }

    /// Starts or stops the hosted reconciler as the desired state requires.
    fn host(&self, reconciler: Option<HostedReconciler>) {
        self.status.write(|view| view.reconciler_place.is_left_to_daemons = reconciler.is_some());
        self.hosting.send_if_modified(|known| {
            let changed = *known != reconciler;
            *known = reconciler;
            changed
        });
    }

    /// Whether a plan skipped an object whose deletion is pending.
    fn is_deletion_pending(&self) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| blocked.problem.code == PENDING_DELETION)
    }

    fn is_paused(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.control().paused.is_some())
    }

    /// Lets the drift controller follow the current revision.
    fn resume_drift_controller(&mut self) -> Result<(), Stop> {
        let Some(state) = &self.state else { return Ok(()) };
        if state.current.is_none() && state.damage().is_some() {
            // If it cannot be read now, the last state is kept.
            self.drift_controller.go_on(self.mode);
            return Ok(());
        }
        let mode = if state.journal().is_some() {
            RepairMode::Suspended
        } else if self.standby
            || self.ownership.is_held()
            || state.control().paused.is_some()
            || damage::is_uncertain(state)
        {
            RepairMode::Paused
        } else {
            RepairMode::Active
        };
        self.mode = mode;
        match self.drift_controller.set(state, mode) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.stopped(error)),
        }
    }

    /// The time between passes.
    async fn watch(&mut self, mut again: Option<Instant>) -> Wake {
        let mut looking = OptionFuture::from(None);
        loop {
            // The drift controller writes while it is awaited, so events that end it are checked first.
            let trigger = tokio::select! {
                biased;
                _ = self.shutdown.wait_for(|shutdown| *shutdown) => Trigger::Shutdown,
                changed = self.declared.changed() => match changed {
                    Ok(()) => Trigger::Due,
                    // The source of options has ended, and the process ends with it.
                    Err(_) => std::future::pending().await,
                },
                Some(command) = self.commands.recv() => Trigger::Command(command),
                Some(()) = self.commands_running.next(), if !self.commands_running.is_empty() => continue,
                Some(lacking) = &mut looking, if !looking.is_terminated() => Trigger::Rights(lacking),
                () = at(again) => Trigger::Due,
                event = self.drift_controller.next() => Trigger::DriftEvent(Box::new(event)),
            };
            match trigger {
                Trigger::Shutdown => return Wake::Shutdown,
                Trigger::Due => return Wake::Pass,
                // A leader that does not get the lease claims it again.
                Trigger::Command(Command::LookAtRights) if self.is_outranked() => {
                    self.engine.lease_claim().withdraw();
                    return Wake::Pass;
                }
                Trigger::Command(Command::LookAtRights) => {
                    looking = Some(self.look_at_rights().fuse()).into();
                }
                Trigger::Rights(false) => {}
                Trigger::Rights(true) => {
                    self.lacks_rights();
                    return Wake::Pass;
                }
                Trigger::Command(Command::Start { operation, asked_by, handle }) => {
                    self.start_operation(operation, asked_by, handle);
                    return Wake::Pass;
                }
                Trigger::Command(Command::Retry { asked_by, answer }) => {
                    let has_failed = self.has_failed();
                    // The client may have gone.
                    let _ = answer.send(Ok(has_failed));
                    if has_failed {
                        self.recorder.command("Retrying", asked_by.as_deref());
                        self.retrying.ask();
                        return Wake::Pass;
                    }
                }
                Trigger::Command(command) => {
                    self.commands_running.push(Box::pin(run_command(
                        Arc::clone(&self.engine),
                        self.recorder.clone(),
                        command,
                    )));
                }
                Trigger::DriftEvent(event) => {
                    self.recorder.drift_event(&event);
                    match *event {
                        // An object that a plan skipped may exist now.
                        DriftEvent::Repaired { .. } | DriftEvent::Gone(_) if self.is_deletion_pending() => {
                            return Wake::Pass;
                        }
                        DriftEvent::Changed
                        | DriftEvent::Drifted(_)
                        | DriftEvent::Repaired { .. }
                        | DriftEvent::Gone(_) => {
                            self.show();
                        }
                        DriftEvent::Record(seen) if self.is_foreign(&seen) => return Wake::Pass,
                        DriftEvent::Paused(paused) if paused != self.is_paused() => return Wake::Pass,
                        DriftEvent::Owner(owner) if is_news(self.state.as_ref(), &owner) => {
                            return Wake::Pass;
                        }
                        DriftEvent::NeedsPlan { why } if self.repair.is_none() => {
                            self.repair = Some(why);
                            let due = Instant::now() + self.soon.next_wait();
                            again = Some(again.map_or(due, |at| at.min(due)));
                        }
                        DriftEvent::Record(_)
                        | DriftEvent::Paused(_)
                        | DriftEvent::Owner(_)
                        | DriftEvent::NeedsPlan { .. } => {}
                    }
                }
            }
        }
    }

    /// Whether another process wrote the record since it was read.
    fn is_foreign(&self, seen: &RecordSeen) -> bool {
        let own = self.state.as_ref().and_then(State::version);
        match (seen, own) {
            (RecordSeen::At(told), Some(own)) => match (told.parse::<u64>(), own.parse::<u64>()) {
                // Events of our own earlier writes may arrive late.
                (Ok(told), Ok(own)) => told > own,
                _ => told != own,
            },
            (RecordSeen::At(_), None) | (RecordSeen::Gone, Some(_)) => true,
            (RecordSeen::Gone, None) => false,
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The version of the trainer.
fn version(desired: &Desired) -> Option<String> {
    Some(desired.components.get("trainer")?.version.to_string())
}
