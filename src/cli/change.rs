//! Bringing an installation to what the options want: what `up` and `upgrade` have in common.

use trainerd_engine::{Engine, EngineError, Prepared, State, revision};
use trainerd_juju::status::Reason;
use trainerd_plan::allowed::Allowed;

use super::ask::{Risk, confirm};
use super::context::{Context, check_owner};
use super::option_text::about;
use super::plan_text::{outcome_text, plan_text};
use super::progress::{Last, Progress};
use super::verbs::plan::journal_text;
use crate::problem::Exit;
use crate::problem::Problem;
use crate::target::newer::{Newer, replacement};
use crate::target::{Target, installed};

/// How a command asks for a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// What is allowed that is refused otherwise.
    pub(crate) allow: Allowed,
    /// Whether to print the versions, and why they are these, before the plan.
    pub(crate) show_way: bool,
    /// Nobody asks for it just now: what is paused, or waits for a person, stays as it is.
    pub(crate) unasked: bool,
}

/// A plan of an earlier run that was finished first, and did not end well.
struct Stopped {
    revision: u64,
    error: EngineError,
}

/// Finishes what was interrupted, or replaces it where something else is wanted, plans, shows, asks, runs: until what is wanted, which may start from what is
/// installed, is no stop on the way.
pub(crate) async fn change(
    context: &Context,
    engine: &Engine,
    asked: Change,
    resolve: impl AsyncFn(&State) -> Result<Target, Problem>,
) -> Result<Exit, Problem> {
    Box::pin(change_after(context, engine, asked, resolve, async |_: &Prepared| Ok(()))).await
}

/// As [`change`]; `first` is done when a plan is confirmed, before anything of it is written.
pub(crate) async fn change_after(
    context: &Context,
    engine: &Engine,
    asked: Change,
    resolve: impl AsyncFn(&State) -> Result<Target, Problem>,
    first: impl AsyncFn(&Prepared) -> Result<(), Problem>,
) -> Result<Exit, Problem> {
    let progress = Progress::new(&context.printer);
    let mut state = context.open_damaged(engine).await?;
    check_owner(context, &state)?;
    if asked.unasked && state.control().paused.is_some() {
        let revision = state.record().current.unwrap_or_default();
        return Ok(left(context, &progress, Reason::Paused { revision }));
    }
    let mut stopped = None;
    if state.journal().is_some() {
        let newer = Box::pin(context.interrupt.or(replacement(engine, &state, &resolve))).await?;
        if let Some(newer) = newer {
            state = Box::pin(replace(context, engine, newer, asked, &progress, &first)).await?;
        } else {
            stopped = recover(context, engine, state, &progress).await?;
            state = context.open_damaged(engine).await?;
            // A daemon may have taken over while that continued.
            check_owner(context, &state)?;
        }
    }
    let versions = loop {
        let wanted = context.interrupt.or(resolve(&state)).await?;
        if let Some(Stopped { revision, error }) = stopped.take() {
            // The same again would fail the same way: whoever wants it must change something first.
            let failed = context.interrupt.or(engine.revision(revision)).await?;
            if failed.header.digest == revision::digest(&wanted.desired) {
                return Err(error.into());
            }
            context.printer.note(&format!("{error}; continuing with the options that are given now"));
        }
        if asked.unasked && wanted.is_staged(engine, &state) {
            let version = wanted.resolution.versions().get("trainer").map(ToString::to_string);
            return Ok(left(context, &progress, Reason::Staged { version: version.unwrap_or_default() }));
        }
        if asked.show_way {
            show_way(context, &state, &wanted);
        }
        let is_stop = wanted.is_stop;
        let versions = wanted.resolution.versions();
        state = run(context, engine, state, wanted, asked.allow, &progress, &first).await?;
        if !is_stop {
            break versions;
        }
    };
    let revision = state.record().current;
    let versions =
        versions.into_iter().map(|(component, version)| (component, version.to_string())).collect();
    progress.last(&Last::Finished { revision, versions });
    context.printer.note(&format!("everything is ready at revision {}", revision.unwrap_or_default()));
    Ok(Exit::Done)
}

