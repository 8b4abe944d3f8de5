use serde_json::json;

use super::*;

const TYPES: &str = "type ObjectMeta\n  finalizers []string merge\n  labels {}string\n\
    type Env\n  name string required\n  value string\n  from object\n\
    type Port\n  containerPort int32 required\n  protocol string\n\
    type Container\n  name string required\n  image string\n  args []string atomic\n  env []Env map(name) merge(name)\n  \
    ports []Port map(containerPort,protocol) merge(containerPort)\n\
    type Pod\n  metadata object\n  containers []Container map(name) merge(name)\n  tolerations []Env atomic\n  \
    nodeSelector {}string atomic\n  strategy Strategy\n\
    type Strategy\n  type string\n  rolling object\n";

fn merged(original: &Value, patch: &Value) -> Result<Value, MergeError> {
    let table = Table::parse([("test", TYPES)]).unwrap();
    table.merge("Pod", &Levels::default(), original, patch)
}

#[test]
fn maps_and_keyed_lists_merge_and_other_lists_are_replaced() {
    for (original, patch, expected) in [
        // Scalars and maps; null deletes, and adds nothing where there is nothing.
        (
            json!({"nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeSelector": {"b": null, "c": "3", "d": null}}),
            json!({"nodeSelector": {"a": "1", "c": "3"}}),
        ),
        (json!({}), json!({"strategy": {"type": "x", "rolling": null}}), json!({"strategy": {"type": "x"}})),
        // A list without a merge key.
        (
            json!({"tolerations": [{"name": "a"}]}),
            json!({"tolerations": [{"name": "b"}]}),
            json!({"tolerations": [{"name": "b"}]}),
        ),
        // By the merge key, nested; an item keeps what the patch does not name.
        (
            json!({"containers": [{"name": "a", "image": "i", "args": ["x"], "env": [{"name": "E", "value": "1"}]}]}),
            json!({"containers": [{"name": "a", "args": ["y"], "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "3"}]}]}),
            json!({"containers": [{"name": "a", "image": "i", "args": ["y"],
                "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "3"}]}]}),
        ),
        // By the port alone, though server-side apply takes the protocol too.
        (
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "protocol": "TCP"}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "protocol": "UDP"}]}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 1, "protocol": "UDP"}]}]}),
        ),
        // Scalars that are united; the metadata of an object is known by itself.
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
        ),
        // What the table does not know.
        (
            json!({"other": {"a": [1], "b": 1}}),
            json!({"other": {"a": [2]}}),
            json!({"other": {"a": [2], "b": 1}}),
        ),
    ] {
        assert_eq!(merged(&original, &patch), Ok(expected), "{patch}");
    }
}

#[test]
fn patched_items_are_in_the_order_of_the_patch() {
    let list = |names: &str| -> Value {
        names.chars().map(|name| json!({"name": name.to_string()})).collect::<Vec<_>>().into()
    };
    for (patch, expected) in
        [("X", "XABC"), ("BX", "ABXC"), ("XB", "XABC"), ("CA", "BCA"), ("", "ABC"), ("XY", "XYABC")]
    {
        let result = merged(&json!({"containers": list("ABC")}), &json!({"containers": list(patch)}));
        let names: String = result.unwrap()["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, expected, "{patch}");
    }
}

#[test]
fn directives_are_applied() {
    let two = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]});
    for (original, patch, expected) in [
        (
            two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "2"}]}),
        ),
        (
            two.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            json!({"containers": [{"name": "c"}]}),
        ),
        (
            two.clone(),
            json!({"containers": [{"name": "a", "args": ["x"], "$patch": "replace"}]}),
            json!({"containers": [{"name": "a", "args": ["x"]}, {"name": "b", "image": "2"}]}),
        ),
        (
            two.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}),
        ),
        (
            two.clone(),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "c"}, {"name": "a", "image": "1"}]}),
        ),
        (
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"$patch": "replace", "b": "2"}}),
            json!({"nodeSelector": {"b": "2"}}),
        ),
        (
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"$patch": "delete"}}),
            json!({"nodeSelector": {}}),
        ),
        (
            json!({"strategy": {"type": "Rolling", "rolling": {}}}),
            json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
            json!({"strategy": {"type": "Recreate"}}),
        ),
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        ),
        // Where there is nothing to direct, nothing is left of a directive.
        (
            json!({}),
            json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "b"}]}),
            json!({"containers": [{"name": "b"}]}),
        ),
    ] {
        assert_eq!(merged(&original, &patch), Ok(expected), "{patch}");
    }
}

#[test]
fn merge_errors_have_their_path() {
    let one = json!({"containers": [{"name": "a", "env": [{"name": "E"}]}], "tolerations": [{"name": "a"}], "strategy": {}});
    for (patch, expected) in [
        (
            json!({"containers": [{"image": "x"}]}),
            "containers: an item lacks `name`, by which this list is merged",
        ),
        (json!({"containers": ["x"]}), "containers: an item lacks `name`, by which this list is merged"),
        (
            json!({"containers": [{"name": "a", "env": [{"value": "x"}]}]}),
            "containers[a].env: an item lacks `name`, by which this list is merged",
        ),
        (json!({"strategy": {"$patch": "remove"}}), "strategy: `$patch` must be delete, replace or merge"),
        (json!({"strategy": {"$retainKeys": "type"}}), "strategy: `$retainKeys` must be a list"),
        (
            json!({"strategy": {"$retainKeys": [], "type": "x"}}),
            "strategy: `$retainKeys` leaves out `type`, which the patch sets",
        ),
        (
            json!({"tolerations": [{"name": "a", "$patch": "delete"}]}),
            "tolerations: `$patch` is for lists that are merged; this one is replaced as a whole",
        ),
    ] {
        assert_eq!(merged(&one, &patch).unwrap_err().to_string(), expected, "{patch}");
    }
}
