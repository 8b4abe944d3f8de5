//! Lists of type `set` and `map`: nothing comes twice.

use serde_json::{Map, Value};

use super::{Fault, fault};
use crate::value::{at, texts};

/// What comes twice.
pub(super) fn check(schema: &Value, value: &Value, path: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    walk(schema, value, path, &mut faults);
    faults
}

fn walk(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    match value {
        Value::Array(items) => {
            match at(schema, &["x-kubernetes-list-type"]).as_str() {
                Some("set") => duplicates(items, path, faults),
                Some("map") => {
                    let keys: Vec<Value> = items.iter().map(|item| keys(schema, item)).collect();
                    duplicates(&keys, path, faults);
                }
                _ => {}
            }
            if let Some(inner) = schema.get("items") {
                for (at, item) in items.iter().enumerate() {
                    walk(inner, item, &format!("{path}[{at}]"), faults);
                }
            }
        }
        Value::Object(fields) => {
            let rest = schema.get("additionalProperties").filter(|rest| rest.is_object());
            for (name, value) in fields {
                let known = schema.get("properties").and_then(|known| known.get(name));
                match (known, rest) {
                    (Some(schema), _) if path.is_empty() => walk(schema, value, name, faults),
                    (Some(schema), _) => walk(schema, value, &format!("{path}.{name}"), faults),
                    (None, Some(schema)) => walk(schema, value, &format!("{path}[{name}]"), faults),
                    (None, None) => {}
                }
            }
        }
        _ => {}
    }
}

fn duplicates(keys: &[Value], path: &str, faults: &mut Vec<Fault>) {
    for (at, key) in keys.iter().enumerate() {
        // Of several, the second is told.
        if keys.iter().take(at).filter(|other| *other == key).count() == 1 {
            let key = key.as_str().map_or_else(|| key.to_string(), crate::go::quoted);
            faults.push(fault(&format!("{path}[{at}]"), format!("Duplicate value: {key}"), false));
        }
    }
}

/// The key fields of an item, with their defaults.
fn keys(schema: &Value, item: &Value) -> Value {
    let names = texts(schema, &["x-kubernetes-list-map-keys"]);
    let key = |name: String| {
        let default = at(schema, &["items", "properties", &name, "default"]);
        let value = item.get(&name).or(Some(default).filter(|default| !default.is_null()))?;
        Some((name, value.clone()))
    };
    Value::Object(names.into_iter().filter_map(key).collect::<Map<_, _>>())
}

/// What an item was before: the one with its keys, where a list has keys. An item of another list has no past.
pub(super) fn counterpart<'v>(
    schema: &Value,
    old: &'v [Value],
    item: &Value,
    _at: usize,
) -> Option<&'v Value> {
    if at(schema, &["x-kubernetes-list-type"]).as_str() != Some("map") {
        return None;
    }
    let wanted = keys(schema, item);
    old.iter().find(|other| keys(schema, other) == wanted)
}
