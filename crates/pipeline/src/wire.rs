//! What Go's types make of a value that goes through them, as upstream's do at every step: fields that a type does not
//! have vanish, empty values mostly too, objects that are no pointers are always there, quantities become canonical.
//!
//! The tables (`types/*.wire`) are facts of the published Go types, one line a field, in the order in which Go writes
//! them: `name! string` is written also when empty, `replicas* int` is a pointer and keeps a zero, `metadata= ObjectMeta`
//! is an object that is always written, everything else is left out when empty.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use trainerd_schema::Quantity;

use crate::go;

macro_rules! tables {
    ($($name:literal),*) => { [$(include_str!(concat!("../types/", $name, ".wire"))),*] };
}

static TYPES: LazyLock<BTreeMap<&'static str, Vec<Field>>> =
    LazyLock::new(|| parse(&tables!["batch", "meta", "pod", "trainer", "volume"]));

#[derive(Debug)]
struct Field {
    name: &'static str,
    presence: Presence,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Left out when empty.
    NonEmpty,
    /// Left out when absent.
    Set,
    /// Always written.
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Integer,
    Boolean,
    Quantity,
    /// Kept as it is.
    Any,
    List(&'static str),
    Map(&'static str),
    Named(&'static str),
}

impl Shape {
    fn of(text: &'static str) -> Self {
        match text {
            "string" | "time" => Self::Text,
            "int" => Self::Integer,
            "bool" => Self::Boolean,
            "quantity" => Self::Quantity,
            "int-or-string" | "any" => Self::Any,
            _ => match (text.strip_prefix("[]"), text.strip_prefix("{}")) {
                (Some(inner), _) => Self::List(inner),
                (_, Some(inner)) => Self::Map(inner),
                _ => Self::Named(text),
            },
        }
    }
}

fn parse(texts: &[&'static str]) -> BTreeMap<&'static str, Vec<Field>> {
    let mut types: BTreeMap<&'static str, Vec<Field>> = BTreeMap::new();
    let mut current = "";
    for line in texts.iter().flat_map(|text| text.lines()) {
        if let Some(name) = line.strip_prefix("type ") {
            current = name;
            types.entry(name).or_default();
        } else if let Some((name, shape)) = line.trim().split_once(' ')
            && line.starts_with(' ')
        {
            let bare = name.trim_end_matches(['!', '*', '=']);
            let presence = match &name[bare.len()..] {
                "" => Presence::NonEmpty,
                "*" => Presence::Set,
                _ => Presence::Always,
            };
            let shape = Shape::of(shape.trim());
            types.entry(current).or_default().push(Field { name: bare, presence, shape });
        }
    }
    types
}

fn fields(of: &str) -> &'static [Field] {
    TYPES.get(of).map_or(&[], Vec::as_slice)
}

/// `value` as the type holds it. A value of another form counts as absent.
pub(crate) fn normal(of: &'static str, value: &Value) -> Value {
    convert(Shape::of(of), value).unwrap_or(Value::Null)
}

/// [`normal`] of something that must be an object; an empty one when it is none.
pub(crate) fn normal_object(of: &'static str, value: &Value) -> Map<String, Value> {
    match normal(of, value) {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn convert(shape: Shape, value: &Value) -> Option<Value> {
    match (shape, value) {
        (_, Value::Null) => None,
        (Shape::Any, value) => Some(value.clone()),
        (Shape::Text, Value::String(_)) | (Shape::Boolean, Value::Bool(_)) => Some(value.clone()),
        (Shape::Integer, Value::Number(number)) => whole(number).map(Value::from),
        (Shape::Quantity, value) => Quantity::of(value).map(|quantity| Value::from(quantity.to_string())),
        (Shape::List(inner), Value::Array(items)) => {
            let inner = Shape::of(inner);
            Some(items.iter().map(|item| convert(inner, item).unwrap_or_else(|| zero(inner))).collect())
        }
        (Shape::Map(inner), Value::Object(entries)) => {
            let inner = Shape::of(inner);
            let entry = |(key, value): (&String, &Value)| {
                (key.clone(), convert(inner, value).unwrap_or_else(|| zero(inner)))
            };
            Some(Value::Object(entries.iter().map(entry).collect()))
        }
        (Shape::Named(name), Value::Object(object)) => {
            let kept = fields(name).iter().filter_map(|field| {
                let value = object.get(field.name).and_then(|value| convert(field.shape, value));
                written(field, value).map(|value| (field.name.to_owned(), value))
            });
            Some(Value::Object(kept.collect()))
        }
        _ => None,
    }
}

/// JSON has whole numbers with a point; Go's decoder of integers refuses them, the API server stores them as integers.
pub(crate) fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(truncated))
}

#[allow(clippy::cast_possible_truncation, reason = "the caller checks that it fits")]
fn truncated(number: f64) -> i64 {
    number as i64
}

fn written(field: &Field, value: Option<Value>) -> Option<Value> {
    match (field.presence, field.shape, value) {
        // Lists and maps end up in apply configurations, which leave empty ones out.
        (_, Shape::List(_) | Shape::Map(_), value) => value.filter(|value| !is_empty(value)),
        (Presence::Set, _, value) => value,
        (Presence::NonEmpty, _, value) => value.filter(|value| !is_empty(value)),
        (Presence::Always, shape, value) => Some(value.unwrap_or_else(|| zero(shape))),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn zero(shape: Shape) -> Value {
    match shape {
        Shape::Text => Value::from(""),
        Shape::Integer => Value::from(0),
        Shape::Boolean => Value::from(false),
        Shape::Quantity => Value::from("0"),
        Shape::Any | Shape::List(_) | Shape::Map(_) => Value::Null,
        Shape::Named(name) => convert(Shape::Named(name), &Value::Object(Map::new())).unwrap_or(Value::Null),
    }
}

/// The text that Go's `json.Marshal` makes of a value of the type: a name of the tables, or `[]Name`.
pub(crate) fn json(of: &'static str, value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, Shape::of(of), &normal(of, value));
    out
}

/// [`json`] of a value that is of the type already; a null that is there is written.
pub(crate) fn json_with_nulls(of: &'static str, value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, Shape::of(of), value);
    out
}

fn write(out: &mut String, shape: Shape, value: &Value) {
    match (shape, value) {
        (_, Value::String(text)) => go::push_json_string(out, text),
        (Shape::List(inner), Value::Array(items)) => {
            let inner = Shape::of(inner);
            separated(out, ('[', ']'), items.iter(), |out, item| write(out, inner, item));
        }
        (Shape::Named(name), Value::Object(object)) => {
            let present = fields(name).iter().filter_map(|field| Some((field, object.get(field.name)?)));
            separated(out, ('{', '}'), present, |out, (field, value)| {
                go::push_json_string(out, field.name);
                out.push(':');
                write(out, field.shape, value);
            });
        }
        // Go sorts the keys of maps, as `Map` does.
        (Shape::Map(inner), Value::Object(entries)) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let inner = Shape::of(inner);
            separated(out, ('{', '}'), entries.into_iter(), |out, (key, value)| {
                go::push_json_string(out, key);
                out.push(':');
                write(out, inner, value);
            });
        }
        (_, value) => out.push_str(&value.to_string()),
    }
}

fn separated<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    mut one: impl FnMut(&mut String, T),
) {
    out.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        one(out, item);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_converted_to_gos_types() {
        for (of, value, expected) in [
            ("EnvVar", json!({"name": "A", "value": ""}), json!({"name": "A"})),
            (
                "VolumeMount",
                json!({"name": "a", "mountPath": "/a", "readOnly": false, "x": 1}),
                json!({"name": "a", "mountPath": "/a"}),
            ),
            ("SecurityContext", json!({"privileged": false}), json!({"privileged": false})),
            (
                "ResourceRequirements",
                json!({"limits": {"cpu": "1000m", "memory": "1024Mi", "a": 2}}),
                json!({"limits": {"cpu": "1", "memory": "1Gi", "a": "2"}}),
            ),
            (
                "Container",
                json!({"image": "i", "args": []}),
                json!({"name": "", "image": "i", "resources": {}}),
            ),
            (
                "ResourceFieldSelector",
                json!({"resource": "limits.cpu"}),
                json!({"resource": "limits.cpu", "divisor": "0"}),
            ),
            ("EmptyDirVolumeSource", json!({"sizeLimit": "0.5"}), json!({"sizeLimit": "500m"})),
            (
                "JobTemplateSpec",
                json!({}),
                json!({"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {}}}}),
            ),
            ("JobSetTemplateSpec", json!({"spec": "no object"}), json!({"metadata": {}, "spec": {}})),
        ] {
            assert_eq!(normal(of, &value), expected, "{of}");
        }
    }

    #[test]
    fn keys_are_ordered_as_in_go() {
        let containers =
            json!([{"volumeMounts": [{"mountPath": "/d", "name": "v"}], "image": "i:1", "name": "x"}]);
        let expected =
            r#"[{"name":"x","image":"i:1","resources":{},"volumeMounts":[{"name":"v","mountPath":"/d"}]}]"#;
        assert_eq!(json("[]Container", &containers), expected);
        assert_eq!(json("[]Container", &Value::Null), "null");
        assert_eq!(
            json("RuntimeRef", &json!({"kind": "K", "name": "<n>"})),
            r#"{"name":"\u003cn\u003e","kind":"K"}"#
        );
    }

    #[test]
    fn every_named_type_is_in_the_tables() {
        for (of, fields) in TYPES.iter() {
            for field in fields {
                let mut shape = field.shape;
                while let Shape::List(inner) | Shape::Map(inner) = shape {
                    shape = Shape::of(inner);
                }
                if let Shape::Named(name) = shape {
                    assert!(TYPES.contains_key(name), "{of}.{}: {name}", field.name);
                }
            }
        }
    }
}
