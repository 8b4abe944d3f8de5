//! `repair`: everything back as the current revision says.

use std::sync::Arc;

use clap::Args;
use trainerd_catalog::Catalog;
use trainerd_engine::record::Journal;
use trainerd_engine::revision::Header;
use trainerd_engine::{Damage, Engine, EngineError, State};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Desired;
use trainerd_plan::plan::Purpose;

use super::plan::{GOES_ON, journal_text};
use crate::cli::args::AllowArgs;
use crate::cli::ask::{Risk, confirm};
use crate::cli::context::Context;
use crate::cli::plan_text::{outcome_text, plan_text};
use crate::cli::progress::{Last, Progress};
use crate::problem::Exit;
use crate::problem::{LEFT_REMEDY, Problem, damage_text, left_text, lost};
use crate::target::rendered_again;

/// Repair whatever differs from the current revision
///
/// Restores objects that were changed or deleted, and trainerd's own Secrets (the record, revisions and their objects)
/// if they were lost. Options and versions are not changed. Works with and without a daemon.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd repair                                   show what differs, ask, and repair it
  trainerd repair --dry-run                         only show what differs
  trainerd repair --component jobset                only what belongs to JobSet
  trainerd repair --allow recreate                  recreate objects whose immutable fields differ
  trainerd repair --yes --timeout 5m                for a script")]
pub(crate) struct RepairArgs {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,

    /// Repair only what belongs to trainer, runtimes, jobset or lws
    #[arg(long, value_name = "COMPONENT")]
    component: Option<String>,

    #[command(flatten)]
    allow: AllowArgs,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &RepairArgs) -> Result<Exit, Problem> {
    let catalog = Catalog::builtin()?;
    let engine = context.engine().await?;
    let state = context.interrupt.or(engine.open_damaged()).await?;
    if let Some(journal) = state.journal() {
        return repair_under_way(context, &catalog, &engine, &state, journal, args.dry_run).await;
    }
    if let Some(damage) = state.damage() {
        context.printer.note(&damage_text(damage));
    }
    let desired = desired(context, &catalog, &engine, &state).await?;
    let number = state.header().map(|header| header.number).unwrap_or_default();
    let allow = args.allow.allowed();
    let only = args.component.as_deref();
    let prepare = engine.prepare_only(&state, desired, Purpose::Change, allow, only);
    let prepared = context.interrupt.or(prepare).await?;
    if prepared.revision != number {
        // Another version of trainerd renders it differently: that would be a change.
        return Err(state
            .damage()
            .map_or_else(|| EngineError::ChangedMeanwhile { added: Vec::new() }.into(), cannot_render));
    }
    let writes_record = matches!(state.damage(), Some(Damage::Record { .. }));
    let older = context.interrupt.or(older_lost(&engine, number)).await?;
    if !prepared.plan.is_empty() {
        context.printer.note(plan_text(&prepared.plan, &context.printer).trim_end());
        context.printer.note(&outcome_text(&prepared));
    }
    if writes_record || prepared.restores() || !older.is_empty() {
        context.printer.note("trainerd's own Secrets that are lost will be restored");
    }
    let is_whole = prepared.is_empty() && !writes_record && older.is_empty();
    if args.dry_run {
        if is_whole {
            context.printer.note(&everything(only, number));
        }
        return Ok(Exit::Done);
    }
    if !is_whole {
        confirm(context, "Go ahead?", Risk::of(allow)).await?;
    }
    let progress = Progress::new(&context.printer);
    let sink = |event| progress.event(&event);
    let done = engine.run(state, prepared, &mut context.run_options(&sink)).await;
    progress.clear();
    let state = done?;
    if !older.is_empty() {
        write_revisions(context, &catalog, &engine, &state, older).await?;
    }
    progress.last(&Last::finished(Some(number)));
    context.printer.note(&everything(only, number));
    Ok(Exit::Done)
}

fn everything(only: Option<&str>, revision: u64) -> String {
    let of = only.map(|component| format!(" of {component}")).unwrap_or_default();
    format!("everything{of} is as revision {revision} says")
}

/// Earlier revisions of which something is lost.
async fn older_lost(engine: &Engine, current: u64) -> Result<Vec<Header>, EngineError> {
    // One list of names shows whether there is anything to read.
    if engine.missing().await?.keys().all(|number| *number == current) {
        return Ok(Vec::new());
    }
    let damaged = engine.damaged_revisions().await?;
    Ok(damaged.into_iter().filter(|header| header.number != current).collect())
}

