//! `diff`: what differs between two revisions, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use trainerd_engine::EngineError;
use trainerd_plan::desired::Desired;
use trainerd_plan::mask::masked;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::ownership::{FieldChange, FieldPath, Segment};

use crate::cli::args::revision;
use crate::cli::context::Context;
use crate::cli::option_text;
use crate::cli::output::{Printer, Tone};
use crate::cli::plan_text::change_text;
use crate::problem::Exit;
use crate::problem::Problem;
use crate::target::changes::{OptionChange, between};

/// Fields by which the items of a list are distinguished, most telling first.
const ITEM_KEYS: [&str; 2] = ["name", "containerPort"];

/// Show the differences between two revisions
///
/// Shows options first, then objects field by field; values of Secrets are masked. Compares the stored revisions, not the cluster.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  trainerd diff 1                                   from revision 1 to the current one
  trainerd diff 1 2                                 from revision 1 to revision 2
  trainerd diff 1 2 -v                              long values in full
  trainerd diff 1 2 -o json                         for a script")]
pub(crate) struct DiffArgs {
    /// The revision to compare
    #[arg(value_name = "REV", value_parser = revision)]
    from: u64,

    /// The revision to compare it with; by default, the current one
    #[arg(value_name = "REV", value_parser = revision)]
    to: Option<u64>,
}

/// An object that differs.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    /// `added`, `removed` or `changed`.
    change: Kind,
    object: ObjectKey,
    /// The fields of a changed object.
    fields: Vec<FieldChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Added,
    Removed,
    Changed,
}

/// What `diff` prints as a document.
#[derive(Serialize)]
struct Shown<'a> {
    from: u64,
    to: u64,
    options: &'a [OptionChange],
    objects: &'a [Difference],
}

/// Runs the verb.
pub(crate) async fn run(context: &Context, args: &DiffArgs) -> Result<Exit, Problem> {
    let engine = context.engine().await?;
    let state = context.open(&engine).await?;
    let from = context.interrupt.or(engine.revision(args.from)).await?;
    let to = match (args.to, state.current) {
        (Some(number), _) => context.interrupt.or(engine.revision(number)).await?,
        (None, Some(current)) => current,
        (None, None) => {
            let installation = engine.installation().clone();
            let (name, namespace) = (installation.name, installation.namespace);
            return Err(EngineError::NotInstalled { name, namespace }.into());
        }
    };
    let objects = differences(&from.desired, &to.desired);
    let options = between(Some((&from.header).into()), (&to.header).into());
    let (from, to) = (args.from, to.header.number);
    context.printer.show(&Shown { from, to, options: &options, objects: &objects }, || {
        option_text::text(&options, context.printer.verbosity)
            + &text(&objects, &context.printer.for_stdout())
    })?;
    if objects.is_empty() {
        context.printer.note(&format!("no object differs between revisions {from} and {to}"));
    }
    Ok(Exit::Done)
}

