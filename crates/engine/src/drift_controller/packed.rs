//! The objects of a revision, put away: each is taken out when it is looked at, which is seldom.
//!
//! In memory as values, the CRDs of the stack alone take twenty megabytes; put away they take a few kilobytes.

use std::collections::BTreeMap;

use trainerd_plan::desired::{Desired, DesiredObject};
use trainerd_plan::object::{ObjectKey, Resource};

/// Compression that costs nearly nothing.
const LEVEL: i32 = 3;

/// A desired state whose objects are put away.
pub(super) struct Packed {
    /// The state without its objects.
    frame: Desired,
    objects: BTreeMap<ObjectKey, Entry>,
}

struct Entry {
    component: String,
    resource: Resource,
    /// The object as JSON, compressed.
    bytes: Box<[u8]>,
}

impl Packed {
    /// Puts a desired state away.
    ///
    /// # Errors
    /// Compressing in memory does not fail as long as there is memory.
    pub(super) fn of(desired: &Desired) -> std::io::Result<Self> {
        let pack = |object: &DesiredObject| {
            let text = serde_json::to_vec(object)?;
            let bytes = zstd::encode_all(text.as_slice(), LEVEL)?.into_boxed_slice();
            let (component, resource) = (object.component.clone(), object.resource.clone());
            Ok((object.key(), Entry { component, resource, bytes }))
        };
        let objects: std::io::Result<_> = desired.objects.iter().map(pack).collect();
        let frame = Desired {
            installation: desired.installation.clone(),
            naming: desired.naming,
            components: desired.components.clone(),
            options: desired.options.clone(),
            given: desired.given.clone(),
            objects: Vec::new(),
        };
        Ok(Self { frame, objects: objects? })
    }

    /// Everything but the objects.
    pub(super) fn frame(&self) -> &Desired {
        &self.frame
    }

    /// The objects that there are, with the component and the kind of each.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&ObjectKey, &str, &Resource)> {
        self.objects.iter().map(|(key, entry)| (key, entry.component.as_str(), &entry.resource))
    }

    /// Whether there is such an object.
    pub(super) fn has(&self, key: &ObjectKey) -> bool {
        self.objects.contains_key(key)
    }

    /// The component of an object, and how its kind is served.
    pub(super) fn place(&self, key: &ObjectKey) -> Option<(&str, &Resource)> {
        self.objects.get(key).map(|entry| (entry.component.as_str(), &entry.resource))
    }

    /// An object. What was put away comes back as it was.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<DesiredObject> {
        let text = zstd::decode_all(&*self.objects.get(key)?.bytes).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The whole state, but with the objects of one component and kind alone.
    pub(super) fn of_kind(&self, component: &str, kind: &str) -> Desired {
        let wanted =
            self.objects.iter().filter(|(key, entry)| key.kind == kind && entry.component == component);
        Desired { objects: wanted.filter_map(|(key, _)| self.get(key)).collect(), ..self.frame.clone() }
    }

    /// Whether an object is the same in another state.
    pub(super) fn is_same(&self, other: &Self, key: &ObjectKey) -> bool {
        match (self.objects.get(key), other.objects.get(key)) {
            (Some(own), Some(other)) => own.bytes == other.bytes,
            _ => false,
        }
    }
}
