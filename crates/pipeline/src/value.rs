//! Reaching into JSON: what is absent or of another form is empty.

use serde_json::{Map, Value};

pub(crate) type Object = Map<String, Value>;

static NULL: Value = Value::Null;

/// What is at the path; null where something on the way is absent.
pub(crate) fn at<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter().fold(value, |value, key| value.get(key).unwrap_or(&NULL))
}

/// The text at the path.
pub(crate) fn text<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    at(value, path).as_str()
}

/// The number at the path, if it fits Go's `int32`.
pub(crate) fn int32(value: &Value, path: &[&str]) -> Option<i32> {
    at(value, path).as_i64().and_then(|number| i32::try_from(number).ok())
}

/// Whether `true` is at the path.
pub(crate) fn is_true(value: &Value, path: &[&str]) -> bool {
    at(value, path).as_bool() == Some(true)
}

/// Items of the list at the path.
pub(crate) fn items<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// Texts of the list at the path.
pub(crate) fn texts(value: &Value, path: &[&str]) -> Vec<String> {
    items(value, path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The object at the path, made where it is absent.
pub(crate) fn object_mut<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Object {
    let mut value = as_object(value);
    for key in path {
        value = as_object(value.entry(*key).or_insert(Value::Null));
    }
    value
}

/// The list at the path, made where it is absent. The path is not empty.
pub(crate) fn list_mut<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Vec<Value> {
    let (last, parents) = path.split_last().unwrap_or((&"", &[]));
    let at = object_mut(value, parents).entry(*last).or_insert(Value::Null);
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    // Made above; the borrow checker does not see it.
    at.as_array_mut().unwrap_or_else(|| Box::leak(Box::default()))
}

fn as_object(value: &mut Value) -> &mut Object {
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut().unwrap_or_else(|| Box::leak(Box::default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_values_are_empty_and_created_on_write() {
        let mut value = json!({"a": {"b": [1]}, "t": "x"});
        assert_eq!(at(&value, &["a", "b"]), &json!([1]));
        assert_eq!(at(&value, &["t", "b"]), &Value::Null);
        assert_eq!(int32(&json!(2_147_483_648_i64), &[]), None);
        list_mut(&mut value, &["t", "l"]).push(json!(2));
        object_mut(&mut value, &["n", "m"]).insert("k".into(), json!(3));
        assert_eq!(value, json!({"a": {"b": [1]}, "t": {"l": [2]}, "n": {"m": {"k": 3}}}));
    }
}
