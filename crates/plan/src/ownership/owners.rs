//! `managedFields` of an object as one tree: who owns what.
//!
//! The format is FieldsV1 (structured-merge-diff): `f:` a field, `k:` a list item by its keys, `v:` a
//! set element, `i:` a place in a list, `.` the node itself; a node without children is owned as a whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::equality::void;
use super::lists::keys_of;
use super::walk::{IDENTITY, METADATA_IDENTITY};
use super::{FieldPath, Segment};

/// The fields that identify a list item, with their values.
pub(super) type Keys = Vec<(String, Value)>;

/// A set of managers, by their place in [`Owners::managers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Managers(u128);

/// Our server-side apply entries.
const OURS: Managers = Managers(1);

/// The API server folds updates beyond ten managers into one entry; appliers come on top. Those beyond
/// this many share the last place: an owner all the same, only its name may be another's.
const MOST: usize = 127;

impl Managers {
    pub(super) fn ours(self) -> bool {
        self.0 & OURS.0 != 0
    }

    pub(super) fn others(self) -> Self {
        Self(self.0 & !OURS.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What is owned at one place of the object, and below it.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    /// Who owns this very path.
    pub(super) this: Managers,
    /// Who owns this path or anything below it.
    pub(super) below: Managers,
    /// Who owns this path with everything below it, whatever that is.
    atomic: Managers,
    pub(super) fields: BTreeMap<&'a str, Node<'a>>,
    pub(super) items: Vec<(Keys, Node<'a>)>,
    pub(super) elements: Vec<(Value, Node<'a>)>,
}

impl<'a> Node<'a> {
    fn add(&mut self, fields: &'a Map<String, Value>, manager: Managers) {
        self.below.add(manager);
        if fields.is_empty() {
            self.this.add(manager);
            self.atomic.add(manager);
        }
        for (name, child) in fields {
            let Some(child) = child.as_object() else { continue };
            match name.split_once(':') {
                None if name == "." => self.this.add(manager),
                Some(("f", field)) => self.fields.entry(field).or_default().add(child, manager),
                Some(("k", keys)) => {
                    if let Ok(keys) = serde_json::from_str::<Map<String, Value>>(keys) {
                        entry(&mut self.items, keys.into_iter().collect()).add(child, manager);
                    }
                }
                Some(("v", value)) => {
                    if let Ok(value) = serde_json::from_str(value) {
                        entry(&mut self.elements, value).add(child, manager);
                    }
                }
                // A place in a list: the list is compared as a whole, so it is owned as a whole.
                _ => self.this.add(manager),
            }
        }
    }

    /// Whether this is owned as a whole: atomic in its owners' eyes, or a single value.
    pub(super) fn is_whole(&self) -> bool {
        !self.this.is_empty() && self.fields.is_empty() && self.items.is_empty() && self.elements.is_empty()
    }

    fn child(&self, segment: &Segment) -> Option<&Node<'a>> {
        match segment {
            Segment::Field(name) => self.fields.get(name.as_str()),
            Segment::Item(keys) => self.item(keys),
            Segment::Element(value) => {
                self.elements.iter().find(|(own, _)| own == value).map(|(_, node)| node)
            }
            Segment::Index(_) => None,
        }
    }

    pub(super) fn item(&self, keys: &Keys) -> Option<&Node<'a>> {
        self.items.iter().find(|(own, _)| same_keys(own, keys)).map(|(_, node)| node)
    }
}

fn entry<'n, 'a, K: PartialEq>(all: &'n mut Vec<(K, Node<'a>)>, key: K) -> &'n mut Node<'a> {
    let place = all.iter().position(|(own, _)| *own == key).unwrap_or_else(|| {
        all.push((key, Node::default()));
        all.len() - 1
    });
    &mut all[place].1
}

/// Keys in whatever order.
pub(super) fn same_keys(left: &Keys, right: &Keys) -> bool {
    left.len() == right.len() && left.iter().all(|pair| right.contains(pair))
}

/// Whether a node, as ours, covers all of a value.
fn covers(node: Option<&Node<'_>>, value: &Value) -> bool {
    if void(value) {
        return true;
    }
    let Some(node) = node.filter(|node| node.below.ours()) else { return false };
    if node.atomic.ours() {
        return true;
    }
    match value {
        Value::Object(fields) => {
            fields.iter().all(|(name, value)| covers(node.fields.get(name.as_str()), value))
        }
        Value::Array(items) => match node.items.first() {
            Some((keys, _)) => {
                let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
                items
                    .iter()
                    .all(|item| keys_of(item, &names).is_some_and(|keys| covers(node.item(&keys), item)))
            }
            None => items
                .iter()
                .all(|item| node.elements.iter().any(|(own, node)| own == item && node.below.ours())),
        },
        _ => false,
    }
}

/// Whether an entry of `managedFields` is of the server-side applies of `manager`.
pub(super) fn is_apply_of(entry: &Value, manager: &str) -> bool {
    text(entry, "manager") == manager
        && text(entry, "operation") == "Apply"
        && text(entry, "subresource").is_empty()
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Everybody's ownership of one object.
#[derive(Debug, Default)]
pub(super) struct Owners<'a> {
    managers: Vec<&'a str>,
    pub(super) root: Node<'a>,
    /// Whether we have ever applied the object.
    pub(super) applied: bool,
}

impl<'a> Owners<'a> {
    /// Reads `metadata.managedFields` of `live`. `manager` is our field manager; only its server-side
    /// applies are ours, and what it did by other verbs counts as nobody's.
    pub(super) fn of(live: &'a Value, manager: &'a str) -> Self {
        Self::of_entries(live, manager, |_| true)
    }

