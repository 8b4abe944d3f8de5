//! The loop: whatever wakes it, a pass reads the facts and decides again; between passes the upkeep goes on.

mod asked;
mod command;
mod damage;
mod obstacle;
mod removal;
mod retry;
mod ruling;
mod run;
mod show;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use trainerd_catalog::Catalog;
use trainerd_cluster::retry::Backoff;
use trainerd_engine::upkeep::{News, RecordSeen, Stance, Upkeep};
use trainerd_engine::{Cancel, Engine, RunOptions, State, Terms};
use trainerd_juju::desired::Intent;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Desired;
use trainerd_plan::plan::Purpose;

pub(crate) use self::asked::Asked;
pub(crate) use self::command::Command;
use self::command::obey;
use self::obstacle::{Obstacle, Stop, obstacle};
pub(crate) use self::removal::stays;
use self::retry::Retrying;
use self::ruling::{Ruling, is_news};
use self::show::revisions;
use super::board::{Board, Phase};
use super::declared::{Declared, Source, Wish};
use super::operations::Ticket;
use super::recorder::Recorder;
use crate::cli::errors::HELD;
use crate::cli::want::want;

/// What happened between passes.
enum Happened {
    News(Box<News>),
    Command(Command),
    /// A pass is due: other options, or the time has come.
    Due,
    Asked,
}

/// Why the upkeep ended.
enum Wake {
    /// A new pass is due.
    Pass,
    /// The process shall end.
    Asked,
}

/// What a keeper is given.
pub(crate) struct Charge {
    /// The installation.
    pub(crate) engine: Engine,
    /// Where its options are declared, and what is declared.
    pub(crate) source: Source,
    pub(crate) declared: watch::Receiver<Declared>,
    /// What people ask for.
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Where to write down what is known, and what happened.
    pub(crate) board: Board,
    pub(crate) recorder: Recorder,
    /// Whether this source shall rule in the place of another one.
    pub(crate) take_over: bool,
    /// Turns true when the process shall end.
    pub(crate) asked: Cancel,
}

/// Keeps an installation as its options say.
pub(crate) struct Keeper {
    engine: Arc<Engine>,
    source: Source,
    declared: watch::Receiver<Declared>,
    commands: mpsc::Receiver<Command>,
    /// What people asked for and the API server has not answered yet: neither a plan nor the upkeep waits for it.
    obeyed: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    board: Board,
    recorder: Recorder,
    asked: Cancel,
    upkeep: Upkeep,
    state: Option<State>,
    /// Why the current revision has to be put right by a plan, and who asked for it.
    mend: Option<String>,
    asked_by: Option<String>,
    obstacle: Option<Obstacle>,
    /// What people asked for, and the next pass does.
    asked_for: Option<(Asked, Ticket)>,
    standby: bool,
    ruling: Ruling,
    retrying: Retrying,
    /// How the upkeep goes on between passes.
    stance: Stance,
    /// It was removed while paused: nobody wants it back before the options change or the daemon starts anew.
    removed: bool,
    /// Waits between tries that meet an obstacle; between plans that mend.
    soon: Backoff,
    late: Backoff,
}

impl Keeper {
    /// A keeper with nothing seen yet.
    pub(crate) fn new(charge: Charge) -> Self {
        let Charge { engine, source, declared, commands, board, recorder, take_over, asked } = charge;
        Self {
            upkeep: Upkeep::new(&engine),
            engine: Arc::new(engine),
            source,
            declared,
            commands,
            obeyed: FuturesUnordered::new(),
            board,
            recorder,
            asked,
            state: None,
            mend: None,
            asked_by: None,
            obstacle: None,
            asked_for: None,
            standby: false,
            ruling: Ruling::new(take_over),
            retrying: Retrying::default(),
            stance: Stance::Aside,
            removed: false,
            soon: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            late: Backoff::new(Duration::from_mins(1), Duration::from_mins(10)),
        }
    }

