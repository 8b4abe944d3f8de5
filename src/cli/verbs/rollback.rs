//! `rollback`: back to an earlier revision.

use clap::Args;
use trainerd_engine::{Engine, EngineError, State};

use super::plan::journal_text;
use crate::cli::args::{AllowArgs, revision};
use crate::cli::ask::{Risk, confirm};
use crate::cli::context::{Context, check_owner};
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;
use crate::cli::option_changes::{self, Values, between};
use crate::cli::plan_text::{outcome_text, plan_text};
use crate::cli::progress::{Last, Progress};

/// Go back to an earlier revision
///
/// Needs no catalog: a revision holds everything. Going back makes a new revision like the earlier one. A plan that
/// was broken off is replaced. Where CRDs would change, what newer fields hold may be lost: that needs --allow
/// lossy.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd rollback                                 to the revision before the current one
  trainerd rollback 3                               to revision 3 (see `trainerd history`)
  trainerd rollback 3 --allow lossy --yes           also where CRDs change")]
pub(crate) struct RollbackArgs {
    /// The revision to go back to; the one before the current where none is named
    #[arg(value_name = "REV", value_parser = revision)]
    revision: Option<u64>,

    #[command(flatten)]
    allow: AllowArgs,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &RollbackArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let state = context.open_damaged(&engine).await?;
    check_owner(context, &state)?;
    let progress = Progress::new(&context.printer);
    let sink = |event| progress.event(&event);
    let allow = args.allow.allowed();
    let done = match state.journal().cloned() {
        None => {
            let prepared =
                context.interrupt.or(engine.prepare_rollback(&state, args.revision, allow)).await?;
            if !prepared.is_empty() {
                let before = state.current.as_ref().map(|current| Values::from(&current.header));
                let options = between(before, prepared.desired().into());
                let options = option_changes::text(&options, context.printer.verbosity);
                if !options.is_empty() {
                    context.printer.note(options.trim_end());
                }
                context.printer.note(plan_text(&prepared.plan, &context.printer).trim_end());
            }
            context.printer.note(&outcome_text(&prepared));
            if !prepared.is_empty() {
                confirm(context, "Go ahead?", Risk::of(allow)).await?;
            }
            engine.run(state, prepared, &mut context.run_options(&sink)).await
        }
        Some(journal) => {
            let writer = context.interrupt.or(engine.writer(&state)).await?;
            context.printer.note(&journal_text(&journal, writer.as_deref()));
            confirm(context, "Go back all the same?", Risk::of(allow)).await?;
            let wanted = args.revision.or(journal.from);
            let done = engine.replace(state, args.revision, allow, &mut context.run_options(&sink)).await;
            arrived(context, &engine, wanted, done).await?
        }
    };
    progress.clear();
    let state = done?;
    let revision = state.record().current;
    progress.last(&Last::Finished { revision });
    context.printer.note(&format!("everything is ready at revision {}", revision.unwrap_or_default()));
    Ok(Exit::Done)
}

/// A failed plan that was going back already, to where this command wants to go, has done what is asked.
async fn arrived(
    context: &Context,
    engine: &Engine,
    wanted: Option<u64>,
    done: Result<State, EngineError>,
) -> Result<Result<State, EngineError>, Problem> {
    let (Err(EngineError::RolledBack { back, .. }), Some(wanted)) = (&done, wanted) else { return Ok(done) };
    let there = context.interrupt.or(engine.revision(*back)).await?;
    let asked = context.interrupt.or(engine.revision(wanted)).await?;
    if there.header.digest == asked.header.digest { Ok(Ok(context.open(engine).await?)) } else { Ok(done) }
}
