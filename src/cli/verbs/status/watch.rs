//! `status --watch`: what changes is told by watches; nothing is listed again, and nothing is asked while nothing
//! changes but the daemon, now and then.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use trainerd_causes::one_line;
use trainerd_engine::drift_controller::{DriftController, DriftEvent, OwnerSeen, RecordSeen, RepairMode};
use trainerd_engine::{Engine, State};

use super::{StatusReport, look, print};
use crate::cli::context::{Context, ahead};
use crate::cli::daemon_status::DaemonProbe;
use crate::problem::Exit;
use crate::problem::Problem;
use crate::training::{Change, TrainJobs, Watched};

/// Time in which changes are gathered, to be shown together.
const GATHER: Duration = Duration::from_millis(300);
/// Time in which changes of TrainJobs are gathered: trainings report how far they are again and again.
const GATHER_TRAIN_JOBS: Duration = Duration::from_secs(2);
/// Interval of requests to the daemon, for what no watch shows.
const ASK: Duration = Duration::from_secs(10);

/// Shows the status, and again whenever it changes, until interrupted.
pub(super) async fn watch(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
) -> Result<Exit, Problem> {
    // The first look lists, and says what stands in the way of one.
    let mut last = look(context, engine, daemon_probe).await?;
    print(&context.printer, &last, true)?;
    let mut drift_controller = DriftController::new(engine);
    let mut train_jobs = WatchedTrainJobs::new(context, engine);
    loop {
        let state = context.open(engine).await?;
        let state = context.interrupt.or(ahead(engine, state)).await?;
        if state.current.is_none() {
            // It was removed meanwhile: as a look says it.
            last = look(context, engine, daemon_probe).await?;
            print(&context.printer, &last, true)?;
        }
        let mode = if state.journal().is_some() { RepairMode::Suspended } else { RepairMode::Paused };
        drift_controller.set(&state, mode)?;
        let observed = (&mut drift_controller, &mut train_jobs);
        follow(context, engine, daemon_probe, observed, &state, &mut last).await?;
    }
}

/// The TrainJobs, for as long as they can be watched.
struct WatchedTrainJobs<'a> {
    context: &'a Context,
    watched: Option<Watched>,
    /// Why the watch is interrupted, as reported.
    trouble: String,
}

impl<'a> WatchedTrainJobs<'a> {
    fn new(context: &'a Context, engine: &Engine) -> Self {
        Self { context, watched: Some(Watched::new(engine.cluster())), trouble: String::new() }
    }

    /// Waits until they change; for ever where they cannot be watched, which is said once.
    async fn changed(&mut self) {
        while let Some(watched) = &mut self.watched {
            match watched.changed().await {
                Change::Updated => {
                    self.trouble.clear();
                    return;
                }
                Change::Interrupted(error) => {
                    let why = one_line(&error);
                    if why != self.trouble {
                        self.context.printer.note(&format!("failed to watch TrainJobs: {why}; retrying"));
                        self.trouble = why;
                    }
                }
                Change::Impossible(error) => {
                    self.context.printer.note(&format!("TrainJobs are not shown: {}", one_line(&error)));
                    self.watched = None;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    /// How they are: as they were listed until all was seen.
    fn now(&self, listed: Option<&TrainJobs>) -> Option<TrainJobs> {
        self.watched.as_ref()?.now().or_else(|| listed.cloned())
    }
}

/// Follows the installation until its record, or who has the say, is another than was read.
async fn follow(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
    (drift_controller, train_jobs): (&mut DriftController, &mut WatchedTrainJobs<'_>),
    state: &State,
    last: &mut StatusReport,
) -> Result<(), Problem> {
    // When the daemon is asked, and when what changed is shown.
    let mut ask = Instant::now() + GATHER;
    let mut due = ask;
    let mut daemon = last.daemon.clone();
    let mut troubles = Vec::new();
    loop {
        let next = async {
            tokio::select! {
                event = drift_controller.next() => Ok::<_, Problem>(Some(Seen::Installation(Box::new(event)))),
                () = train_jobs.changed() => Ok(Some(Seen::TrainJobs)),
                () = sleep_until(due.min(ask)) => Ok(None),
            }
        };
        match context.interrupt.or(next).await? {
            Some(Seen::Installation(event)) if is_other(state, &event) => return Ok(()),
            Some(Seen::Installation(_)) => {
                ask = ask.min(Instant::now() + GATHER);
                continue;
            }
            Some(Seen::TrainJobs) => {
                due = due.min(Instant::now() + GATHER_TRAIN_JOBS);
                continue;
            }
            None => {}
        }
        let now = drift_controller.troubles();
        if now != troubles {
            for (kind, why) in &now {
                context.printer.note(&format!("failed to watch {kind}: {why}; retrying"));
            }
            troubles = now;
        }
        let is_asked = ask <= Instant::now();
        if is_asked {
            ask = Instant::now() + ASK;
        }
        due = ask;
        if !drift_controller.is_observed() {
            continue;
        }
        if is_asked {
            let heard = async { Ok::<_, Problem>(daemon_probe.listen(engine, state).await) };
            daemon = context.interrupt.or(heard).await?;
        }
        let Some(outlook) = drift_controller.snapshot() else { continue };
        let train_jobs = train_jobs.now(last.train_jobs.as_ref());
        let report = StatusReport { status: outlook.status, daemon: daemon.clone(), train_jobs };
        if report != *last {
            print(&context.printer, &report, true)?;
            *last = report;
        }
    }
}

/// What a watch reported.
enum Seen {
    Installation(Box<DriftEvent>),
    TrainJobs,
}

/// Whether a watch reports another record than was read.
fn is_other(state: &State, event: &DriftEvent) -> bool {
    let owner = state.control().owner.as_ref().map(|owner| owner.uid.as_str());
    match event {
        DriftEvent::Record(RecordSeen::At(version)) => state.version() != Some(version),
        DriftEvent::Record(RecordSeen::Gone) => state.version().is_some(),
        DriftEvent::Paused(paused) => *paused != state.control().paused.is_some(),
        DriftEvent::Owner(OwnerSeen::Is(uid)) => owner != Some(uid),
        DriftEvent::Owner(OwnerSeen::Gone(uid)) => owner == Some(uid),
        DriftEvent::Owner(OwnerSeen::Nobody) => owner.is_some(),
        _ => false,
    }
}