/// Says that nothing is done before a person says so.
fn left(context: &Context, progress: &Progress, reason: Reason) -> Exit {
    context.printer.note(&format!("nothing is changed: {}", reason.message(&context.cluster.name)));
    progress.last(&Last::Left { reason });
    Exit::Done
}

/// Runs what is wanted in the place of the plan in progress.
async fn replace(
    context: &Context,
    engine: &Engine,
    newer: Newer,
    asked: Change,
    progress: &Progress,
    first: &impl AsyncFn(&Prepared) -> Result<(), Problem>,
) -> Result<State, Problem> {
    let Newer { state, wanted } = newer;
    if let Some(journal) = state.journal() {
        let writer = context.interrupt.or(engine.writer(&state)).await?;
        context.printer.note(&format!("{}; it is replaced", journal_text(journal, writer.as_deref())));
    }
    let prepare = engine.prepare(&state, wanted.desired, wanted.purpose, asked.allow);
    let prepared = context.interrupt.or(prepare).await?;
    context.printer.note(plan_text(&prepared.plan, &context.printer).trim_end());
    confirm(context, "Go ahead?", Risk::of(asked.allow)).await?;
    context.interrupt.or(first(&prepared)).await?;
    let sink = |event| progress.event(&event);
    let done = engine.supersede(state, prepared, &mut context.run_options(&sink)).await;
    progress.clear();
    Ok(done?)
}

/// Finishes the open journal. A plan that fails in doing so has closed it; everything else ends the command.
async fn recover(
    context: &Context,
    engine: &Engine,
    state: State,
    progress: &Progress,
) -> Result<Option<Stopped>, Problem> {
    let sink = |event| progress.event(&event);
    let recovered = engine.recover(state, &mut context.run_options(&sink)).await;
    progress.clear();
    match recovered {
        Ok(_) => Ok(None),
        Err(error @ (EngineError::RolledBack { revision, .. } | EngineError::Failed { revision, .. })) => {
            Ok(Some(Stopped { revision, error }))
        }
        Err(error) => Err(error.into()),
    }
}

async fn run(
    context: &Context,
    engine: &Engine,
    state: State,
    wanted: Target,
    allow: Allowed,
    progress: &Progress,
    first: &impl AsyncFn(&Prepared) -> Result<(), Problem>,
) -> Result<State, Problem> {
    let about = about(&wanted, context.printer.verbosity);
    let prepared =
        context.interrupt.or(engine.prepare(&state, wanted.desired, wanted.purpose, allow)).await?;
    if !prepared.is_empty() {
        if !about.is_empty() {
            context.printer.note(about.trim_end());
        }
        context.printer.note(plan_text(&prepared.plan, &context.printer).trim_end());
    }
    for note in prepared.plan.notes.iter().filter(|_| prepared.is_empty()) {
        context.printer.note(&format!("note: {note}"));
    }
    context.printer.note(&outcome_text(&prepared));
    if !prepared.is_empty() {
        confirm(context, "Go ahead?", Risk::of(allow)).await?;
    }
    context.interrupt.or(first(&prepared)).await?;
    let sink = |event| progress.event(&event);
    let done = engine.run(state, prepared, &mut context.run_options(&sink)).await;
    progress.clear();
    Ok(done?)
}

/// Which versions lead to which, and why.
pub(crate) fn show_way(context: &Context, state: &State, wanted: &Target) {
    let from = installed(state).unwrap_or_default();
    for (component, resolved) in &wanted.resolution.components {
        let to = &resolved.version;
        let line = match from.get(component) {
            Some(old) if old == to => format!("{component} stays at {to}"),
            Some(old) => format!("{component} {old} → {to} ({})", resolved.why),
            None => format!("{component} {to} is new ({})", resolved.why),
        };
        context.printer.note(&line);
    }
    if wanted.is_stop {
        context.printer.note("this is an intermediate step: the upgrade goes through several versions");
    }
}