    /// As [`Self::of`], of those alone that own by a server-side apply.
    pub(super) fn of_applies(live: &'a Value, manager: &'a str) -> Self {
        Self::of_entries(live, manager, |entry| text(entry, "operation") == "Apply")
    }

    fn of_entries(live: &'a Value, manager: &'a str, wanted: fn(&Value) -> bool) -> Self {
        let mut owners = Self { managers: vec![manager], ..Self::default() };
        let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
        for entry in entries.into_iter().flatten().filter(|entry| wanted(entry)) {
            let Some(fields) = entry.get("fieldsV1").and_then(Value::as_object) else { continue };
            let who = if text(entry, "manager") != manager {
                let name = entry.get("manager").and_then(Value::as_str).unwrap_or("an unnamed manager");
                owners.place(name)
            } else if is_apply_of(entry, manager) {
                owners.applied = true;
                OURS
            } else {
                continue;
            };
            owners.root.add(fields, who);
        }
        // An entry without fields owns nothing; only below the root does it own a whole.
        owners.root.this = Managers::default();
        owners
    }

    fn place(&mut self, name: &'a str) -> Managers {
        let found = self.managers.iter().skip(1).position(|own| *own == name).map(|place| place + 1);
        let place = found.unwrap_or_else(|| {
            if self.managers.len() <= MOST {
                self.managers.push(name);
            }
            self.managers.len() - 1
        });
        Managers(1 << place)
    }

    /// Whether others own what is at `path`, or a part of it, or the whole that it is in.
    pub(super) fn others_own(&self, path: &FieldPath) -> bool {
        !self.others_at(path).1.is_empty()
    }

    /// The others that own what is at `path`, or a part of it, or the whole that it is in; and how many steps of
    /// the path lead to what they own.
    pub(super) fn others_at(&self, path: &FieldPath) -> (usize, Managers) {
        let mut node = &self.root;
        for (steps, segment) in path.segments().iter().enumerate() {
            if !node.this.others().is_empty() && node.is_whole() {
                return (steps, node.this.others());
            }
            let Some(next) = node.child(segment) else { return (steps, Managers::default()) };
            node = next;
        }
        (path.segments().len(), node.below.others())
    }

