//! Objects as YAML: keys sorted, one way to write each value, safe for readers of YAML 1.1 and 1.2.

use serde_json::Value;

/// Prints manifests as a stream of documents, each after a line `---`. Same input, same bytes.
pub fn documents<'a>(manifests: impl IntoIterator<Item = &'a Value>) -> String {
    let mut out = String::new();
    for manifest in manifests {
        out.push_str("---\n");
        out.push_str(&document(manifest));
    }
    out
}

/// Prints one value as a document of its own, with a final newline. Keys are sorted at every level; lists
/// are not indented below their key; texts of several lines are literal blocks.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => mapping(fields, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        scalar => inline(scalar, 1, &mut out),
    }
    out
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn mapping(fields: &serde_json::Map<String, Value>, depth: usize, out: &mut String) {
    let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
    sorted.sort_by_key(|(key, _)| *key);
    for (at, (key, value)) in sorted.into_iter().enumerate() {
        // The first key of a mapping in a list stands behind the dash.
        if at > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        out.push_str(&scalar(key));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                mapping(inner, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, depth, out);
            }
            value => {
                out.push(' ');
                inline(value, depth + 1, out);
            }
        }
    }
}

fn sequence(items: &[Value], depth: usize, out: &mut String) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => mapping(fields, depth + 1, out),
            Value::Array(inner) if !inner.is_empty() => sequence(inner, depth + 1, out),
            value => inline(value, depth + 1, out),
        }
    }
}

/// A value on the rest of its line; a text of several lines continues below, at `depth`.
fn inline(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        Value::String(text) if is_block(text) => return block(text, depth, out),
        Value::String(text) => out.push_str(&scalar(text)),
    }
    out.push('\n');
}

/// Whether a text can be a literal block: several lines, and nothing that a block cannot hold.
fn is_block(text: &str) -> bool {
    let lines = text.split('\n').all(|line| !line.contains(is_special));
    text.contains('\n') && !text.starts_with([' ', '\n']) && lines
}

/// Control characters, and what YAML 1.1 or 1.2 takes for a line end or a byte order mark.
fn is_special(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn block(text: &str, depth: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    out.push_str(match text.len() - body.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in body.split('\n').chain(std::iter::repeat_n("", (text.len() - body.len()).saturating_sub(1))) {
        if !line.is_empty() {
            indent(depth, out);
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// A text on one line: plain where every reader takes it for this text, else quoted.
fn scalar(text: &str) -> String {
    if text.chars().any(is_special) {
        // JSON's quoting is YAML's, but leaves characters as they are that YAML takes for line ends.
        let quoted = Value::from(text).to_string();
        let escaped = |c: char| {
            if is_special(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
        };
        return quoted.chars().map(escaped).collect();
    }
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn is_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return false };
    let second = chars.next();
    let starts = match first {
        '-' | '?' | ':' => second.is_some_and(|c| c != ' '),
        ',' | '[' | ']' | '{' | '}' | '#' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`'
        | ' ' => false,
        _ => true,
    };
    starts
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.starts_with("---")
        && !text.starts_with("...")
        && !is_other_type(text)
}

/// Whether a plain text would be read as something else than a text, by YAML 1.1 or 1.2.
fn is_other_type(text: &str) -> bool {
    const WORDS: [&str; 12] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "=", "<<"];
    if WORDS.contains(&text.to_lowercase().as_str()) {
        return true;
    }
    // Numbers in all their spellings, sexagesimal ones and dates: over-quoting them costs nothing.
    let digits = text.trim_start_matches(['-', '+', '.']);
    let number_like =
        |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | '_' | ':' | '-' | '+' | 'x' | 'o' | 'T' | 'Z');
    let special = matches!(text.to_lowercase().trim_start_matches(['-', '+']), ".inf" | ".nan");
    let versions = text.matches('.').count() > 1;
    special
        || (digits.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(number_like) && !versions)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_yaml_form_is_canonical() {
        let value = json!({
            "b": [{"z": 1, "a": [["x"], []]}, "y: z", {}],
            "a": {"text": "one\n\ntwo\n", "empty": "", "none": null, "yes": "yes", "flag": true},
        });
        let expected = "\
a:
  empty: ''
  flag: true
  none: null
  text: |
    one

    two
  'yes': 'yes'
b:
- a:
  - - x
  - []
  z: 1
- 'y: z'
- {}
";
        assert_eq!(document(&value), expected);
        assert_eq!(documents([&json!({"a": 1}), &json!({"b": 2})]), "---\na: 1\n---\nb: 2\n");
    }

    #[test]
    fn strings_round_trip() {
        for text in [
            "",
            " ",
            "a",
            "a b",
            "a: b",
            "a #b",
            "a:",
            ":8081",
            "- a",
            "-De",
            "-",
            "?",
            "#",
            "&a",
            "*",
            "!x",
            "|",
            ">",
            "'",
            "\"",
            "%",
            "@",
            "`",
            "{}",
            "[]",
            "1",
            "1.5",
            "0x1f",
            "0o7",
            "017",
            "1_000",
            "12:30:45",
            "2026-11-23",
            "1e3",
            ".5",
            ".inf",
            "-.INF",
            ".nan",
            "true",
            "True",
            "no",
            "Off",
            "y",
            "~",
            "null",
            "=",
            "<<",
            "---",
            "... x",
            "2.3.0",
            "v2.3.0",
            "a\tb",
            "a\rb",
            "a\u{85}b",
            "\u{feff}",
            "\u{7}",
            "é",
            "one\ntwo",
            "one\ntwo\n",
            "one\ntwo\n\n\n",
            "\none\n",
            "  one\ntwo\n",
            "one\n  two \n",
            "one\n",
            "\n",
            "\n\n",
            "a\r\nb\n",
            "metadata.labels['a.b/c']",
            "it's",
            "x\n---\ny\n",
            "# a\nb\n",
            "a\n\tb\n",
            "trailing \nx",
        ] {
            for value in
                [json!(text), json!({ "k": text }), json!([text, [text], {"k": [text]}]), json!({ text: 1 })]
            {
                let printed = document(&value);
                let read: Value = serde_yaml::from_str(&printed)
                    .unwrap_or_else(|error| panic!("{text:?}: {error}\n{printed}"));
                assert_eq!(read, value, "{printed}");
            }
        }
    }

    #[test]
    fn strings_that_yaml_1_1_would_convert_are_quoted() {
        for text in ["yes", "on", "12:30", "1_0", "0x1", "2026-11-23", "=", "017", "~"] {
            assert_eq!(document(&json!(text)), format!("'{text}'\n"));
        }
        for text in ["2.3.0", "v1", ":8081", "-De", "1Gi", "500m", "hf://a/b", "10.0.0.1:80"] {
            assert_eq!(document(&json!(text)), format!("{text}\n"));
        }
    }
}
