//! `pause` and `resume`: whether daemons reconcile an installation.

use clap::Args;

use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::Problem;

/// Suspend reconciliation by the daemon
///
/// Until `resume`, no daemon changes the installation, even one that is started later: it only observes and reports. A
/// running plan is interrupted and finished after `resume`. In the meantime, the command line may change the
/// installation.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd pause                                    suspend reconciliation
  trainerd pause --reason 'node maintenance'        and say why
  trainerd status                                   shows that it is paused, and by whom
  trainerd resume                                   reconcile again")]
pub(crate) struct PauseArgs {
    /// Why, for those who find it paused
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// Resume reconciliation after `pause`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd resume                                   finish an interrupted plan, repair drift")]
pub(crate) struct ResumeArgs {}

/// Runs `pause`.
pub(crate) async fn pause(context: &Context, args: &PauseArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let said = if context.interrupt.or(engine.pause(args.reason.clone(), None)).await? {
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
