//! `trainjob`: what users of the stack do with TrainJobs.

mod change;
mod facts;
mod list;
mod logs;
mod manifests;
mod pods;
mod progress;
mod render;
mod state;
mod submit;
mod target;
mod watch;

use clap::{Args, Subcommand};

use crate::cli::args::label;
use crate::cli::context::Context;
use crate::problem::Exit;
use crate::problem::Problem;

/// Submit, follow and change TrainJobs; render and validate them without a cluster
#[derive(Clone, Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = false)]
pub(crate) struct TrainJobArgs {
    #[command(subcommand)]
    verb: TrainJobVerb,

    /// Namespace of the TrainJobs; without it, that of the kubeconfig's context
    // In the place of the global argument of this name, whose value it shares: `Context::namespace_given`.
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAMESPACE",
        value_parser = label,
        help_heading = "Cluster and installation"
    )]
    namespace: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
enum TrainJobVerb {
    Submit(submit::SubmitArgs),
    List(list::ListArgs),
    Get(list::GetArgs),
    Logs(logs::LogsArgs),
    Watch(watch::WatchArgs),
    Suspend(change::SuspendArgs),
    Resume(change::ResumeArgs),
    Delete(change::DeleteArgs),
    Render(render::RenderArgs),
    Validate(render::ValidateArgs),
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &TrainJobArgs) -> Result<Exit, Problem> {
    match &args.verb {
        TrainJobVerb::Submit(args) => submit::run(context, args).await,
        TrainJobVerb::List(args) => list::list(context, args).await,
        TrainJobVerb::Get(args) => list::get(context, args).await,
        TrainJobVerb::Logs(args) => logs::run(context, args).await,
        TrainJobVerb::Watch(args) => watch::run(context, args).await,
        TrainJobVerb::Suspend(args) => change::suspend(context, args).await,
        TrainJobVerb::Resume(args) => change::resume(context, args).await,
        TrainJobVerb::Delete(args) => change::delete(context, args).await,
        TrainJobVerb::Render(args) => render::render(context, args),
        TrainJobVerb::Validate(args) => render::validate(context, args),
    }
}
