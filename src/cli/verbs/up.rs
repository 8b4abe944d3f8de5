//! `up`: install, or bring to what the options want.

use clap::Args;
use trainerd_catalog::Catalog;

use super::plan;
use crate::cli::args::{AllowArgs, OptionArgs};
use crate::cli::change::{Change, change};
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::Problem;
use crate::target::resolve;

/// Install the stack, or change it to match the options
///
/// Shows the plan, asks for confirmation (on a terminal, without --yes), applies it and waits until everything is ready.
/// An interrupted plan is finished first. If an upgrade fails and is rolled back (option auto-rollback), the exit code
/// is 1.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd up                                       install with the default options
  trainerd up --yes --timeout 10m                   without asking, for at most 10 minutes
  trainerd up --config options.yaml --set settle=0  options from a file, and one more
  trainerd up --dry-run                             only show the plan
  trainerd up --yes -o json                         progress as JSON, one event per line")]
pub(crate) struct UpArgs {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,

    /// As a daemon does by itself: nothing while it is paused, or where the change waits for a person
    #[arg(long, hide = true)]
    unasked: bool,

    #[command(flatten)]
    options: OptionArgs,

    #[command(flatten)]
    allow: AllowArgs,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &UpArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    let given = args.options.given(&catalog)?.allowing_unknown_version(args.allow.unknown_version());
    // Invalid options are reported before connecting to the cluster.
    given.parse(&catalog)?;
    let engine = context.engine().await?;
    let asked = Change { allow: args.allow.allowed(), show_way: false, unasked: args.unasked };
    let target = async |state: &_| resolve(&catalog, &engine, state, &given).await;
    if args.dry_run {
        return plan::show(context, &engine, asked, target).await.map(|_| Exit::Done);
    }
    change(context, &engine, asked, target).await
}