    /// Whether we own what is at `path`, or a part of it, or the whole that it is in.
    pub(super) fn ours_at(&self, path: &FieldPath) -> bool {
        let mut node = &self.root;
        for segment in path.segments() {
            if node.this.ours() && node.is_whole() {
                return true;
            }
            let Some(next) = node.child(segment) else { return false };
            node = next;
        }
        node.below.ours()
    }

    /// Whether every field of an intent is ours.
    pub(super) fn own(&self, intent: &Value) -> bool {
        let fields = intent.as_object().into_iter().flatten();
        self.applied
            && fields.filter(|(name, _)| !IDENTITY.contains(&name.as_str())).all(|(name, value)| {
                let node = self.root.fields.get(name.as_str());
                if name != "metadata" {
                    return covers(node, value);
                }
                let fields = value.as_object().into_iter().flatten();
                fields
                    .filter(|(name, _)| !METADATA_IDENTITY.contains(&name.as_str()))
                    .all(|(name, value)| covers(node.and_then(|node| node.fields.get(name.as_str())), value))
            })
    }

    /// The names of a set of managers.
    pub(super) fn names(&self, of: Managers) -> impl Iterator<Item = &'a str> {
        self.managers
            .iter()
            .enumerate()
            .filter(move |(place, _)| of.0 & (1 << place) != 0)
            .map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Owners;

    fn entry(manager: &str, operation: &str, subresource: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": fields})
    }

    fn live(entries: &Value) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    #[test]
    fn entries_of_all_managers_become_one_tree() {
        let live = live(&json!([
            entry(
                "us",
                "Apply",
                "",
                &json!({"f:spec": {"f:image": {}, "f:ports": {
                "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}})
            ),
            entry("us", "Update", "", &json!({"f:spec": {"f:updated": {}}})),
            entry("us", "Apply", "status", &json!({"f:status": {"f:x": {}}})),
            entry(
                "them",
                "Update",
                "",
                &json!({"f:spec": {"f:image": {}},
                "f:metadata": {"f:finalizers": {".": {}, "v:\"a\"": {}}}})
            ),
        ]));
        let owners = Owners::of(&live, "us");
        assert!(owners.applied);
        let spec = &owners.root.fields["spec"];
        let image = &spec.fields["image"];
        assert!(image.this.ours() && image.is_whole());
        assert_eq!(owners.names(image.this.others()).collect::<Vec<_>>(), ["them"]);
        assert!(spec.this.is_empty() && spec.below.ours() && !spec.is_whole());
        assert!(!spec.fields.contains_key("updated") && !owners.root.fields.contains_key("status"));
        let ports = &spec.fields["ports"];
        let keys = vec![("protocol".to_owned(), json!("TCP")), ("port".to_owned(), json!(80))];
        assert!(ports.item(&keys).is_some_and(|item| item.this.ours() && item.fields.contains_key("port")));
        let finalizers = &owners.root.fields["metadata"].fields["finalizers"];
        assert_eq!(finalizers.elements[0].0, json!("a"));
        assert!(!finalizers.below.ours());
    }

    #[test]
    fn without_our_apply_we_own_nothing() {
        for entries in [Value::Null, json!([]), json!([entry("us", "Update", "", &json!({"f:spec": {}}))])] {
            let live = live(&entries);
            let owners = Owners::of(&live, "us");
            assert!(!owners.applied && !owners.root.below.ours());
        }
    }

    #[test]
    fn more_managers_than_slots_still_own_fields() {
        let entries: Vec<_> =
            (0..200).map(|n| entry(&format!("m{n}"), "Apply", "", &json!({format!("f:{n}"): {}}))).collect();
        let live = live(&json!(entries));
        let owners = Owners::of(&live, "us");
        assert!(!owners.root.fields["199"].this.others().is_empty());
        assert!(owners.names(owners.root.below).count() > 100);
    }
}
