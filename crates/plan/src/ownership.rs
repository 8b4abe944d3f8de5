//! What one object needs so that the intent holds: judged from `managedFields`, without an API call.
//!
//! Only the leaves of the intent count, so what the API server defaults is no difference. What we own
//! and the intent no longer has is removed. A list merges as the owners' entries show (by keys, as a
//! set, as a whole), so no schema is needed.
//!
//! Caveats: the order of a list that merges by keys is not compared. Inside a list or map that is owned
//! as a whole, a field that the intent lacks is either an API server's default or a stray: `last`
//! decides, and where it cannot, the known defaults do; a wrong guess costs one write that changes nothing.

mod equality;
mod lists;
mod owners;
mod path;
mod walk;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;

pub(crate) use self::lists::key_value;
pub use self::path::{FieldPath, ParseError, Segment};

/// What one object needs so that the intent holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Fields to change, sorted by path as printed.
    pub changes: Vec<FieldChange>,
    /// Changes that another manager stands against, sorted by path, then manager.
    pub conflicts: Vec<Conflict>,
    /// We have fields to own and own none: the object needs an apply even where nothing changes.
    pub never_applied: bool,
    /// Another manager owns a field whose value would change: an apply succeeds only if it takes the field.
    pub contested: bool,
}

impl Comparison {
    /// Whether the intent holds already: nothing to write.
    pub fn holds(&self) -> bool {
        self.changes.is_empty() && !self.never_applied
    }
}

/// A field that an apply would change. Values are as the intent and the live object spell them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Which field.
    pub path: FieldPath,
    /// What it is; `None` where it is absent.
    pub from: Option<Value>,
    /// What it shall be; `None` where it shall go.
    pub to: Option<Value>,
}

/// A field that another manager owns with another value, and that was never ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Which field: the one that is owned, at or above the one that changes.
    pub path: FieldPath,
    /// Who owns it.
    pub manager: String,
    /// The value it has.
    pub theirs: Value,
    /// The value that the intent gives it.
    pub ours: Value,
}

/// What other managers own of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The field that they own: the one that was asked about, or the whole that it is in.
    pub at: FieldPath,
    /// Their names, sorted.
    pub managers: Vec<String>,
    /// The first that owns it by a server-side apply: it means to keep it.
    pub applier: Option<String>,
}

/// Compares `intent`, the manifest that a server-side apply would send, with `live`, the object as the
/// API server returned it, `managedFields` included.
///
/// `last` is what our last revision sent, if any: its fields are enforced, whoever changed them since.
/// `manager` is our field manager. A value that we never owned and that equals the intent is no change:
/// there is nothing to write, whoever set it. What we own together with another manager is not removed.
pub fn compare(intent: &Value, last: Option<&Value>, live: &Value, manager: &str) -> Comparison {
    let owners = owners::Owners::of(live, manager);
    let intent = sent(intent);
    let last = last.map(sent);
    let mut comparison = walk::walk(&intent, last.as_deref(), live, &owners);
    comparison.never_applied = !owners.applied && walk::has_own_fields(&intent);
    comparison.changes.sort_by_cached_key(|change| change.path.to_string());
    comparison.conflicts.sort_by_cached_key(|conflict| (conflict.path.to_string(), conflict.manager.clone()));
    comparison
}

/// Whether `manager` has ever applied the object: it carries an entry of its server-side applies.
pub fn applied_by(live: &Value, manager: &str) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| owners::is_apply_of(entry, manager))
}

/// Whether a CRD is applied by others, too: another manager owns a part of what it defines. What controllers set of it
/// while it is served (the conversion webhook's CA bundle, the status) does not count.
pub fn is_shared(crd: &Value, manager: &str) -> bool {
    let entries = crd.pointer("/metadata/managedFields").and_then(Value::as_array);
    let others = entries.into_iter().flatten().filter(|entry| {
        entry["manager"].as_str() != Some(manager)
            && entry["subresource"].as_str().unwrap_or_default().is_empty()
    });
    let defines = |entry: &Value| {
        ["f:group", "f:names", "f:scope", "f:versions"]
            .iter()
            .any(|field| !entry["fieldsV1"]["f:spec"][field].is_null())
    };
    others.into_iter().any(defines)
}

