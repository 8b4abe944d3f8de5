//! `pause` and `resume`: the daemon's hand off the cluster, and on it again.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;

/// Take the daemon's hand off the installation
///
/// A daemon that runs, now or later, changes nothing until `resume`: it still observes and reports. A plan under way
/// stops in good order and is finished after `resume`. Meanwhile the command line may change the installation.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd pause                                    hands off
  trainerd status                                   says so, and by whom
  trainerd resume                                   go on")]
pub(crate) struct PauseArgs {}

/// Let the daemon go on after `pause`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd resume                                   what was broken off is finished, drift is put right")]
pub(crate) struct ResumeArgs {}

/// Runs `pause`.
pub(crate) async fn pause(context: &Context, _: &PauseArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let said = if context.interrupt.or(engine.pause(None)).await? {
        "paused: no daemon changes this installation until `trainerd resume`"
    } else {
        "paused already"
    };
    context.printer.note(said);
    Ok(Exit::Done)
}

/// Runs `resume`.
pub(crate) async fn resume(context: &Context, _: &ResumeArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let said = if context.interrupt.or(engine.resume()).await? {
        "resumed: a daemon may change this installation again"
    } else {
        "not paused"
    };
    context.printer.note(said);
    Ok(Exit::Done)
}
