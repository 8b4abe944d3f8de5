//! Unknown fields are dropped, except where a schema keeps them and, at the root, of what every object has.

use serde_json::Value;

/// Drops them, and tells which.
pub(super) fn prune(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut pruned = Vec::new();
    let Value::Object(fields) = object else { return pruned };
    let known = schema.get("properties");
    let names: Vec<String> = fields.keys().cloned().collect();
    for name in names {
        if ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        match known.and_then(|known| known.get(&name)) {
            None => {
                fields.remove(&name);
                pruned.push(name);
            }
            Some(schema) => {
                if let Some(value) = fields.get_mut(&name) {
                    inside(schema, value, &name, &mut pruned);
                }
            }
        }
    }
    pruned.sort();
    pruned
}

fn inside(schema: &Value, value: &mut Value, path: &str, pruned: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (at, item) in items.iter_mut().enumerate() {
                    inside(schema, item, &format!("{path}[{at}]"), pruned);
                }
            }
        }
        Value::Object(fields) => {
            let keeps =
                schema.get("x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool) == Some(true);
            let rest = schema.get("additionalProperties").filter(|rest| rest.is_object());
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                let path = format!("{path}.{name}");
                let known = schema.get("properties").and_then(|known| known.get(&name)).or(rest);
                match (known, fields.get_mut(&name)) {
                    (Some(schema), Some(value)) => inside(schema, value, &path, pruned),
                    (None, _) if !keeps => {
                        fields.remove(&name);
                        pruned.push(path);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
