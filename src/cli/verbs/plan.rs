//! `plan`: what `up` would do, and why.

use clap::Args;
use serde::Serialize;
use trainerd_catalog::Catalog;
use trainerd_engine::record::{Journal, Phase};
use trainerd_engine::{Engine, Prepared, State};

use crate::cli::args::{AllowArgs, OptionArgs};
use crate::cli::change::{Change, show_way};
use crate::cli::context::{Context, ahead};
use crate::cli::option_text::about;
use crate::cli::plan_text::{outcome_text, plan_text};
use crate::problem::Exit;
use crate::problem::Problem;
use crate::target::changes::{OptionChange, Patched};
use crate::target::{Target, resolve};

/// Show what `up` would do, and why
///
/// Nothing is changed. The exit code is 0 if there is nothing to do and 2 if changes are pending.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd plan                                     with the default options
  trainerd plan --config options.yaml               with the options of a file
  trainerd plan --set jobset-image=reg.io/jobset:v0.12.0
  trainerd plan -v                                  also what stays as it is
  trainerd plan -o json                             every step, for a script")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    options: OptionArgs,

    #[command(flatten)]
    allow: AllowArgs,
}

/// What `plan` prints as a document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    /// A plan that was interrupted and is finished before this one.
    journal: Option<&'a Journal>,
    /// Whether there is anything to do.
    pending: bool,
    /// Options that get other values, and why.
    options: &'a [OptionChange],
    /// Patches, and what they change.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    patches: &'a [Patched],
    #[serde(flatten)]
    prepared: &'a Prepared,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &PlanArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    let given = args.options.given(&catalog)?.allowing_unknown_version(args.allow.unknown_version());
    // Invalid options are reported before connecting to the cluster.
    given.parse(&catalog)?;
    let engine = context.engine().await?;
    let target = async |state: &State| resolve(&catalog, &engine, state, &given).await;
    show(context, &engine, Change { allow: args.allow.allowed(), show_way: false, unasked: false }, target)
        .await
}

/// Plans and prints; also what --dry-run of the verbs that plan a change does.
pub(crate) async fn show(
    context: &Context,
    engine: &Engine,
    asked: Change,
    resolve: impl AsyncFn(&State) -> Result<Target, Problem>,
) -> Result<Exit, Problem> {
    let state = context.open_damaged(engine).await?;
    let state = context.interrupt.or(ahead(engine, state)).await?;
    let wanted = context.interrupt.or(resolve(&state)).await?;
    if asked.show_way {
        show_way(context, &state, &wanted);
    }
    let about = about(&wanted, context.printer.verbosity);
    let prepared =
        context.interrupt.or(engine.prepare(&state, wanted.desired, wanted.purpose, asked.allow)).await?;
    let journal = state.journal();
    let pending = !prepared.is_empty() || journal.is_some();
    let (options, patches) = (&wanted.options[..], &wanted.patched[..]);
    context.printer.show(&Shown { journal, pending, options, patches, prepared: &prepared }, || {
        let mut text = about;
        text.push_str(&plan_text(&prepared.plan, &context.printer.for_stdout()));
        text.push_str(&outcome_text(&prepared));
        text.push('\n');
        text
    })?;
    if let Some(journal) = journal {
        let writer = context.interrupt.or(engine.writer(&state)).await?;
        context.printer.note(&format!("{}; {GOES_ON}", journal_text(journal, writer.as_deref())));
    }
    Ok(if pending { Exit::Pending } else { Exit::Done })
}

/// What becomes of a plan that is in progress.
pub(crate) const GOES_ON: &str =
    "up or upgrade resumes it, or replaces it if other options are given; rollback goes back";

/// A plan that has begun, in a sentence: in progress where somebody runs it, and otherwise interrupted.
pub(crate) fn journal_text(journal: &Journal, writer: Option<&str>) -> String {
    let Journal { purpose, target, started, by, .. } = journal;
    let way = match &journal.phase {
        Phase::Forward => String::new(),
        Phase::Undo { reason } => format!(" while it was rolled back ({reason})"),
    };
    match (writer, &journal.phase) {
        (None, _) => {
            format!(
                "the {purpose} of revision {target}, started {started:.0} by `{by}`, was interrupted{way}"
            )
        }
        (Some(writer), Phase::Forward) => format!(
            "the {purpose} of revision {target}, started {started:.0} by `{by}`, is in progress, by {writer}"
        ),
        (Some(writer), Phase::Undo { reason }) => format!(
            "the {purpose} of revision {target}, started {started:.0} by `{by}`, is being rolled back ({reason}), by {writer}"
        ),
    }
}