/// Whether `manager` made the object by a server-side apply, as far as `metadata` tells: its fields were there from
/// the beginning, and nobody else's were.
///
/// Times are the API server's, in seconds, and the one of an entry may be a second before that of the object.
pub fn made_by(live: &Value, manager: &str) -> bool {
    let created = live["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let at_first = entries.into_iter().flatten().filter(|entry| {
        entry["subresource"].as_str().unwrap_or_default().is_empty()
            && entry["time"].as_str().is_some_and(|time| time <= created)
    });
    let (ours, theirs): (Vec<&Value>, Vec<&Value>) =
        at_first.partition(|entry| owners::is_apply_of(entry, manager));
    !ours.is_empty() && theirs.is_empty()
}

/// Whether a manager other than `manager` owns what is at `path`, or a part of it, or the whole that it is in.
pub fn others_own(live: &Value, manager: &str, path: &FieldPath) -> bool {
    owners::Owners::of(live, manager).others_own(path)
}

/// Whether `manager` owns what is at `path` by its server-side applies, and nobody else any of it.
pub fn is_ours_alone(live: &Value, manager: &str, path: &FieldPath) -> bool {
    let owners = owners::Owners::of(live, manager);
    owners.ours_at(path) && !owners.others_own(path)
}

/// What others own of the field at `path`. `None` where nobody but `manager` owns any of it.
pub fn foreign(live: &Value, manager: &str, path: &FieldPath) -> Option<Foreign> {
    let owners = owners::Owners::of(live, manager);
    let (steps, others) = owners.others_at(path);
    let managers: BTreeSet<&str> = owners.names(others).collect();
    let appliers = owners::Owners::of_applies(live, manager);
    let applied: BTreeSet<&str> = appliers.names(appliers.others_at(path).1).collect();
    (!managers.is_empty()).then(|| Foreign {
        at: path.segments().iter().take(steps).cloned().collect(),
        managers: managers.into_iter().map(str::to_owned).collect(),
        applier: applied.into_iter().next().map(str::to_owned),
    })
}

/// Who owns the field at `path` through a subresource of the object, such as `scale`: names with the subresource. An
/// entry of `manager` itself counts too, for only its server-side applies of the object are ours; who wrote it is not
/// known by that name.
pub fn through_subresource(live: &Value, manager: &str, path: &FieldPath) -> Vec<(String, String)> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let mut found = BTreeSet::new();
    for entry in entries.filter(|entry| !text(entry, "subresource").is_empty()) {
        // As if it were the only one, and its manager nobody we know.
        let mut alone = entry.clone();
        alone["manager"] = Value::from("");
        let alone = serde_json::json!({"metadata": {"managedFields": [alone]}});
        if owners::Owners::of(&alone, manager).others_own(path) {
            let who = match entry["manager"].as_str() {
                None => "an unnamed manager",
                Some(name) if name == manager => "unknown",
                Some(name) => name,
            };
            found.insert((who.to_owned(), text(entry, "subresource")));
        }
    }
    found.into_iter().collect()
}

/// Whether `manager` owns every field of `intent` by its server-side applies, as far as `metadata.managedFields`
/// of `live` tells. A field that the API server does not store counts as not owned.
pub fn owns(live: &Value, manager: &str, intent: &Value) -> bool {
    owners::Owners::of(live, manager).own(&sent(intent))
}

/// A JSON pointer (RFC 6901) into a manifest as a path, where it leads to something.
pub fn pointed(manifest: &Value, pointer: &str) -> Option<FieldPath> {
    lists::pointed(manifest, pointer)
}

/// A manifest as the API server stores it: a Secret's `stringData` becomes `data`.
fn sent(manifest: &Value) -> Cow<'_, Value> {
    let is_secret = manifest.get("kind").and_then(Value::as_str) == Some("Secret")
        && manifest.get("apiVersion").and_then(Value::as_str) == Some("v1");
    let Some(Value::Object(plain)) = manifest.get("stringData").filter(|_| is_secret) else {
        return Cow::Borrowed(manifest);
    };
    let mut stored = manifest.clone();
    if let Some(fields) = stored.as_object_mut() {
        fields.remove("stringData");
        let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
        if !data.is_object() {
            *data = Value::Object(Map::new());
        }
        for (key, value) in plain {
            data[key] = Value::String(BASE64_STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
    Cow::Owned(stored)
}

#[cfg(test)]
mod tests;
