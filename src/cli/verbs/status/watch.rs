//! `status --watch`: what changes is told by watches; nothing is listed again, and nothing is asked while nothing
//! changes but the daemon, now and then.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use trainerd_engine::drift_controller::{DriftController, News, OwnerSeen, RecordSeen, RepairMode};
use trainerd_engine::{Engine, State};

use super::{StatusReport, look, print};
use crate::cli::context::{Context, ahead};
use crate::cli::daemon_status::DaemonProbe;
use crate::problem::Exit;
use crate::problem::Problem;

/// Time in which changes are gathered, to be shown together.
const GATHER: Duration = Duration::from_millis(300);
/// Time between two questions to the daemon: what it alone knows, no watch tells.
const ASK: Duration = Duration::from_secs(10);

/// Shows the status, and again whenever it changes, until interrupted.
pub(super) async fn watch(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
) -> Result<Exit, Problem> {
    // The first look lists, and says what stands in the way of one.
    let mut last = of_installation(context, engine, daemon_probe).await?;
    print(&context.printer, &last, true)?;
    let mut drift_controller = DriftController::new(engine);
    loop {
        let state = context.open(engine).await?;
        let state = context.interrupt.or(ahead(engine, state)).await?;
        if state.current.is_none() {
            // It was removed meanwhile: as a look says it.
            last = of_installation(context, engine, daemon_probe).await?;
            print(&context.printer, &last, true)?;
        }
        let mode = if state.journal().is_some() { RepairMode::Suspended } else { RepairMode::Paused };
        drift_controller.set(&state, mode)?;
        follow(context, engine, daemon_probe, (&mut drift_controller, &state), &mut last).await?;
    }
}

/// A look without the TrainJobs: no watch tells of them, and listing them again and again would cost requests while
/// nothing changes.
async fn of_installation(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
) -> Result<StatusReport, Problem> {
    Ok(StatusReport { train_jobs: None, ..look(context, engine, daemon_probe).await? })
}

/// Follows the installation until its record, or who has the say, is another than was read.
async fn follow(
    context: &Context,
    engine: &Engine,
    daemon_probe: &mut DaemonProbe,
    (drift_controller, state): (&mut DriftController, &State),
    last: &mut StatusReport,
) -> Result<(), Problem> {
    let mut due = Instant::now() + GATHER;
    let mut troubles = Vec::new();
    loop {
        let next = async {
            tokio::select! {
                news = drift_controller.next() => Ok::<_, Problem>(Some(news)),
                () = sleep_until(due) => Ok(None),
            }
        };
        if let Some(news) = context.interrupt.or(next).await? {
            if is_other(state, &news) {
                return Ok(());
            }
            due = due.min(Instant::now() + GATHER);
            continue;
        }
        due = Instant::now() + ASK;
        let now = drift_controller.troubles();
        if now != troubles {
            for (kind, why) in &now {
                context.printer.note(&format!("failed to watch {kind}: {why}; it is tried again"));
            }
            troubles = now;
        }
        if !drift_controller.is_observed() {
            continue;
        }
        let heard = async { Ok::<_, Problem>(daemon_probe.listen(engine, state).await) };
        let daemon = context.interrupt.or(heard).await?;
        let Some(outlook) = drift_controller.snapshot() else { continue };
        let report = StatusReport { status: outlook.status, daemon, train_jobs: None };
        if report != *last {
            print(&context.printer, &report, true)?;
            *last = report;
        }
    }
}

/// Whether a watch tells of another account than was read.
fn is_other(state: &State, news: &News) -> bool {
    let owner = state.control().owner.as_ref().map(|owner| owner.uid.as_str());
    match news {
        News::Record(RecordSeen::At(version)) => state.version() != Some(version),
        News::Record(RecordSeen::Gone) => state.version().is_some(),
        News::Paused(paused) => *paused != state.control().paused.is_some(),
        News::Owner(OwnerSeen::Is(uid)) => owner != Some(uid),
        News::Owner(OwnerSeen::Gone(uid)) => owner == Some(uid),
        News::Owner(OwnerSeen::Nobody) => owner.is_some(),
        _ => false,
    }
}
