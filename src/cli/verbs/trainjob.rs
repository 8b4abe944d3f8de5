//! `trainjob`: what becomes of a TrainJob, without a cluster.

mod facts;
mod manifests;
mod render;

use clap::{Args, Subcommand};

use crate::cli::context::Context;
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;

/// Show what becomes of a TrainJob, without a cluster
#[derive(Clone, Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct TrainJobArgs {
    #[command(subcommand)]
    verb: TrainJobVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum TrainJobVerb {
    Render(render::RenderArgs),
    Validate(render::ValidateArgs),
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &TrainJobArgs) -> Result<Exit, Problem> {
    match &args.verb {
        TrainJobVerb::Render(args) => render::render(context, args),
        TrainJobVerb::Validate(args) => render::validate(context, args),
    }
}
