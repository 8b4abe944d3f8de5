//! `remove`: take the installation away.

use clap::Args;
use trainerd_engine::record::Removal;
use trainerd_engine::{Engine, EngineError};

use crate::cli::ask::confirm;
use crate::cli::context::{Context, check_ruler};
use crate::cli::errors::Problem;
use crate::cli::exit::Exit;
use crate::cli::plan_text::plan_text;
use crate::cli::progress::{Last, Progress};

/// Take the installation away
///
/// Shows what goes, and asks (on a terminal, without --yes). CRDs and what is stored under them stay, unless --purge
/// is given. The namespace goes only if trainerd made it and nothing else is in it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd remove                                   controllers and runtimes; jobs stay stored
  trainerd remove --purge                           CRDs too, refused while jobs are stored
  trainerd remove --purge --delete-jobs --yes       everything")]
pub(crate) struct RemoveArgs {
    /// Take the CRDs away too; refused while TrainJobs, JobSets or LeaderWorkerSets exist
    #[arg(long)]
    purge: bool,

    /// With --purge: delete these jobs too, of all users
    #[arg(long, requires = "purge")]
    delete_jobs: bool,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &RemoveArgs) -> Result<Exit, Problem> {
    let extent = match (args.purge, args.delete_jobs) {
        (false, _) => Removal::KeepStored,
        (true, false) => Removal::Purge,
        (true, true) => Removal::PurgeWithJobs,
    };
    let engine = context.engine().await?;
    take_away(context, &engine, extent, "Take all this away?").await
}

/// Shows what goes, asks, and takes it away.
pub(crate) async fn take_away(
    context: &Context,
    engine: &Engine,
    extent: Removal,
    question: &str,
) -> Result<Exit, Problem> {
    let state = context.open_damaged(engine).await?;
    check_ruler(&state)?;
    match context
        .interrupt
        .or(async { Ok::<_, Problem>(engine.prepare_removal(&state, extent).await) })
        .await?
    {
        Ok(plan) => {
            context.printer.note(plan_text(&plan, &context.printer).trim_end());
            confirm(context, question).await?;
        }
        // Leftovers of a removal that was broken off at its very end may still be there.
        Err(EngineError::NotInstalled { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let progress = Progress::new(&context.printer);
    let sink = |event| progress.event(&event);
    let removed = engine.remove(extent, &mut context.run_options(&sink)).await;
    progress.clear();
    let installation = engine.installation();
    match removed {
        Ok(namespace_went) => {
            progress.last(&Last::Finished { revision: None });
            let namespace = if namespace_went { "went too" } else { "stays" };
            context.printer.note(&format!("removed; namespace {} {namespace}", installation.namespace));
            Ok(Exit::Done)
        }
        // What is wanted is so already; a script that tries again after a kill must not fail here.
        Err(error @ EngineError::NotInstalled { .. }) => {
            context.printer.note(&format!("nothing to remove: {error}"));
            Ok(Exit::Done)
        }
        Err(error) => Err(error.into()),
    }
}
