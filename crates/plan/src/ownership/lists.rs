//! How a list merges: by keys, as a set, or as a whole.

use serde_json::Value;

use super::owners::{Keys, Node};
use super::{FieldPath, Segment};

/// Merge keys by the name of the list, for lists that no manager's entry speaks of. Source: the list
/// map keys of Kubernetes' API types; a list with another shape under the same name lacks the keys.
const KEYS: [(&str, &[&str]); 22] = [
    ("claims", &["name"]),
    ("conditions", &["type"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("matchConditions", &["name"]),
    ("ownerReferences", &["uid"]),
    ("ports", &["containerPort", "protocol"]),
    ("ports", &["port", "protocol"]),
    ("replicatedJobs", &["name"]),
    ("resourceClaims", &["name"]),
    ("runtimePatches", &["manager"]),
    ("secrets", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("variables", &["name"]),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
    ("webhooks", &["name"]),
];

/// How a list merges.
pub(super) enum Merge<'a> {
    /// Items found by these fields.
    Keys(Vec<&'a str>),
    /// Elements found by their value.
    Set,
    /// As a whole.
    Atomic,
}

/// The value of a key field; defaulted keys may be left out of a manifest.
pub(crate) fn key_value(item: &Value, name: &str) -> Option<Value> {
    match item.get(name) {
        Some(value) if !value.is_null() => Some(value.clone()),
        _ if name == "protocol" => Some(Value::from("TCP")),
        _ => None,
    }
}

/// The keys of one item. `None` when it lacks one.
pub(super) fn keys_of(item: &Value, names: &[&str]) -> Option<Keys> {
    names.iter().map(|name| Some(((*name).to_owned(), key_value(item, name)?))).collect()
}

/// The item of a list with these keys.
pub(super) fn find<'v>(list: Option<&'v Value>, keys: &Keys) -> Option<&'v Value> {
    list?
        .as_array()?
        .iter()
        .find(|item| keys.iter().all(|(name, value)| key_value(item, name).as_ref() == Some(value)))
}

/// How the list `field` merges: as any manager's entry shows, else as its name says, else as a whole.
pub(super) fn merge<'a>(field: &str, node: Option<&'a Node<'_>>, intent: &[Value]) -> Merge<'a> {
    let all_have = |names: &[&str]| intent.iter().all(|item| keys_of(item, names).is_some());
    if let Some(node) = node {
        if let Some((keys, _)) = node.items.first() {
            let names: Vec<_> = keys.iter().map(|(name, _)| name.as_str()).collect();
            return if all_have(&names) { Merge::Keys(names) } else { Merge::Atomic };
        }
        if !node.elements.is_empty() {
            return Merge::Set;
        }
        if node.is_whole() {
            return Merge::Atomic;
        }
    }
    if field == "finalizers" {
        return Merge::Set;
    }
    KEYS.iter()
        .find(|(list, names)| *list == field && all_have(names))
        .map_or(Merge::Atomic, |(_, names)| Merge::Keys(names.to_vec()))
}

/// A JSON pointer (RFC 6901) as a path: an item of a list that merges by keys is known by these, whatever its
/// place. `None` where it leads nowhere.
pub(super) fn pointed(manifest: &Value, pointer: &str) -> Option<FieldPath> {
    let mut place = manifest;
    let mut field = String::new();
    let mut segments = Vec::new();
    for token in pointer.strip_prefix('/')?.split('/') {
        let token = token.replace("~1", "/").replace("~0", "~");
        match place {
            Value::Object(fields) => {
                place = fields.get(&token)?;
                segments.push(Segment::Field(token.clone()));
                field = token;
            }
            Value::Array(items) => {
                let index: usize = token.parse().ok()?;
                let item = items.get(index)?;
                let keys = match merge(&field, None, items) {
                    Merge::Keys(names) => keys_of(item, &names).map(Segment::Item),
                    Merge::Set => Some(Segment::Element(item.clone())),
                    Merge::Atomic => None,
                };
                segments.push(keys.unwrap_or(Segment::Index(index)));
                place = item;
            }
            _ => return None,
        }
    }
    Some(segments.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::pointed;

    #[test]
    fn pointers_find_fields_escaped_keys_and_list_items() {
        let manifest = json!({
            "metadata": {"annotations": {"a/b": "x", "c~d": "y"}},
            "spec": {"containers": [{"name": "one"}, {"name": "two", "args": ["p", "q"]}]},
        });
        for (pointer, path) in [
            ("/metadata/annotations/a~1b", Some(".metadata.annotations[\"a/b\"]")),
            ("/metadata/annotations/c~0d", Some(".metadata.annotations[\"c~d\"]")),
            ("/spec/containers/1/args", Some(".spec.containers[name=two].args")),
            ("/spec/containers/1/args/0", Some(".spec.containers[name=two].args[0]")),
            ("/spec/containers/2", None),
            ("/spec/replicas", None),
            ("spec", None),
            ("", None),
        ] {
            let found = pointed(&manifest, pointer).map(|path| path.to_string());
            assert_eq!(found.as_deref(), path, "{pointer}");
        }
    }
}
