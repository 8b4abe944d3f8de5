//! `export`: the manifests of a revision.

use clap::Args;

use super::render::print;
use crate::cli::args::revision;
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::Problem;

/// Print the manifests of a revision
///
/// Prints the manifests as they were applied; they are stored in the revision.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd export 2 > revision-2.yaml
  trainerd export 2 -o table                        list its objects")]
pub(crate) struct ExportArgs {
    /// The revision
    #[arg(value_name = "REV", value_parser = revision)]
    revision: u64,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let revision = context.interrupt.or(engine.revision(args.revision)).await?;
    print(&context.printer, &revision.desired.objects.iter().collect::<Vec<_>>())?;
    Ok(Exit::Done)
}
