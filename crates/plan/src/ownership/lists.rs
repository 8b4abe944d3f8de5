//! How a list merges: by keys, as a set, or as a whole.

use serde_json::Value;

use super::owners::{Keys, Node};

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
