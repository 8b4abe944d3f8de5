//! From the text of the option to patches.

use serde_json::{Map, Value};
use trainerd_api::kinds;

use super::{Change, Patch, PatchFault, Target};
use crate::nearest::nearest;
use crate::resource;

const ENTRY: [&str; 2] = ["target", "patch"];
const TARGET: [&str; 3] = ["kind", "name", "component"];

/// Why the option cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The text is no list in YAML.
    NotAList(String),
    /// An entry, counted from one; and the nearest spelling of what is wrong in it.
    Entry(usize, PatchFault, Option<String>),
}

/// Reads the patches of a text; `components` are those that there are.
pub(crate) fn read(text: &str, components: &[&str]) -> Result<Vec<Patch>, Unreadable> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let entries = match yaml(text) {
        Ok(Value::Array(entries)) => entries,
        Ok(_) => return Err(Unreadable::NotAList("it is not a list".to_owned())),
        Err(error) => return Err(Unreadable::NotAList(error)),
    };
    let numbered = entries.into_iter().enumerate().map(|(at, entry)| (at + 1, entry));
    let patch = |(number, value): (usize, Value)| {
        entry(number, value, components).map_err(|(fault, near)| Unreadable::Entry(number, fault, near))
    };
    numbered.map(patch).collect()
}

type InvalidPatch = (PatchFault, Option<String>);

fn entry(number: usize, value: Value, components: &[&str]) -> Result<Patch, InvalidPatch> {
    let mut fields = mapping(value, "it")?;
    known_only(&fields, "an entry", &ENTRY)?;
    let target = target(fields.remove("target").unwrap_or_default(), components)?;
    let change = change(fields.remove("patch").unwrap_or_default())?;
    Ok(Patch { entry: number, target, change })
}

fn target(value: Value, components: &[&str]) -> Result<Target, InvalidPatch> {
    let fields = mapping(value, "target")?;
    known_only(&fields, "a target", &TARGET)?;
    let text = |what: &'static str, key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err((PatchFault::Form { what, expected: "a text" }, None)),
    };
    let kind = text("target.kind", "kind")?
        .ok_or((PatchFault::Form { what: "target.kind", expected: "given" }, None))?;
    let kinds = known_kinds();
    if !kinds.contains(&kind.as_str()) {
        let near = nearest(&kind, kinds.iter().copied());
        return Err((PatchFault::UnknownKind(kind), near));
    }
    let component = text("target.component", "component")?;
    if let Some(unknown) = component.as_deref().filter(|name| !components.contains(name)) {
        let near = nearest(unknown, components.iter().copied());
        return Err((PatchFault::UnknownComponent(unknown.to_owned()), near));
    }
    Ok(Target { kind, name: text("target.name", "name")?, component })
}

/// The kinds whose objects are rendered and described by the type table.
fn known_kinds() -> Vec<&'static str> {
    let builtin = resource::builtin_kinds().filter(|(group, kind)| kinds::describe(group, kind).is_some());
    builtin.map(|(_, kind)| kind).chain(["ClusterTrainingRuntime"]).collect()
}

/// A mapping is a strategic merge patch, a list a JSON patch; a text is either, in YAML.
fn change(value: Value) -> Result<Change, InvalidPatch> {
    let form = PatchFault::Form {
        what: "patch",
        expected: "a mapping (strategic merge) or a list (JSON patch, RFC 6902)",
    };
    let value = match value {
        Value::String(text) => yaml(&text).map_err(|error| (PatchFault::Yaml(error), None))?,
        other => other,
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => Ok(Change::Merge(Value::Object(fields))),
        Value::Array(operations) if !operations.is_empty() => {
            let patch = serde_json::from_value(Value::Array(operations));
            patch.map(Change::Json).map_err(|error| (PatchFault::NotJsonPatch(error.to_string()), None))
        }
        _ => Err((form, None)),
    }
}

fn mapping(value: Value, what: &'static str) -> Result<Map<String, Value>, InvalidPatch> {
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null => Err((PatchFault::Form { what, expected: "given" }, None)),
        _ => Err((PatchFault::Form { what, expected: "a mapping" }, None)),
    }
}

fn known_only(
    fields: &Map<String, Value>,
    what: &'static str,
    known: &'static [&'static str],
) -> Result<(), InvalidPatch> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let near = nearest(key, known.iter().copied());
            Err((PatchFault::UnknownKey { key: key.clone(), what, known }, near))
        }
    }
}

/// One document. The detour through YAML's own value is what finds a key given twice.
fn yaml(text: &str) -> Result<Value, String> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    serde_yaml::from_value(value).map_err(|error| error.to_string())
}
