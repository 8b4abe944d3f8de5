//! A plan as people read it.

use std::fmt::Write as _;

use serde_json::Value;
use trainerd_engine::Prepared;
use trainerd_plan::ownership::FieldChange;
use trainerd_plan::plan::{Counts, Plan, Step, Verb};

use super::output::{Printer, Tone, Verbosity};

/// Longest value that a difference shows whole.
const WIDTH: usize = 100;
/// Fields shown of an object that changes in more.
const FIELDS: usize = 20;

/// The steps with verb, object, reason and fields, and a line of counts. Objects that stay as they are come up
/// only when much is to be said.
pub(crate) fn plan_text(plan: &Plan, printer: &Printer) -> String {
    let mut text = String::new();
    for step in plan.steps.iter().filter(|step| step.verb.writes() || printer.verbosity == Verbosity::Verbose)
    {
        step_text(&mut text, step, printer);
    }
    if let Some(step) = plan.point_of_no_return.and_then(|at| plan.steps.get(at)).filter(|_| !plan.is_empty())
    {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "point of no return: {} {}", verb(&step.verb), step.object);
    }
    for pending in &plan.pending_deletions {
        let _ = writeln!(text, "pending: {pending}; left out of this plan and created again once it is gone");
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = writeln!(text, "{}", counts(&plan.counts()));
    text
}

fn step_text(text: &mut String, step: &Step, printer: &Printer) {
    let (sign, tone) = match step.verb {
        Verb::Create => ("+", Tone::Good),
        Verb::Apply { .. } | Verb::Release { .. } => ("~", Tone::Attention),
        Verb::Delete { .. } => ("-", Tone::Bad),
        Verb::Keep => ("=", Tone::Faint),
    };
    let head = printer.paint(tone, &format!("{sign} {} {}", verb(&step.verb), step.object));
    let why = match step.component.as_str() {
        // What users stored belongs to no component.
        "" => format!("({})", step.why),
        component => format!("({component}: {})", step.why),
    };
    let why = printer.paint(Tone::Faint, &why);
    let _ = writeln!(text, "{head}  {why}");
    for change in step.changes.iter().take(FIELDS) {
        let _ = writeln!(text, "    {}", change_text(change, printer.verbosity));
    }
    for taken in &step.taken {
        let _ = writeln!(text, "    takes over {} from {}", taken.path, taken.from);
    }
    if step.changes.len() > FIELDS {
        let _ = writeln!(text, "    and {} more fields", step.changes.len() - FIELDS);
    }
}

/// What a step does, as a verb.
pub(crate) fn verb(verb: &Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Apply { .. } => "change",
        Verb::Keep => "keep",
        Verb::Release { .. } => "release",
        Verb::Delete { .. } => "delete",
    }
}

/// `.spec.replicas: 1 → 2`; long values are cut unless much is to be said.
pub(crate) fn change_text(change: &FieldChange, verbosity: Verbosity) -> String {
    let value = |value: &Option<Value>| match value {
        None => "(none)".to_owned(),
        Some(value) if verbosity == Verbosity::Verbose => value.to_string(),
        Some(value) => cut(&value.to_string()),
    };
    format!("{}: {} → {}", change.path, value(&change.from), value(&change.to))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `2 to create, 1 to change, 0 to delete, 40 unchanged`.
pub(crate) fn counts(counts: &Counts) -> String {
    let Counts { create, change, delete, keep } = counts;
    format!("{create} to create, {change} to change, {delete} to delete, {keep} unchanged")
}

/// What running a plan leads to, in a sentence.
pub(crate) fn outcome_text(prepared: &Prepared) -> String {
    let revision = prepared.revision;
    match prepared.from {
        _ if prepared.is_empty() => format!("nothing to do: the installation is at revision {revision}"),
        _ if !prepared.makes_revision() => format!("returns the cluster to revision {revision}"),
        Some(from) if prepared.plan.is_empty() => {
            format!("creates revision {revision} from revision {from}: options change, objects do not")
        }
        Some(from) => format!("creates revision {revision} from revision {from}"),
        None => format!("creates revision {revision}, the first one"),
    }
}
