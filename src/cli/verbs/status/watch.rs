//! `status --watch`: what changes is told by watches; nothing is listed again, and nothing is asked while nothing
//! changes but the daemon, now and then.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use trainerd_engine::upkeep::{News, RecordSeen, RulerSeen, Stance, Upkeep};
use trainerd_engine::{Engine, State};

use super::{Told, look, print};
use crate::cli::context::{Context, ahead};
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;
use crate::cli::word::Ear;

/// Time in which changes are gathered, to be shown together.
const GATHER: Duration = Duration::from_millis(300);
/// Time between two questions to the daemon: what it alone knows, no watch tells.
const ASK: Duration = Duration::from_secs(10);

/// Shows the status, and again whenever it changes, until interrupted.
pub(super) async fn watch(context: &Context, engine: &Engine, ear: &mut Ear) -> Result<Exit, Problem> {
    // The first look lists, and says what stands in the way of one.
    let mut last = of_installation(context, engine, ear).await?;
    print(&context.printer, &last, true)?;
    let mut upkeep = Upkeep::new(engine);
    loop {
        let state = context.open(engine).await?;
        let state = context.interrupt.or(ahead(engine, state)).await?;
        if state.current.is_none() {
            // It was removed meanwhile: as a look says it.
            last = of_installation(context, engine, ear).await?;
            print(&context.printer, &last, true)?;
        }
        let stance = if state.journal().is_some() { Stance::Aside } else { Stance::Paused };
        upkeep.set(&state, stance)?;
        follow(context, engine, ear, (&mut upkeep, &state), &mut last).await?;
    }
}

/// A look without the TrainJobs: they would have to be listed again and again to be told.
async fn of_installation(context: &Context, engine: &Engine, ear: &mut Ear) -> Result<Told, Problem> {
    Ok(Told { train_jobs: None, ..look(context, engine, ear).await? })
}

/// Follows the installation until its record, or who has the say, is another than was read.
async fn follow(
    context: &Context,
    engine: &Engine,
    ear: &mut Ear,
    (upkeep, state): (&mut Upkeep, &State),
    last: &mut Told,
) -> Result<(), Problem> {
    let mut due = Instant::now() + GATHER;
    let mut troubles = Vec::new();
    loop {
        let next = async {
            tokio::select! {
                news = upkeep.next() => Ok::<_, Problem>(Some(news)),
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
        let now = upkeep.troubles();
        if now != troubles {
            for (kind, why) in &now {
                context.printer.note(&format!("failed to watch {kind}: {why}; it is tried again"));
            }
            troubles = now;
        }
        if !upkeep.is_observed() {
            continue;
        }
        let heard = async { Ok::<_, Problem>(ear.listen(engine, state).await) };
        let daemon = context.interrupt.or(heard).await?;
        let Some(outlook) = upkeep.outlook() else { continue };
        let told = Told { status: outlook.status, daemon, train_jobs: None };
        if told != *last {
            print(&context.printer, &told, true)?;
            *last = told;
        }
    }
}

/// Whether a watch tells of another account than was read.
fn is_other(state: &State, news: &News) -> bool {
    let ruler = state.standing().ruler.as_ref().map(|ruler| ruler.uid.as_str());
    match news {
        News::Record(RecordSeen::At(version)) => state.version() != Some(version),
        News::Record(RecordSeen::Gone) => state.version().is_some(),
        News::Paused(paused) => *paused != state.standing().paused.is_some(),
        News::Ruled(RulerSeen::Is(uid)) => ruler != Some(uid),
        News::Ruled(RulerSeen::Gone(uid)) => ruler == Some(uid),
        News::Ruled(RulerSeen::Nobody) => ruler.is_some(),
        _ => false,
    }
}
