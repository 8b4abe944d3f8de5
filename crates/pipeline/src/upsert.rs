//! Putting items into lists: the first one that is meant is replaced as a whole, else the item is appended.

use serde_json::{Value, json};

use crate::BuildProfile;
use crate::value::{at, text};

/// Whether two items are meant to be one.
type Same = fn(&Value, &Value) -> bool;

fn upsert(list: &mut Vec<Value>, items: impl IntoIterator<Item = Value>, same: Same) {
    for item in items {
        match list.iter_mut().find(|known| same(known, &item)) {
            Some(known) => *known = item,
            None => list.push(item),
        }
    }
}

fn same_name(a: &Value, b: &Value) -> bool {
    at(a, &["name"]) == at(b, &["name"])
}

/// Environment variables, by name.
pub(crate) fn env(list: &mut Vec<Value>, items: impl IntoIterator<Item = Value>) {
    upsert(list, items, same_name);
}

/// Volumes, by name.
pub(crate) fn volumes(list: &mut Vec<Value>, items: impl IntoIterator<Item = Value>) {
    upsert(list, items, same_name);
}

/// Mounts, by where they are.
pub(crate) fn mounts(list: &mut Vec<Value>, items: impl IntoIterator<Item = Value>) {
    upsert(list, items, |a, b| at(a, &["mountPath"]) == at(b, &["mountPath"]));
}

/// Ports, by number or by name; two without a name have the same one, as upstream compares them.
pub(crate) fn ports(list: &mut Vec<Value>, items: impl IntoIterator<Item = Value>) {
    upsert(list, items, |a, b| {
        at(a, &["containerPort"]) == at(b, &["containerPort"]) || at(a, &["name"]) == at(b, &["name"])
    });
}

/// A variable with a value.
pub(crate) fn variable(name: &str, value: impl Into<String>) -> Value {
    json!({ "name": name, "value": value.into() })
}

/// A variable with the value of a field of the pod.
pub(crate) fn field_variable(name: &str, path: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } })
}

/// A variable of a TrainJob as it goes into a container: rebuilt from the sources that upstream knows. It degrades
/// others to an empty `valueFrom`, and drops the API version of a field; our profile copies both.
pub(crate) fn of_train_job(given: &Value, profile: BuildProfile) -> Value {
    let name = text(given, &["name"]).unwrap_or_default();
    let from = at(given, &["valueFrom"]);
    if !from.is_object() {
        return variable(name, text(given, &["value"]).unwrap_or_default());
    }
    let mut source = json!({});
    let word = |kind: &str, key: &str| text(from, &[kind, key]).unwrap_or_default();
    if from.get("fieldRef").is_some_and(Value::is_object) {
        source["fieldRef"] = json!({ "fieldPath": word("fieldRef", "fieldPath") });
        if let (BuildProfile::Extended, Some(version)) = (profile, text(from, &["fieldRef", "apiVersion"])) {
            source["fieldRef"]["apiVersion"] = version.into();
        }
    }
    if let Some(field) = from.get("resourceFieldRef").filter(|field| field.is_object()) {
        let divisor = trainerd_schema::Quantity::of(at(field, &["divisor"])).unwrap_or_default();
        source["resourceFieldRef"] = json!({
            "containerName": word("resourceFieldRef", "containerName"),
            "resource": word("resourceFieldRef", "resource"),
            "divisor": divisor.to_string(),
        });
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        let Some(key) = from.get(kind).filter(|key| key.is_object()) else { continue };
        source[kind] = json!({ "key": word(kind, "key"), "name": word(kind, "name") });
        if let Some(optional) = key.get("optional").and_then(Value::as_bool) {
            source[kind]["optional"] = optional.into();
        }
    }
    if let (BuildProfile::Extended, Some(file)) =
        (profile, from.get("fileKeyRef").filter(|file| file.is_object()))
    {
        source["fileKeyRef"] = crate::wire::normal("FileKeySelector", file);
    }
    json!({ "name": name, "valueFrom": source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_is_replaced_and_others_are_appended() {
        let mut list = vec![json!({"name": "A", "value": "1"}), json!({"name": "B"})];
        env(&mut list, [variable("B", "2"), variable("C", "3")]);
        let expected = [variable("A", "1"), variable("B", "2"), variable("C", "3")];
        assert_eq!(list, expected);
        env(&mut list, expected.clone());
        assert_eq!(list, expected, "putting in what is there changes nothing");
    }

    #[test]
    fn an_unnamed_port_replaces_an_unnamed_port() {
        for (list, expected) in [
            (json!([{"containerPort": 80}]), json!([{"containerPort": 29500}])),
            (
                json!([{"containerPort": 80, "name": "a"}]),
                json!([{"containerPort": 80, "name": "a"}, {"containerPort": 29500}]),
            ),
            (
                json!([{"containerPort": 29500, "name": "a", "protocol": "UDP"}]),
                json!([{"containerPort": 29500}]),
            ),
        ] {
            let mut list = list.as_array().unwrap().clone();
            ports(&mut list, [json!({"containerPort": 29500})]);
            assert_eq!(Value::Array(list), expected);
        }
    }

    #[test]
    fn variables_are_rebuilt() {
        for (given, upstream, extended) in [
            (json!({"name": "A"}), json!({"name": "A", "value": ""}), None),
            (
                json!({"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}),
                json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
                Some(
                    json!({"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}),
                ),
            ),
            (
                json!({"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1000m"}}}),
                json!({"name": "A", "valueFrom": {"resourceFieldRef": {"containerName": "", "resource": "limits.cpu", "divisor": "1"}}}),
                None,
            ),
            (
                json!({"name": "A", "valueFrom": {"secretKeyRef": {"key": "k", "optional": false}}}),
                json!({"name": "A", "valueFrom": {"secretKeyRef": {"key": "k", "name": "", "optional": false}}}),
                None,
            ),
            (
                json!({"name": "A", "valueFrom": {"fileKeyRef": {"key": "k", "path": "p", "volumeName": "v"}}}),
                json!({"name": "A", "valueFrom": {}}),
                Some(
                    json!({"name": "A", "valueFrom": {"fileKeyRef": {"key": "k", "path": "p", "volumeName": "v"}}}),
                ),
            ),
        ] {
            assert_eq!(of_train_job(&given, BuildProfile::Upstream), upstream);
            assert_eq!(of_train_job(&given, BuildProfile::Extended), extended.unwrap_or(upstream));
        }
    }
}