/// While a plan is in progress only what is lost of the revisions is written again: the plan itself is for others to finish.
async fn repair_under_way(
    context: &Context,
    catalog: &Catalog,
    engine: &Engine,
    state: &State,
    journal: &Journal,
    dry_run: bool,
) -> Result<Exit, Problem> {
    let writer = context.interrupt.or(engine.writer(state)).await?;
    let journal = journal_text(journal, writer.as_deref());
    let lost = context.interrupt.or(engine.damaged_revisions()).await?;
    if lost.is_empty() {
        return Err(Problem::new(Exit::Refused, "plan-open", "a plan is still open")
            .because(journal)
            .hint(GOES_ON));
    }
    for header in &lost {
        context.printer.note(&format!("revision {} cannot be read; rendering it again", header.number));
    }
    if dry_run {
        return Ok(Exit::Done);
    }
    confirm(context, "Go ahead?", Risk::of(Allowed::default())).await?;
    let number = lost[0].number;
    let written = write_revisions(context, catalog, engine, state, lost).await?;
    if written.is_empty() {
        return Err(Problem::new(
            Exit::Failed,
            "revision-unreadable",
            format!("revision {number} cannot be read"),
        )
        .because("this version of trainerd renders its options differently; nothing was changed")
        .hint(GOES_ON));
    }
    context.printer.note(&format!("{journal}; {GOES_ON}"));
    Ok(Exit::Done)
}

/// Renders revisions again, and writes those that are as they were.
async fn write_revisions(
    context: &Context,
    catalog: &Catalog,
    engine: &Engine,
    state: &State,
    lost: Vec<Header>,
) -> Result<Vec<u64>, Problem> {
    let mut rendered = Vec::new();
    for header in lost {
        match context.interrupt.or(rendered_again(catalog, engine, &header)).await {
            Ok(desired) => rendered.push((header, Arc::new(desired))),
            // Its options may be of another version of trainerd: the others can be had all the same.
            Err(problem) => context.printer.note(&format!("revision {}: {}", header.number, problem.message)),
        }
    }
    let progress = Progress::new(&context.printer);
    let sink = |event| progress.event(&event);
    let numbers: Vec<u64> = rendered.iter().map(|(header, _)| header.number).collect();
    let written = engine.write_revisions(state, rendered, &context.run_options(&sink)).await;
    progress.clear();
    let written = written?;
    for number in numbers {
        let text = if written.contains(&number) {
            format!("revision {number} has been restored")
        } else {
            format!(
                "this version of trainerd renders the options of revision {number} differently; it was not changed"
            )
        };
        context.printer.note(&text);
    }
    Ok(written)
}

/// What the current revision wants: as it is kept, or else rendered again from its options.
async fn desired(
    context: &Context,
    catalog: &Catalog,
    engine: &Engine,
    state: &State,
) -> Result<Arc<Desired>, Problem> {
    if let Some(current) = &state.current {
        return Ok(Arc::clone(&current.desired));
    }
    match (state.header(), state.damage()) {
        (Some(header), _) => {
            Ok(Arc::new(context.interrupt.or(rendered_again(catalog, engine, header)).await?))
        }
        (None, Some(damage)) => Err(lost(damage)),
        (None, None) => {
            let left = context.interrupt.or(engine.left_behind()).await?;
            let installation = engine.installation().clone();
            let (name, namespace) = (installation.name, installation.namespace);
            let problem = Problem::from(EngineError::NotInstalled { name, namespace });
            Err(if left.is_empty() { problem } else { problem.because(left_text(&left)).hint(LEFT_REMEDY) })
        }
    }
}

/// The objects of a revision cannot be had again.
fn cannot_render(damage: &Damage) -> Problem {
    let readable = match damage {
        Damage::Objects { readable, .. } => *readable,
        Damage::Record { .. } | Damage::Revision { .. } => None,
    };
    let hint = match readable {
        Some(number) => format!("`trainerd rollback {number}` goes to the newest revision that can be read"),
        None => "`trainerd up` with the options that you want creates a new one".to_owned(),
    };
    lost(damage)
        .hint(hint)
        .because("this version of trainerd renders its options differently; nothing was changed")
}
