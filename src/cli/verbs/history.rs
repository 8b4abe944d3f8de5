//! `history`: the revisions, and their outcomes.

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

/// Characters of a result, of options and of a command line that the table shows.
const GLANCE: usize = 60;

/// List the revisions and their outcomes
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd history                                  oldest first; * marks the current revision
  trainerd history -v                               nothing shortened
  trainerd history -o json                          with all changed options")]
pub(crate) struct HistoryArgs {}

/// A revision in the output of `history`.
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
    /// Its outcome; null where it was never begun.
    #[serde(flatten)]
    outcome: Option<&'a Outcome>,
    /// Fields that its plan took from other managers by force.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    forced: &'a [Forced],
    /// Whether the installation is at it.
    current: bool,
    /// Which way its plan goes, while it is in progress.
    under_way: Option<&'a Phase>,
    /// Whether somebody runs that plan; else it was interrupted.
    #[serde(skip)]
    is_run: bool,
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
    let is_run = context.interrupt.or(engine.writer(&state)).await?.is_some();
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
            is_run,
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
        context.printer.note(&format!("missing from revision {number}: {}", names.join(", ")));
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

/// What is longer than a glance takes is cut, unless it is wanted `whole`.
fn table(rows: &[Row<'_>], whole: bool) -> String {
    let joined = |parts: Vec<String>| if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
    let shown = |text: String| if whole { text } else { glance(&text) };
    columns(
        &["REVISION", "CREATED", "PURPOSE", "RESULT", "VERSIONS", "OPTIONS CHANGED", "BY"],
        rows.iter().map(|row| {
            vec![
                if row.current { format!("{} *", row.revision) } else { row.revision.to_string() },
                format!("{:.0}", row.created),
                row.purpose.to_string(),
                shown(result(row)),
                joined(row.versions.iter().map(|(name, version)| format!("{name}={version}")).collect()),
                shown(joined(
                    row.options.iter().map(|(name, value)| format!("{name}={}", in_line(value))).collect(),
                )),
                shown(
                    row.asked_by.map_or_else(
                        || row.by.to_owned(),
                        |who| format!("{who}, over the API of {}", row.by),
                    ),
                ),
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
        (Some(Phase::Forward), _) if !row.is_run => "interrupted".to_owned(),
        (Some(Phase::Undo { reason }), _) if !row.is_run => {
            format!("interrupted while it was rolled back: {reason}")
        }
        (Some(Phase::Forward), _) => "in progress".to_owned(),
        (Some(Phase::Undo { reason }), _) => format!("going back: {reason}"),
        (None, Some(outcome)) => outcome.to_string(),
        // It was begun: it, or one after it, became the current one.
        (None, None) if row.is_past => "not known".to_owned(),
        (None, None) => "not started".to_owned(),
    }
}

/// A value as `--set` takes it, on one line.
pub(crate) fn in_line(value: &Value) -> String {
    match value.as_str() {
        Some(text) if !text.contains('\n') => text.to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_plans_are_shown_as_interrupted_and_long_lines_are_cut() {
        let by = format!("up --yes {}", "--set settle=0 ".repeat(20));
        let row = |under_way, is_run| Row {
            revision: 1,
            parent: None,
            created: Timestamp::UNIX_EPOCH,
            by: &by,
            asked_by: None,
            purpose: Purpose::Install,
            versions: BTreeMap::new(),
            options: BTreeMap::new(),
            outcome: None,
            forced: &[],
            current: false,
            under_way,
            is_run,
            is_past: false,
        };
        let back = Phase::Undo { reason: "no progress".to_owned() };
        let told = |phase, is_run| result(&row(Some(phase), is_run));
        assert_eq!(told(&Phase::Forward, true), "in progress");
        assert_eq!(told(&Phase::Forward, false), "interrupted");
        assert_eq!(told(&back, true), "going back: no progress");
        assert_eq!(told(&back, false), "interrupted while it was rolled back: no progress");
        let rows = [row(None, false)];
        assert!(
            table(&rows, false).lines().all(|line| line.chars().count() < 160),
            "{}",
            table(&rows, false)
        );
        assert!(table(&rows, true).contains(by.trim_end()));
    }
}
