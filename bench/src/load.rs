//! ConfigMaps to apply: many small ones, or large ones that do not compress.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use semver::Version;
use serde_json::{Value, json};
use trainerd_plan::desired::{Component, Desired, DesiredObject, Installation};
use trainerd_plan::object::{ObjectKey, Resource};

/// The one component of the synthetic installations.
const COMPONENT: &str = "load";
/// Bytes of data of a small ConfigMap.
const SMALL: usize = 4_000;
/// Bytes of data of a large one; the API server takes 1 MiB.
const LARGE: usize = 1_000_000;

/// ConfigMaps in a namespace.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) namespace: String,
    pub(crate) count: u32,
    /// Every generation has other values in every object.
    pub(crate) generation: u64,
    pub(crate) size: Size,
}

/// How large each ConfigMap is, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// 4 kB of lines `section-7.option-42 = 9f3a61c0`, as settings look; zstd makes a quarter of it.
    Small,
    /// 1 MB of base64 of noise: nothing to compress but the two bits a letter that base64 wastes.
    Large,
}

impl Load {
    /// The same objects with other values.
    pub(crate) fn next(&self) -> Self {
        Self { generation: self.generation + 1, ..self.clone() }
    }

    /// The manifests, sorted by name.
    pub(crate) fn manifests(&self) -> Vec<Value> {
        (0..self.count).map(|index| self.manifest(index)).collect()
    }

    fn manifest(&self, index: u32) -> Value {
        let mut random = fastrand::Rng::with_seed(self.generation << 32 | u64::from(index));
        let data = match self.size {
            Size::Small => settings(&mut random),
            Size::Large => noise(&mut random),
        };
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": format!("load-{index:04}"), "namespace": self.namespace},
            "data": {"settings.properties": data},
        })
    }

    /// The desired state of an installation that has these objects and no others. It does not linger at its
    /// end: ConfigMaps have nothing to settle.
    pub(crate) fn desired(&self) -> Desired {
        let component = Component { version: Version::new(1, 0, 0), needs: Vec::new(), probes: Vec::new() };
        Desired {
            installation: self.installation(),
            naming: trainerd_plan::desired::Naming::default(),
            components: BTreeMap::from([(COMPONENT.to_owned(), component)]),
            options: BTreeMap::from([("settle".to_owned(), json!(0))]),
            given: Vec::new(),
            objects: self.manifests().into_iter().map(|manifest| object(manifest, Vec::new())).collect(),
        }
    }

    /// The same, and after all of them one that the API server refuses.
    pub(crate) fn desired_and_one_refused(&self) -> Desired {
        let mut desired = self.desired();
        let after: Vec<ObjectKey> = desired.objects.iter().map(DesiredObject::key).collect();
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "refused", "namespace": self.namespace},
            "data": {"no/key/has/slashes": ""},
        });
        desired.objects.push(object(manifest, after));
        desired
    }

    /// The installation that has these objects.
    pub(crate) fn installation(&self) -> Installation {
        Installation { name: COMPONENT.to_owned(), namespace: self.namespace.clone() }
    }

    /// The objects as one document for `kubectl apply -f`.
    pub(crate) fn list(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "List", "items": self.manifests()})
    }
}

/// How ConfigMaps are served.
pub(crate) fn config_maps() -> Resource {
    Resource {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        plural: "configmaps".to_owned(),
        namespaced: true,
    }
}

fn object(manifest: Value, after: Vec<ObjectKey>) -> DesiredObject {
    DesiredObject {
        component: COMPONENT.to_owned(),
        resource: config_maps(),
        manifest,
        after,
        yielded: Vec::new(),
    }
}

fn settings(random: &mut fastrand::Rng) -> String {
    let mut text = String::with_capacity(SMALL);
    let mut line = 0;
    while text.len() < SMALL {
        // Writing to a String does not fail.
        let _ = writeln!(text, "section-{}.option-{line} = {:08x}", line / 10, random.u32(..));
        line += 1;
    }
    text.truncate(SMALL);
    text
}

fn noise(random: &mut fastrand::Rng) -> String {
    let mut bytes = vec![0; LARGE / 4 * 3];
    random.fill(&mut bytes);
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_changes_with_the_generation_and_with_nothing_else() {
        for (size, bytes) in [(Size::Small, SMALL), (Size::Large, LARGE)] {
            let load = Load { namespace: "ns".to_owned(), count: 3, generation: 1, size };
            assert_eq!(load.manifests(), load.manifests());
            let pairs = load.manifests().into_iter().zip(load.next().manifests());
            for (before, after) in pairs {
                assert_eq!(before["metadata"], after["metadata"]);
                assert_ne!(before["data"], after["data"]);
                assert_eq!(before["data"]["settings.properties"].as_str().unwrap().len(), bytes);
            }
        }
    }

    #[test]
    fn desired_objects_are_sorted_by_key() {
        let load = Load { namespace: "ns".to_owned(), count: 20, generation: 1, size: Size::Small };
        for desired in [load.desired(), load.desired_and_one_refused()] {
            assert!(desired.objects.is_sorted_by_key(DesiredObject::key));
        }
    }
}
