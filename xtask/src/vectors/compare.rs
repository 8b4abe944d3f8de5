//! Whether an outcome is the expected one, placeholders and lists without order considered.

use serde_json::{Value, json};

use super::normal::normal;

/// What differs, a line each.
pub(super) fn compare(case: &Value, actual: &Value) -> Vec<String> {
    if case["expect"].get("panic").is_some() {
        // Upstream fell over; that we did not is all there is to compare.
        return Vec::new();
    }
    let (mut expected, mut actual) = (normal(&case["expect"]), normal(actual));
    let mut comparison = Comparison {
        unordered: case["order_insensitive"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
        runtime: normal(&case["runtime"]),
        differences: Vec::new(),
    };
    let is_loose = case["options"]["loose_error"] == true;
    for key in ["errors", "error", "events"] {
        let (Some(expected), Some(actual)) = (expected.as_object_mut(), actual.as_object_mut()) else {
            continue;
        };
        if is_loose {
            let (expected, actual) = (expected.remove(key), actual.remove(key));
            if is_nonempty(expected.as_ref()) != is_nonempty(actual.as_ref()) {
                comparison.note(&format!("/{key}"), expected.as_ref(), actual.as_ref());
            }
        }
    }
    if let Some(fields) = expected.as_object_mut() {
        fields.remove("intendedErrors");
    }
    comparison.compare(&expected, &actual, "");
    comparison.differences
}

fn is_nonempty(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !(value.is_null() || *value == json!([]) || *value == json!("")))
}

struct Comparison<'a> {
    unordered: Vec<&'a str>,
    runtime: Value,
    differences: Vec<String>,
}

impl Comparison<'_> {
    fn note(&mut self, path: &str, expected: Option<&Value>, actual: Option<&Value>) {
        let shown = |value: Option<&Value>| value.map_or("absent".to_owned(), ToString::to_string);
        self.differences.push(format!("{path}: expected {}, found {}", shown(expected), shown(actual)));
    }

    fn compare(&mut self, expected: &Value, actual: &Value, path: &str) {
        match self.placeholder(expected, actual) {
            Some(true) => return,
            Some(false) => return self.note(path, Some(expected), Some(actual)),
            None => {}
        }
        match (expected, actual) {
            (Value::Object(left), Value::Object(right)) => {
                let mut keys: Vec<_> = left.keys().chain(right.keys()).collect();
                keys.sort();
                keys.dedup();
                for key in keys {
                    let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
                    match (left.get(key), right.get(key)) {
                        (Some(left), Some(right)) => self.compare(left, right, &path),
                        (left, right) => self.note(&path, left, right),
                    }
                }
            }
            (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
                let sorted = |list: &[Value]| {
                    let mut list = list.to_vec();
                    if self.unordered.contains(&path) {
                        list.sort_by_key(ToString::to_string);
                    }
                    list
                };
                let (left, right) = (sorted(left), sorted(right));
                for (at, (left, right)) in left.iter().zip(&right).enumerate() {
                    self.compare(left, right, &format!("{path}/{at}"));
                }
            }
            (Value::Number(left), Value::Number(right)) if left.as_f64() == right.as_f64() => {}
            _ if expected == actual => {}
            _ => self.note(path, Some(expected), Some(actual)),
        }
    }

    /// Whether a placeholder is met; `None` when the expectation is none.
    fn placeholder(&self, expected: &Value, actual: &Value) -> Option<bool> {
        let text = actual.as_str();
        match expected {
            Value::String(word) if word == "$any" || word == "$now" => text.map(|_| true),
            Value::String(word) if word == "$default-flux-view-image" => text.map(|_| true),
            Value::String(pattern) if pattern.contains("<ptr>") || pattern.contains("<scheme>") => {
                text.map(|text| matches(pattern, text))
            }
            Value::Object(fields) if fields.len() == 1 => {
                if let Some(Value::Array(parts)) = fields.get("$contains") {
                    let has = |part: &Value| {
                        part.as_str().is_some_and(|part| text.is_some_and(|text| text.contains(part)))
                    };
                    return Some(parts.iter().all(has));
                }
                let document = fields.get("$yaml")?;
                let wanted = if document == "$runtime" { &self.runtime } else { document };
                let mut found: Value = serde_yaml::from_str(text?).ok()?;
                if let Some(metadata) = found.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("resourceVersion");
                }
                Some(is_equivalent(wanted, &normal(&found)))
            }
            _ => None,
        }
    }
}

/// Whether a text is the pattern, with anything in place of what differs from run to run.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    let parts: Vec<&str> = pattern.split("<ptr>").flat_map(|part| part.split("<scheme>")).collect();
    for (at, part) in parts.iter().enumerate() {
        match rest.find(part) {
            Some(0) => rest = &rest[part.len()..],
            Some(found) if at > 0 => rest = &rest[found + part.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || parts.last().is_some_and(|part| part.is_empty())
}

/// Equality up to empty values and the spelling of quantities.
fn is_equivalent(a: &Value, b: &Value) -> bool {
    let is_nothing = |value: &Value| {
        value.is_null() || [json!({}), json!([]), json!(""), json!(0), json!(false)].contains(value)
    };
    match (a, b) {
        (Value::Object(left), Value::Object(right)) => {
            left.keys().chain(right.keys()).all(|key| match (left.get(key), right.get(key)) {
                (Some(left), Some(right)) => is_equivalent(left, right),
                (one, other) => one.or(other).is_none_or(is_nothing),
            })
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| is_equivalent(left, right))
        }
        _ => {
            let quantity = |value: &Value| trainerd_pipeline::Quantity::of(value);
            a == b || quantity(a).is_some() && quantity(a) == quantity(b)
        }
    }
}
