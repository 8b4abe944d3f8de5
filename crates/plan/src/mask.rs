//! Values that nobody may see: what a Secret holds.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::object::ObjectKey;
use crate::ownership::FieldChange;

/// What stands in place of a value.
const SENSITIVE: &str = "(sensitive)";
/// The same for the new one of two values that differ.
const CHANGED: &str = "(sensitive, changed)";

/// Where `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The change as it may be shown: values that a Secret holds are replaced by words that say whether they
/// differ; other changes come back as they are. Masking twice is masking once.
pub fn masked(key: &ObjectKey, change: FieldChange) -> FieldChange {
    if key.kind != "Secret" || !key.group.is_empty() {
        return change;
    }
    let fields: Vec<&str> = change.path.fields().collect();
    let (from, to) = hide(&fields, change.from, change.to);
    FieldChange { from, to, path: change.path }
}

/// Hides what is sensitive in two values that stand at the path `fields` of a Secret.
fn hide(fields: &[&str], from: Option<Value>, to: Option<Value>) -> (Option<Value>, Option<Value>) {
    match fields {
        ["data" | "stringData", _, ..] | ["metadata", "annotations", LAST_APPLIED, ..] => words(from, to),
        [] | ["data" | "stringData" | "metadata"] | ["metadata", "annotations"] => {
            each_field(fields, from, to)
        }
        _ => (from, to),
    }
}

fn words(from: Option<Value>, to: Option<Value>) -> (Option<Value>, Option<Value>) {
    let word = if from.is_some() && from != to { CHANGED } else { SENSITIVE };
    (from.map(|_| SENSITIVE.into()), to.map(|_| word.into()))
}

/// Both values field by field; what is no map is hidden as a whole.
fn each_field(fields: &[&str], from: Option<Value>, to: Option<Value>) -> (Option<Value>, Option<Value>) {
    let is_map = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_object);
    if !is_map(&from) || !is_map(&to) {
        return words(from, to);
    }
    let mut hidden = (from.is_some().then(Map::new), to.is_some().then(Map::new));
    let names: BTreeSet<String> = [&from, &to]
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .cloned()
        .collect();
    for name in names {
        let of = |value: &Option<Value>| value.as_ref().and_then(|value| value.get(&name)).cloned();
        let (old, new) = hide(&[fields, &[name.as_str()]].concat(), of(&from), of(&to));
        for (fields, value) in [(&mut hidden.0, old), (&mut hidden.1, new)] {
            if let (Some(fields), Some(value)) = (fields, value) {
                fields.insert(name.clone(), value);
            }
        }
    }
    (hidden.0.map(Value::Object), hidden.1.map(Value::Object))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::masked;
    use crate::object::ObjectKey;
    use crate::ownership::FieldChange;

    fn mask(kind: &str, group: &str, path: &str, from: &Value, to: &Value) -> (Value, Value) {
        let key = ObjectKey { group: group.into(), kind: kind.into(), namespace: None, name: "x".into() };
        let some = |value: &Value| (!value.is_null()).then(|| value.clone());
        let change = FieldChange { path: path.parse().unwrap(), from: some(from), to: some(to) };
        let once = masked(&key, change);
        assert_eq!(masked(&key, once.clone()), once, "{path}");
        (once.from.unwrap_or_default(), once.to.unwrap_or_default())
    }

    #[test]
    fn secrets_show_which_values_differ_without_the_values() {
        let (old, new, shown, differs) = ("b2xk", "bmV3", "(sensitive)", "(sensitive, changed)");
        let last = "kubectl.kubernetes.io/last-applied-configuration";
        let rows = [
            (".data.k", json!(old), json!(new), json!(shown), json!(differs)),
            (".stringData.k", json!(old), json!(new), json!(shown), json!(differs)),
            (".data.k", Value::Null, json!(new), Value::Null, json!(shown)),
            (".data.k", json!(old), Value::Null, json!(shown), Value::Null),
            (
                ".data",
                json!({"a": old, "b": old, "c": old}),
                json!({"a": old, "b": new, "d": new}),
                json!({"a": shown, "b": shown, "c": shown}),
                json!({"a": shown, "b": differs, "d": shown}),
            ),
            (".data", json!(old), json!({"a": new}), json!(shown), json!(differs)),
            (
                ".",
                json!({"data": {"a": old}, "type": "x"}),
                Value::Null,
                json!({"data": {"a": shown}, "type": "x"}),
                Value::Null,
            ),
            (
                ".metadata.annotations",
                json!({last: old, "a": "b"}),
                Value::Null,
                json!({last: shown, "a": "b"}),
                Value::Null,
            ),
            (
                r#".metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]"#,
                json!(old),
                Value::Null,
                json!(shown),
                Value::Null,
            ),
            (".type", json!("a"), json!("b"), json!("a"), json!("b")),
            (".metadata.labels.data", json!("a"), json!("b"), json!("a"), json!("b")),
        ];
        for (path, from, to, shown_from, shown_to) in rows {
            let hidden = mask("Secret", "", path, &from, &to);
            assert_eq!(hidden, (shown_from, shown_to), "{path}: {from} -> {to}");
        }
    }

    #[test]
    fn objects_other_than_secrets_are_not_masked() {
        for (kind, group) in [("ConfigMap", ""), ("Secret", "example.org")] {
            let values = (json!("a"), json!("b"));
            assert_eq!(mask(kind, group, ".data.k", &values.0, &values.1), values);
        }
    }
}
