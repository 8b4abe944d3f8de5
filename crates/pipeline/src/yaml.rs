//! YAML for readers of version 1.1, such as upstream's: there `y`, `on` or `0b1` without quotes are no texts. The library
//! that we read with writes for version 1.2 and leaves those bare.

use std::fmt::Write as _;

use serde_json::Value;

use crate::go;

/// The document, keys sorted, strings quoted unless no reader can take them for something else.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => members(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => members(&mut out, value, 0),
        scalar => {
            inline(&mut out, scalar);
            out.push('\n');
        }
    }
    out
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn members(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            for (key, value) in fields {
                spaces(out, indent);
                string(out, key);
                out.push(':');
                after(out, value, indent + usize::from(value.is_object()) * 2);
            }
        }
        Value::Array(items) => {
            for item in items {
                spaces(out, indent);
                out.push('-');
                after(out, item, indent + 2);
            }
        }
        _ => {}
    }
}

/// A member's value: on lines of its own, or on this one.
fn after(out: &mut String, value: &Value, indent: usize) {
    if is_block(value) {
        out.push('\n');
        members(out, value, indent);
    } else {
        out.push(' ');
        inline(out, value);
        out.push('\n');
    }
}

fn inline(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => string(out, text),
        other => out.push_str(&other.to_string()),
    }
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

fn string(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        // Strings of JSON are strings of YAML, but for characters that YAML does not allow bare.
        let mut quoted = String::new();
        go::push_json_string(&mut quoted, text);
        for c in quoted.chars() {
            match u32::from(c) {
                code @ (0x7f..=0x9f | 0xfeff | 0xfffe..=0xffff) => drop(write!(out, "\\u{code:04x}")),
                _ => out.push(c),
            }
        }
    }
}

/// Words that start with a letter and hold nothing with a meaning of its own.
fn is_plain(text: &str) -> bool {
    const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        && !RESERVED.contains(&text.to_lowercase().as_str())
}

/// An error of the reader, as Go's words it: the line first.
pub(crate) fn error(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    // `<problem> at line L column C, while parsing ...`
    let problem = text.split(" at line ").next().unwrap_or(&text);
    match error.location() {
        Some(location) => format!("yaml: line {}: {problem}", location.line()),
        None => format!("yaml: {problem}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_blocks() {
        let value = json!({"b": [{"c": 1, "a": []}, "x y"], "a": {"k": {}, "l": null, "m": [[true]]}});
        let expected = "a:\n  k: {}\n  l: null\n  m:\n  -\n    - true\nb:\n-\n  a: []\n  c: 1\n- \"x y\"\n";
        assert_eq!(document(&value), expected);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            prop_oneof!["y", "No", "ON", "0o7", "1:30", "1_0", "~", "-", "=", "1e3", ".inf"]
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn yaml_round_trips(value in any_value()) {
            let text = document(&value);
            let read: Value = serde_yaml::from_str(&text).unwrap();
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