fn text(objects: &[Difference], printer: &Printer) -> String {
    let mut text = String::new();
    for Difference { change, object, fields } in objects {
        let head = match change {
            Kind::Added => printer.paint(Tone::Good, &format!("+ {object}")),
            Kind::Removed => printer.paint(Tone::Bad, &format!("- {object}")),
            Kind::Changed => printer.paint(Tone::Attention, &format!("~ {object}")),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{head}");
        for field in fields {
            let _ = writeln!(text, "    {}", change_text(field, printer.verbosity));
        }
    }
    text
}

/// The objects that differ, by key.
fn differences(from: &Desired, to: &Desired) -> Vec<Difference> {
    let by_key = |desired: &Desired| -> BTreeMap<ObjectKey, Value> {
        desired.objects.iter().map(|object| (object.key(), object.manifest.clone())).collect()
    };
    let (from, to) = (by_key(from), by_key(to));
    let keys: BTreeSet<&ObjectKey> = from.keys().chain(to.keys()).collect();
    let difference = |key: &ObjectKey| {
        let (change, fields) = match (from.get(key), to.get(key)) {
            (None, Some(_)) => (Kind::Added, Vec::new()),
            (Some(_), None) => (Kind::Removed, Vec::new()),
            (Some(old), Some(new)) if old != new => {
                let mut fields = Vec::new();
                compare(&mut Vec::new(), Some(old), Some(new), &mut fields);
                (Kind::Changed, fields.into_iter().map(|field| masked(key, field)).collect())
            }
            _ => return None,
        };
        Some(Difference { change, object: key.clone(), fields })
    };
    keys.into_iter().filter_map(difference).collect()
}

/// Adds the fields in which two values differ, down to the leaves of maps. Lists are compared item by item
/// where their items have names, else as a whole.
fn compare(path: &mut Vec<Segment>, old: Option<&Value>, new: Option<&Value>, fields: &mut Vec<FieldChange>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                path.push(Segment::Field(name.clone()));
                compare(path, old.get(name), new.get(name), fields);
                path.pop();
            }
        }
        (Some(Value::Array(olds)), Some(Value::Array(news))) => match item_key(olds, news) {
            Some(key) => {
                let item =
                    |list: &[Value], value: &Value| list.iter().find(|item| &item[key] == value).cloned();
                let mut seen: Vec<&Value> = Vec::new();
                for value in olds.iter().chain(news).map(|item| &item[key]) {
                    if !seen.contains(&value) {
                        seen.push(value);
                        path.push(Segment::Item(vec![(key.to_owned(), value.clone())]));
                        compare(path, item(olds, value).as_ref(), item(news, value).as_ref(), fields);
                        path.pop();
                    }
                }
            }
            None => fields.push(changed(path, old, new)),
        },
        _ => fields.push(changed(path, old, new)),
    }
}

fn changed(path: &[Segment], old: Option<&Value>, new: Option<&Value>) -> FieldChange {
    let path: FieldPath = path.iter().cloned().collect();
    FieldChange { path, from: old.cloned(), to: new.cloned() }
}

/// The key that every item of both lists has, with a value of its own.
fn item_key(old: &[Value], new: &[Value]) -> Option<&'static str> {
    let tells_apart = |list: &[Value], key: &str| {
        let values: Vec<&Value> = list.iter().map(|item| &item[key]).collect();
        values.iter().enumerate().all(|(at, value)| !value.is_null() && !values[..at].contains(value))
    };
    ITEM_KEYS.into_iter().find(|key| tells_apart(old, key) && tells_apart(new, key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::output::Verbosity;

    fn lines(old: &Value, new: &Value) -> Vec<String> {
        let mut fields = Vec::new();
        compare(&mut Vec::new(), Some(old), Some(new), &mut fields);
        fields.iter().map(|field| change_text(field, Verbosity::Normal)).collect()
    }

    #[test]
    fn only_changed_leaves_are_shown() {
        let old = json!({"spec": {"replicas": 1, "args": ["a"], "containers": [{"name": "m", "image": "x:1"}, {"name": "gone"}]}});
        let new = json!({"spec": {"replicas": 2, "args": ["a", "b"], "containers": [{"name": "m", "image": "x:2"}], "paused": true}});
        assert_eq!(
            lines(&old, &new),
            [
                r#".spec.args: ["a"] → ["a","b"]"#,
                r#".spec.containers[name=m].image: "x:1" → "x:2""#,
                r#".spec.containers[name=gone]: {"name":"gone"} → (none)"#,
                ".spec.paused: (none) → true",
                ".spec.replicas: 1 → 2",
            ]
        );
        assert!(lines(&old, &old).is_empty());
    }

    #[test]
    fn unnamed_items_are_compared_as_a_whole() {
        let old = json!([{"name": "a", "v": 1}, {"name": "a", "v": 2}]);
        let new = json!([{"name": "a", "v": 1}]);
        assert_eq!(lines(&old, &new).len(), 1);
        assert!(lines(&old, &new)[0].starts_with(".: ["));
    }
}
