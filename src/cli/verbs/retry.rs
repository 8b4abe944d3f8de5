//! `retry`: another try of what failed and was rolled back.

use clap::Args;
use trainerd_engine::EngineError;
use trainerd_plan::plan::Purpose;

use super::plan::{GOES_ON, journal_text};
use crate::cli::args::AllowArgs;
use crate::cli::ask::{Risk, confirm};
use crate::cli::context::Context;
use crate::cli::plan_text::{outcome_text, plan_text};
use crate::cli::progress::{Last, Progress};
use crate::problem::Exit;
use crate::problem::Problem;

/// Retry a revision that failed and was rolled back
///
/// A failed revision is not retried automatically (see option retry-failed). Retry it once the cause, such as a
/// registry that was down, is gone. If a daemon reconciles the installation, the daemon retries, and `trainerd status
/// --wait` follows it; otherwise this command does.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd retry                                    retry the same options
  trainerd retry && trainerd status --wait          and wait for the outcome, if a daemon retries")]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    allow: AllowArgs,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &RetryArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let state = context.open_damaged(&engine).await?;
    if let Some(journal) = state.journal() {
        let writer = context.interrupt.or(engine.writer(&state)).await?;
        return Err(Problem::new(Exit::Refused, "plan-open", "a plan is still open")
            .because(journal_text(journal, writer.as_deref()))
            .hint(GOES_ON));
    }
    let Some((number, reason)) = state.record().failed().map(|(number, why)| (number, why.to_owned())) else {
        if state.record().current.is_none() {
            let installation = engine.installation().clone();
            let (name, namespace) = (installation.name, installation.namespace);
            return Err(EngineError::NotInstalled { name, namespace }.into());
        }
        context.printer.note("nothing to retry: the newest revision did not fail");
        return Ok(Exit::Done);
    };
    context.printer.note(&format!("revision {number} failed: {reason}"));
    let progress = Progress::new(&context.printer);
    let sink = |event| progress.event(&event);
    if state.control().owner.is_some() && state.control().paused.is_none() {
        let asked = engine.ask_for_retry(&context.run_options(&sink)).await;
        progress.clear();
        let said = match asked? {
            Some(number) => {
                format!(
                    "requested: the daemon retries revision {number}; `trainerd status --wait` follows it"
                )
            }
            None => "nothing to retry: it was retried in the meantime".to_owned(),
        };
        context.printer.note(&said);
        return Ok(Exit::Done);
    }
    let revision = context.interrupt.or(engine.revision(number)).await?;
    // What it was for is so again, but for a first install, which has left its revision.
    let purpose = match revision.header.purpose {
        Purpose::Install => Purpose::Change,
        purpose => purpose,
    };
    let prepare = engine.prepare(&state, revision.desired, purpose, args.allow.allowed());
    let prepared = context.interrupt.or(prepare).await?;
    context.printer.note(plan_text(&prepared.plan, &context.printer).trim_end());
    context.printer.note(&outcome_text(&prepared));
    confirm(context, "Try again?", Risk::of(args.allow.allowed())).await?;
    let done = engine.run(state, prepared, &mut context.run_options(&sink)).await;
    progress.clear();
    let revision = done?.record().current;
    progress.last(&Last::finished(revision));
    context.printer.note(&format!("everything is ready at revision {}", revision.unwrap_or_default()));
    Ok(Exit::Done)
}