    /// Goes on until the process is asked to end.
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
                    if let Some(obstacle) = self.obstacle.take() {
                        self.recorder.overcome(obstacle.phase, self.declared.borrow().uid());
                    }
                    None
                }
                Err(Stop::Asked) => break,
                Err(Stop::Anew) => continue,
                Err(Stop::Obstacle(obstacle)) => {
                    self.recorder.obstacle(obstacle.phase, &obstacle.problem, self.declared.borrow().uid());
                    let again = obstacle.again;
                    self.obstacle = Some(*obstacle);
                    again
                }
            };
            self.show();
            if self.asked_for.is_some() {
                continue;
            }
            match self.keep(again.map(|after| Instant::now() + after)).await {
                Wake::Pass => {}
                Wake::Asked => break,
            }
        }
        self.upkeep.step_aside().await;
    }

    /// Brings the installation to what is declared, as far as that differs from what it is.
    async fn pass(&mut self) -> Result<(), Stop> {
        self.standby = self.declared.borrow().is_standby();
        self.recorder.set_standby(self.standby);
        self.upkeep.step_aside().await;
        let engine = Arc::clone(&self.engine);
        let state = match self.aside(engine.open_damaged()).await? {
            Ok(state) => state,
            Err(error) => {
                // Nothing new is known: what is installed is kept as before.
                self.upkeep.go_on(self.stance);
                return Err(self.stopped(error));
            }
        };
        let was_paused = self.is_paused();
        let journal = self.state.as_ref().and_then(State::journal);
        let was_going = journal.is_some_and(|journal| journal.extent.is_some());
        self.take(state);
        let is_gone =
            self.state.as_ref().is_none_or(|state| state.version().is_none() && state.damage().is_none());
        self.removed = is_gone
            && (was_paused || was_going || self.removed)
            && !self.declared.has_changed().unwrap_or(false);
        let answer = Box::pin(self.bring()).await;
        let resumed = self.resume_upkeep();
        // A pass begins with reading it all anew: until then the room is better spent.
        self.state = self.state.take().map(State::without_objects);
        self.engine.forget().await;
        resumed.and(answer)
    }

    async fn bring(&mut self) -> Result<(), Stop> {
        let declared = self.declared.borrow_and_update().clone();
        self.standby = declared.is_standby();
        self.ruling.begin();
        let now = declared.generation().map(str::to_owned);
        self.board.write(|view| (view.declared, view.newer) = (now, None));
        if let (true, Declared::Options(wish)) = (self.standby, &declared) {
            self.board.write(|view| view.generation = Some(wish.generation.clone()));
        }
        if self.standby || self.removed || self.is_paused() {
            return Ok(());
        }
        self.board.write(|view| view.staged = None);
        if let Declared::Options(wish) = &declared {
            crate::log::set_level(wish.log_level());
        }
        if let Declared::Options(wish) = &declared
            && wish.intent == Intent::Remove
        {
            return Box::pin(self.take_away(wish)).await;
        }
        Box::pin(self.heal()).await?;
        self.rule().await?;
        match self.asked_for {
            Some((Asked::Rollback { to, allow_lossy }, _)) => self.go_back(to, allow_lossy).await?,
            _ => Box::pin(self.recover(&declared)).await?,
        }
        let fulfilled = match declared {
            Declared::Nothing => Ok(()),
            Declared::Options(wish) => self.fulfil(wish).await,
            Declared::Unreadable(problem) => Err(obstacle(Phase::Invalid, problem, None)),
        };
        // What is installed is kept, whatever became of what is wished for.
        if let Some(why) = self.mend.clone() {
            tracing::info!(why, "putting the installation right by a plan");
            self.mend_now().await?;
            self.mend = None;
        }
        fulfilled
    }

    /// Finishes what was broken off, unless something else is wanted by now.
    async fn recover(&mut self, declared: &Declared) -> Result<(), Stop> {
        let Some(state) = self.state.clone().filter(|state| state.journal().is_some()) else { return Ok(()) };
        let engine = Arc::clone(&self.engine);
        if let Some((state, prepared)) = self.newer(&state, declared).await? {
            tracing::info!("newer options replace the plan that was broken off");
            let asked_by = match declared {
                Declared::Options(wish) => wish.asked_by.clone(),
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

    /// Plans and runs the way to what is wished, stop by stop.
    async fn fulfil(&mut self, wish: Wish) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        // Read from the binary when it is needed, which is seldom.
        let catalog = match Catalog::builtin() {
            Ok(catalog) => catalog,
            Err(error) => return Err(self.unwanted(error.into())),
        };
        loop {
            let Some(state) = self.state.clone() else { return Ok(()) };
            let wanted = match want(&catalog, &engine, &state, &wish.given).await {
                Ok(wanted) => wanted,
                Err(problem) => return Err(self.unwanted(problem)),
            };
            let current = state.current.as_ref();
            let same = current.is_some_and(|current| current.desired.is_rendered_like(&wanted.desired));
            let deployed = current.is_some_and(|current| state.is_deployed(current.header.number));
            if same && deployed {
                self.board.write(|view| view.generation = Some(wish.generation.clone()));
                return Ok(());
            }
            if !same {
                self.check_failed(&state, &wanted)?;
            }
            if self.is_staged(&state, &wanted) {
                let version = version(&wanted.desired);
                self.board.write(|view| {
                    (view.staged, view.generation) = (version, Some(wish.generation.clone()));
                });
                return Ok(());
            }
            let terms = Terms::of(&wanted.desired.options);
            let is_stop = wanted.is_stop;
            let heading = version(&wanted.desired);
            self.board.write(|view| view.heading = heading);
            let lossy = matches!(self.asked_for, Some((Asked::Upgrade { allow_lossy: true }, _)));
            let allow = Allowed { lossy, ..Allowed::default() };
            let prepared = engine.prepare(&state, wanted.desired, wanted.purpose, allow);
            let prepared = match self.aside(prepared).await? {
                Ok(prepared) => prepared,
                Err(error) => return Err(self.stopped(error)),
            };
            if prepared.is_empty() && !is_stop {
                self.board.write(|view| view.generation = Some(wish.generation.clone()));
                return Ok(());
            }
            let running = Arc::clone(&engine);
            let run = self.drive(wish.asked_by.clone(), async move |options: &mut RunOptions<'_>| {
                Box::pin(running.run(state, prepared, options)).await
            });
            run.await.map_err(|stop| stop.looked_at_again(&terms))?;
            self.rule().await?;
        }
    }

    /// A plan over the current revision: for what one write does not put right.
    async fn mend_now(&mut self) -> Result<(), Stop> {
        let engine = Arc::clone(&self.engine);
        let Some(state) = self.state.clone() else { return Ok(()) };
        let Some(current) = &state.current else { return Ok(()) };
        let desired = Arc::clone(&current.desired);
        let prepared =
            match self.aside(engine.prepare(&state, desired, Purpose::Change, Allowed::default())).await? {
                Ok(prepared) => prepared,
                Err(error) => return Err(self.stopped(error)),
            };
        let asked_by = self.asked_by.take();
        self.drive(asked_by, async move |options: &mut RunOptions<'_>| {
            Box::pin(engine.run(state, prepared, options)).await
        })
        .await
    }

    /// Awaits something, unless the process is asked to end, or it is another daemon's turn to act.
    async fn aside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let (mut asked, mut declared, standby) = (self.asked.clone(), self.declared.clone(), self.standby);
        tokio::select! {
            biased;
            _ = asked.wait_for(|asked| *asked) => Err(Stop::Asked),
            Ok(_) = declared.wait_for(Declared::is_standby), if !standby => Err(Stop::Anew),
            done = work => Ok(done),
        }
    }

    /// Whether it became another daemon's turn to act since this pass began.
    fn is_relieved(&self) -> bool {
        !self.standby && self.declared.borrow().is_standby()
    }

    fn take(&mut self, state: State) {
        let revisions = revisions(&self.engine, &state);
        self.board.write(|view| view.revisions = revisions);
        self.state = Some(state);
    }

    /// Whether a plan has left out what is being deleted and held by that.
    fn is_held(&self) -> bool {
        self.obstacle.as_ref().is_some_and(|obstacle| obstacle.problem.code == HELD)
    }

    fn is_paused(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.standing().paused.is_some())
    }

    /// Lets the upkeep go on at whatever is current.
    fn resume_upkeep(&mut self) -> Result<(), Stop> {
        let Some(state) = &self.state else { return Ok(()) };
        if state.current.is_none() && state.damage().is_some() {
            // What cannot be read now is kept as it was read last.
            self.upkeep.go_on(self.stance);
            return Ok(());
        }
        let stance = if state.journal().is_some() {
            Stance::Aside
        } else if self.standby
            || self.ruling.is_held()
            || state.standing().paused.is_some()
            || damage::is_uncertain(state)
        {
            Stance::Paused
        } else {
            Stance::Active
        };
        self.stance = stance;
        match self.upkeep.set(state, stance) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.stopped(error)),
        }
    }

    /// The time between passes.
    async fn keep(&mut self, mut again: Option<Instant>) -> Wake {
        loop {
            // The upkeep writes while it is awaited: what may end that comes first.
            let happened = tokio::select! {
                biased;
                _ = self.asked.wait_for(|asked| *asked) => Happened::Asked,
                changed = self.declared.changed() => match changed {
                    Ok(()) => Happened::Due,
                    // Whoever declares has ended, and with it the process.
                    Err(_) => std::future::pending().await,
                },
                Some(command) = self.commands.recv() => Happened::Command(command),
                Some(()) = self.obeyed.next(), if !self.obeyed.is_empty() => continue,
                () = at(again) => Happened::Due,
                news = self.upkeep.next() => Happened::News(Box::new(news)),
            };
            match happened {
                Happened::Asked => return Wake::Asked,
                Happened::Due => return Wake::Pass,
                Happened::Command(Command::Ask { asked, asked_by, ticket }) => {
                    if matches!(asked, Asked::Reconcile) {
                        self.recorder.asked("Reconciling", asked_by.as_deref());
                        self.mend = Some("somebody asked for it".to_owned());
                    }
                    self.asked_by = asked_by;
                    self.asked_for = Some((asked, ticket));
                    return Wake::Pass;
                }
                Happened::Command(Command::Retry { asked_by, answer }) => {
                    let has_failed = self.has_failed();
                    // Whoever asked may have gone.
                    let _ = answer.send(Ok(has_failed));
                    if has_failed {
                        self.recorder.asked("Retrying", asked_by.as_deref());
                        self.retrying.ask();
                        return Wake::Pass;
                    }
                }
                Happened::Command(command) => {
                    self.obeyed.push(Box::pin(obey(
                        Arc::clone(&self.engine),
                        self.recorder.clone(),
                        command,
                    )));
                }
                Happened::News(news) => {
                    self.recorder.news(&news);
                    match *news {
                        // What a plan has left out may be there now.
                        News::Repaired { .. } | News::Gone(_) if self.is_held() => return Wake::Pass,
                        News::Changed | News::Drifted(_) | News::Repaired { .. } | News::Gone(_) => {
                            self.show();
                        }
                        News::Record(seen) if self.is_foreign(&seen) => return Wake::Pass,
                        News::Paused(paused) if paused != self.is_paused() => return Wake::Pass,
                        News::Ruled(ruler) if is_news(self.state.as_ref(), &ruler) => return Wake::Pass,
                        News::NeedsPlan { why } if self.mend.is_none() => {
                            self.mend = Some(why);
                            let due = Instant::now() + self.soon.next_wait();
                            again = Some(again.map_or(due, |at| at.min(due)));
                        }
                        News::Record(_) | News::Paused(_) | News::Ruled(_) | News::NeedsPlan { .. } => {}
                    }
                }
            }
        }
    }

    /// Whether the record is one that somebody else wrote since it was read.
    fn is_foreign(&self, seen: &RecordSeen) -> bool {
        let own = self.state.as_ref().and_then(State::version);
        match (seen, own) {
            (RecordSeen::At(told), Some(own)) => match (told.parse::<u64>(), own.parse::<u64>()) {
                // What our own plan wrote before its last write may be told late.
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
