//! What does not count: nulls, some empty maps, empty values of variables.

use serde_json::{Map, Value};

/// Maps that mean the same empty and absent.
const NOISE: [&str; 4] = ["resources", "metadata", "status", "strategy"];

/// The value without what does not count.
pub(super) fn normal(value: &Value) -> Value {
    under("", value)
}

fn under(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut out = Map::new();
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                let value = under(name, value);
                let is_noise = NOISE.contains(&name.as_str()) && value.as_object().is_some_and(Map::is_empty);
                let is_zero = name == "divisor" && value == "0" && fields.contains_key("resource");
                let is_empty_value = key == "env[]" && name == "value" && value == "";
                if !(is_noise || is_zero || is_empty_value) {
                    out.insert(name.clone(), value);
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            let key = format!("{key}[]");
            items.iter().map(|item| under(&key, item)).collect()
        }
        other => other.clone(),
    }
}
