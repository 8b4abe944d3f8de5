//! Objects of one kind, by name.
//!
//! An object is kept as its JSON text: a tree of values takes five times the memory, and whoever reconciles needs the
//! tree of a few objects at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;
use tokio::sync::watch;

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The name of an object.
    pub(crate) fn of(object: &Value) -> Self {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        Self::new(text("/metadata/namespace"), text("/metadata/name"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An object that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    text: Arc<str>,
    /// `metadata.resourceVersion`.
    pub(crate) version: Arc<str>,
}

impl Stored {
    pub(super) fn new(object: &Value) -> Self {
        let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        Self { text: object.to_string().into(), version: version.into() }
    }

    /// The object.
    pub(crate) fn read(&self) -> Value {
        // It was written from a value.
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Whether its text holds this: a quick look before it is read.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// The API server numbers the versions of a kind, which Kubernetes promises since 1.35 (KEP-5504) and has always
    /// done.
    fn number(&self) -> Option<u128> {
        self.version.parse().ok()
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        match (self.number(), other.number()) {
            (Some(ours), Some(theirs)) => ours > theirs,
            _ => self.version != other.version,
        }
    }
}

/// A change of an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) name: Name,
    /// As it was; `None` for one that was not there.
    pub(crate) old: Option<Stored>,
    /// As it is; `None` for one that is gone.
    pub(crate) new: Option<Stored>,
}

impl Change {
    /// Whether it was known before the watch reported it: it is what we wrote ourselves.
    pub(crate) fn is_own_write(&self) -> bool {
        matches!((&self.old, &self.new), (Some(old), Some(new)) if old.version == new.version)
    }
}

/// Objects of one kind. Clones share them.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    objects: RwLock<Objects>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Objects {
    by_name: HashMap<Name, Stored>,
    /// The newest version that the watch reported.
    seen: u128,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { objects: RwLock::default(), synced: watch::Sender::new(false) }))
    }

    /// An object as it is kept.
    pub(crate) fn stored(&self, name: &Name) -> Option<Stored> {
        self.objects().by_name.get(name).cloned()
    }

    /// An object.
    pub(crate) fn get(&self, name: &Name) -> Option<Value> {
        Some(self.stored(name)?.read())
    }

    /// Whether there is such an object.
    pub(crate) fn has(&self, name: &Name) -> bool {
        self.objects().by_name.contains_key(name)
    }

    /// Every object.
    pub(crate) fn all(&self) -> Vec<(Name, Stored)> {
        self.objects().by_name.iter().map(|(name, stored)| (name.clone(), stored.clone())).collect()
    }

    /// Takes in an object as the answer to a write or a read, unless the watch reported something newer already:
    /// whoever writes must not act on what was before.
    pub(crate) fn observe(&self, object: &Value) {
        let (name, new) = (Name::of(object), Stored::new(object));
        let mut objects = self.objects_mut();
        let is_news = match objects.by_name.get(&name) {
            Some(old) => new.is_newer_than(old),
            // It may be gone already: the watch, which is further, tells of it or has told.
            None => new.number().is_none_or(|number| number > objects.seen),
        };
        if is_news {
            objects.by_name.insert(name, new);
        }
    }

    /// Takes in what the watch reports an object. An answer that was faster is no reason not to tell.
    pub(super) fn take(&self, object: &Value) -> Option<Change> {
        let (name, new) = (Name::of(object), Stored::new(object));
        let mut objects = self.objects_mut();
        objects.seen = objects.seen.max(new.number().unwrap_or_default());
        let old = objects.by_name.get(&name).cloned();
        if old.as_ref().is_some_and(|old| old.is_newer_than(&new)) {
            return None;
        }
        objects.by_name.insert(name.clone(), new.clone());
        Some(Change { name, old, new: Some(new) })
    }

    /// Takes in that an object is gone.
    pub(super) fn remove(&self, object: &Value) -> Option<Change> {
        let (name, last) = (Name::of(object), Stored::new(object));
        let mut objects = self.objects_mut();
        objects.seen = objects.seen.max(last.number().unwrap_or_default());
        let old = objects.by_name.remove(&name)?;
        Some(Change { name, old: Some(old), new: None })
    }

    /// Takes in all objects that there are.
    pub(super) fn replace(&self, new: HashMap<Name, Stored>) -> Vec<Change> {
        let mut changes = Vec::new();
        {
            let mut objects = self.objects_mut();
            let known = &mut objects.by_name;
            for (name, old) in known.iter().filter(|(name, _)| !new.contains_key(*name)) {
                changes.push(Change { name: name.clone(), old: Some(old.clone()), new: None });
            }
            for (name, new) in &new {
                let old = known.get(name);
                if old.is_none_or(|old| old.version != new.version) {
                    changes.push(Change { name: name.clone(), old: old.cloned(), new: Some(new.clone()) });
                }
            }
            *known = new;
        }
        self.0.synced.send_replace(true);
        changes
    }

    /// There is nothing to be known of this kind, and that is known now.
    pub(crate) fn give_up(&self) {
        self.0.synced.send_replace(true);
    }

    /// Waits until it is known what there is.
    pub(crate) async fn synced(&self) {
        // The sender lives as long as we do.
        let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn objects(&self) -> RwLockReadGuard<'_, Objects> {
        self.0.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects_mut(&self) -> RwLockWriteGuard<'_, Objects> {
        self.0.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, version: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version}})
    }

    fn version(store: &Store, name: &str) -> Option<String> {
        Some(store.stored(&Name::new("ns", name))?.version.to_string())
    }

    #[test]
    fn older_objects_do_not_replace_newer_ones() {
        let store = Store::new();
        assert!(store.take(&object("a", "9")).is_some());
        store.observe(&object("a", "10"));
        assert_eq!(version(&store, "a").as_deref(), Some("10"), "numbers, not texts");
        store.observe(&object("a", "8"));
        assert!(store.take(&object("a", "9")).is_none(), "an answer was faster");
        assert_eq!(version(&store, "a").as_deref(), Some("10"));
        assert!(store.take(&object("a", "10")).is_some(), "told, though known");
    }

    #[test]
    fn a_late_response_does_not_restore_a_deleted_object() {
        let store = Store::new();
        store.take(&object("a", "5"));
        store.remove(&object("a", "7"));
        store.observe(&object("a", "6"));
        assert_eq!(version(&store, "a"), None);
        store.observe(&object("a", "8"));
        assert_eq!(version(&store, "a").as_deref(), Some("8"), "created again");
    }

    #[test]
    fn a_list_yields_added_changed_and_deleted_objects() {
        let store = Store::new();
        let all = |objects: &[Value]| objects.iter().map(|it| (Name::of(it), Stored::new(it))).collect();
        store.replace(all(&[object("same", "1"), object("changed", "2"), object("gone", "3")]));
        let changes = store.replace(all(&[object("same", "1"), object("changed", "5"), object("new", "6")]));
        let mut told: Vec<_> = changes
            .iter()
            .map(|change| (change.name.to_string(), change.old.is_some(), change.new.is_some()))
            .collect();
        told.sort();
        let expected = [("ns/changed", true, true), ("ns/gone", true, false), ("ns/new", false, true)];
        assert_eq!(told, expected.map(|(name, old, new)| (name.to_owned(), old, new)));
        assert!(store.remove(&object("absent", "7")).is_none());
        assert!(store.remove(&object("same", "7")).is_some_and(|change| change.new.is_none()));
    }
}
