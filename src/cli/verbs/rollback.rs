//! `rollback`: back to an earlier revision.

use clap::Args;
use trainerd_engine::{Engine, EngineError, Prepared, State};

use super::plan::journal_text;
use crate::cli::args::{AllowArgs, revision};
use crate::cli::ask::{Risk, confirm};
use crate::cli::context::{Context, check_owner};
use crate::cli::option_text;
use crate::cli::plan_text::{outcome_text, plan_text};
use crate::cli::progress::{Last, Progress};
use crate::problem::Exit;
use crate::problem::Problem;
use crate::target::changes::{Values, between};

/// Go back to an earlier revision
///
/// Creates a new revision that is equal to the earlier one, from its stored manifests. Replaces an interrupted plan. If CRDs
/// would change, the values of newer fields may be lost; that needs --allow lossy.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd rollback                                 to the revision before the current one
  trainerd rollback --dry-run                       only show the plan
  trainerd rollback 3                               to revision 3 (see `trainerd history`)
  trainerd rollback 3 --allow lossy --yes           even if CRDs change")]
pub(crate) struct RollbackArgs {
    /// The revision to go back to; by default, the one before the current revision
    #[arg(value_name = "REV", value_parser = revision)]
    revision: Option<u64>,

    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    allow: AllowArgs,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &RollbackArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let state = context.open_damaged(&engine).await?;
    if args.dry_run {
        return show(context, &engine, &state, args).await;
    }
    check_owner(context, &state)?;
    let progress = Progress::new(&context.printer);
    let sink = |event| progress.event(&event);
    let allow = args.allow.allowed();
    let done = match state.journal().cloned() {
        None => {
            let prepared =
                context.interrupt.or(engine.prepare_rollback(&state, args.revision, allow)).await?;
            if !prepared.is_empty() {
                let options = options_text(context, &state, &prepared);
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
            confirm(context, "Roll back anyway?", Risk::of(allow)).await?;
            let wanted = args.revision.or(journal.from);
            let done = engine.replace(state, args.revision, allow, &mut context.run_options(&sink)).await;
            arrived(context, &engine, wanted, done).await?
        }
    };
    progress.clear();
    let state = done?;
    let revision = state.record().current;
    progress.last(&Last::finished(revision));
    context.printer.note(&format!("everything is ready at revision {}", revision.unwrap_or_default()));
    Ok(Exit::Done)
}

/// Shows the way back.
async fn show(
    context: &Context,
    engine: &Engine,
    state: &State,
    args: &RollbackArgs,
) -> Result<Exit, Problem> {
    let mut to = args.revision;
    if let Some(journal) = state.journal() {
        let writer = context.interrupt.or(engine.writer(state)).await?;
        let journal_text = journal_text(journal, writer.as_deref());
        context.printer.note(&format!("{journal_text}; rollback replaces it"));
        to = to.or(journal.from);
    }
    let prepare = engine.prepare_rollback(state, to, args.allow.allowed());
    let prepared = context.interrupt.or(prepare).await?;
    context.printer.show(&prepared, || {
        let mut text = options_text(context, state, &prepared);
        text.push_str(&plan_text(&prepared.plan, &context.printer.for_stdout()));
        text.push_str(&outcome_text(&prepared));
        text.push('\n');
        text
    })?;
    Ok(Exit::Done)
}

/// The options that get other values by going back.
fn options_text(context: &Context, state: &State, prepared: &Prepared) -> String {
    let before = state.current.as_ref().map(|current| Values::from(&current.header));
    option_text::text(&between(before, prepared.desired().into()), context.printer.verbosity)
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
