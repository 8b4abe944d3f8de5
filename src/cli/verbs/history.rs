//! `history`: the revisions, and what came of them.

use std::collections::BTreeMap;

use clap::Args;
use jiff::Timestamp;
use semver::Version;
use serde::Serialize;
use serde_json::Value;
use trainerd_engine::EngineError;
use trainerd_engine::record::{Outcome, Phase};
use trainerd_engine::revision::{Forced, Header};
use trainerd_plan::plan::Purpose;

use crate::cli::context::Context;
use crate::cli::output::{Verbosity, columns};
use crate::problem::Exit;
use crate::problem::Problem;

/// Characters of a result that the table shows.
const GLANCE: usize = 60;

/// List the revisions and their outcomes
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd history                                  newest last, * is where the installation is
  trainerd history -v                               results whole
  trainerd history -o json                          with all options that changed")]
pub(crate) struct HistoryArgs {}

/// A revision as `history` tells of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    revision: u64,
    parent: Option<u64>,
    created: Timestamp,
    by: &'a str,
    /// Who asked a daemon for it over its API.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_by: Option<&'a str>,
    purpose: Purpose,
    /// Component versions.
    versions: BTreeMap<&'a str, &'a Version>,
    /// Options that differ from the parent's, or from the defaults of the first.
    options: BTreeMap<&'a str, &'a Value>,
    /// What came of it; null where it was never begun.
    #[serde(flatten)]
    outcome: Option<&'a Outcome>,
    /// Fields that its plan took from other managers by force.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    forced: &'a [Forced],
    /// Whether the installation is at it.
    current: bool,
    /// Which way its plan goes, while it is under way.
    under_way: Option<&'a Phase>,
    /// Whether the current one is newer.
    #[serde(skip)]
    is_past: bool,
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, _: &HistoryArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let state = context.open_damaged(&engine).await?;
    let history = engine.known_history(&state);
    let unreadable = engine.unreadable(&state);
    if history.is_empty() && unreadable.is_empty() {
        let installation = engine.installation().clone();
        let (name, namespace) = (installation.name, installation.namespace);
        return Err(EngineError::NotInstalled { name, namespace }.into());
    }
    let (current, journal) = (state.record().current, state.journal());
    let headers: BTreeMap<u64, &Header> = history.iter().map(|(header, _)| (header.number, header)).collect();
    let rows: Vec<Row<'_>> = history
        .iter()
        .map(|(header, outcome)| Row {
            revision: header.number,
            parent: header.parent,
            created: header.created,
            by: &header.by,
            asked_by: header.asked_by.as_deref(),
            purpose: header.purpose,
            versions: header
                .components
                .iter()
                .map(|(name, component)| (name.as_str(), &component.version))
                .collect(),
            options: changed(header, header.parent.and_then(|parent| headers.get(&parent).copied())),
            outcome: outcome.as_ref(),
            forced: &header.taken,
            current: current == Some(header.number),
            is_past: current.is_some_and(|current| header.number < current),
            under_way: journal
                .filter(|journal| journal.target == header.number)
                .map(|journal| &journal.phase),
        })
        .collect();
    let whole = context.printer.verbosity == Verbosity::Verbose;
    context.printer.show(&rows, || table(&rows, whole))?;
    let missing = context.interrupt.or(engine.missing()).await?;
    for number in unreadable {
        context.printer.note(&format!("revision {number} cannot be read: its Secret is missing or damaged"));
    }
    for (number, names) in missing {
        context.printer.note(&format!("of revision {number} is missing: {}", names.join(", ")));
    }
    Ok(Exit::Done)
}

/// The options in which a revision differs from its parent; without one, those that were given.
fn changed<'a>(header: &'a Header, parent: Option<&Header>) -> BTreeMap<&'a str, &'a Value> {
    let differs = |name: &str, value: &Value| match parent {
        Some(parent) => parent.options.get(name) != Some(value),
        None => header.given.iter().any(|given| given == name),
    };
    let options = header.options.iter().filter(|(name, value)| differs(name, value));
    options.map(|(name, value)| (name.as_str(), value)).collect()
}

/// Results that are longer than a glance takes are cut, unless they are wanted `whole`.
fn table(rows: &[Row<'_>], whole: bool) -> String {
    let joined = |parts: Vec<String>| if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
    columns(
        &["REVISION", "CREATED", "PURPOSE", "RESULT", "VERSIONS", "OPTIONS CHANGED", "BY"],
        rows.iter().map(|row| {
            vec![
                if row.current { format!("{} *", row.revision) } else { row.revision.to_string() },
                format!("{:.0}", row.created),
                row.purpose.to_string(),
                if whole { result(row) } else { glance(&result(row)) },
                joined(row.versions.iter().map(|(name, version)| format!("{name}={version}")).collect()),
                joined(
                    row.options.iter().map(|(name, value)| format!("{name}={}", in_line(value))).collect(),
                ),
                row.asked_by
                    .map_or_else(|| row.by.to_owned(), |who| format!("{who}, over the API of {}", row.by)),
            ]
        }),
    )
}

fn glance(text: &str) -> String {
    match text.char_indices().nth(GLANCE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn result(row: &Row<'_>) -> String {
    match (row.under_way, row.outcome) {
        (Some(Phase::Forward), _) => "under way".to_owned(),
        (Some(Phase::Undo { reason }), _) => format!("going back: {reason}"),
        (None, Some(outcome)) => outcome.to_string(),
        // It was begun: it, or one after it, became the current one.
        (None, None) if row.is_past => "not known".to_owned(),
        (None, None) => "not begun".to_owned(),
    }
}

/// A value as `--set` takes it, on one line.
pub(crate) fn in_line(value: &Value) -> String {
    match value.as_str() {
        Some(text) if !text.contains('\n') => text.to_owned(),
        _ => value.to_string(),
    }
}
