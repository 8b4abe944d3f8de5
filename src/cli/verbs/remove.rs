//! `remove`: take the installation away.

use clap::Args;
use trainerd_engine::record::Removal;
use trainerd_engine::removal::NamespaceLeft;
use trainerd_engine::{Engine, EngineError};

use crate::cli::ask::{Risk, confirm};
use crate::cli::context::{Context, check_owner};
use crate::cli::plan_text::plan_text;
use crate::cli::progress::{Last, Progress};
use crate::problem::Exit;
use crate::problem::{Problem, counted};

/// Remove the installation
///
/// Lists what will be deleted and asks for confirmation; without a terminal, --yes is required. CRDs and their custom
/// resources stay unless --purge is given. The namespace is deleted only if trainerd created it and it is empty. If the
/// record is gone, for example with its namespace, the objects that carry the installation's label are deleted.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd remove                                   controllers and runtimes; jobs stay stored
  trainerd remove --dry-run                         only show what would be deleted
  trainerd remove --purge                           CRDs too, refused while jobs are stored
  trainerd remove --purge --delete-jobs --yes       everything")]
pub(crate) struct RemoveArgs {
    /// Delete the CRDs too; refused while TrainJobs, JobSets or LeaderWorkerSets exist
    #[arg(long)]
    purge: bool,

    /// With --purge: delete these jobs too, of all users
    #[arg(long, requires = "purge")]
    delete_jobs: bool,

    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &RemoveArgs) -> Result<Exit, Problem> {
    let extent = match (args.purge, args.delete_jobs) {
        (false, _) => Removal::KeepStored,
        (true, false) => Removal::Purge,
        (true, true) => Removal::PurgeWithJobs,
    };
    let engine = context.engine().await?;
    if args.dry_run {
        return show_removal(context, &engine, extent).await;
    }
    take_away(context, &engine, extent, "Delete all of this?").await
}

/// Shows what would go.
pub(crate) async fn show_removal(
    context: &Context,
    engine: &Engine,
    extent: Removal,
) -> Result<Exit, Problem> {
    let state = context.open_damaged(engine).await?;
    let plan = async { Ok::<_, Problem>(engine.prepare_removal(&state, extent).await) };
    match context.interrupt.or(plan).await? {
        Ok(removal) => {
            let text = || plan_text(&removal.plan, &context.printer.for_stdout());
            context.printer.show(&removal.plan, text)?;
        }
        Err(error @ EngineError::NotInstalled { .. }) => {
            context.printer.note(&format!("nothing to remove: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Exit::Done)
}

/// Shows what goes, asks, and takes it away.
pub(crate) async fn take_away(
    context: &Context,
    engine: &Engine,
    extent: Removal,
    question: &str,
) -> Result<Exit, Problem> {
    let state = context.open_damaged(engine).await?;
    check_owner(context, &state)?;
    let confirmed = context.interrupt.or(engine.prepare_removal(&state, extent)).await?;
    if !confirmed.is_empty() {
        context.printer.note(plan_text(&confirmed.plan, &context.printer).trim_end());
        confirm(context, question, Risk::Destructive).await?;
    }
    let progress = Progress::new(&context.printer);
    let sink = |event| progress.event(&event);
    let removed = engine.remove(&confirmed, &mut context.run_options(&sink)).await;
    progress.clear();
    let name = &engine.installation().namespace;
    match removed {
        Ok(namespace) => {
            progress.last(&Last::finished(None));
            context.printer.note(&format!("removed; namespace {name} {}", namespace_text(&namespace)));
            left_text(context, engine).await?;
            Ok(Exit::Done)
        }
        // What is wanted is so already; a script that tries again after a kill must not fail here.
        Err(error @ EngineError::NotInstalled { .. }) => {
            context.printer.note(&format!("nothing to remove: {error}"));
            left_text(context, engine).await?;
            Ok(Exit::Done)
        }
        Err(error) => Err(error.into()),
    }
}

fn namespace_text(namespace: &NamespaceLeft) -> String {
    match namespace {
        NamespaceLeft::Gone => "is gone".to_owned(),
        NamespaceLeft::Going { conditions } if conditions.is_empty() => "is being deleted".to_owned(),
        NamespaceLeft::Going { conditions } => format!("is being deleted: {}", conditions.join("; ")),
        NamespaceLeft::Stays => "stays".to_owned(),
    }
}

/// Says what stays of the installation, and how to be rid of it.
async fn left_text(context: &Context, engine: &Engine) -> Result<(), Problem> {
    let left = context.interrupt.or(engine.left_behind()).await?;
    if !left.is_empty() {
        let counted = counted(&left);
        context.printer.note(&format!("{counted} are left; `trainerd remove --purge` deletes them"));
    }
    Ok(())
}
