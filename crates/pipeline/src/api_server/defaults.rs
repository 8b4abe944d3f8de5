//! Defaults of a schema. A null that may not be is dropped first, so that a default takes its place.

use serde_json::Value;

/// Fills them in.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    fill(schema, item);
                }
            }
        }
        Value::Object(fields) => {
            let known = schema.get("properties").and_then(Value::as_object);
            for (name, schema) in known.into_iter().flatten() {
                let is_nullable = schema.get("nullable").and_then(Value::as_bool) == Some(true);
                if fields.get(name).is_some_and(Value::is_null) && !is_nullable {
                    fields.remove(name);
                }
                if let Some(default) = schema.get("default").filter(|_| !fields.contains_key(name)) {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill(schema, value);
                }
            }
            if let Some(rest) = schema.get("additionalProperties").filter(|rest| rest.is_object()) {
                for value in fields.values_mut() {
                    fill(rest, value);
                }
            }
        }
        _ => {}
    }
}
