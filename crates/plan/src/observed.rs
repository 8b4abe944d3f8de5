//! What the cluster looks like: the facts that a plan is made from.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::applyset;
use crate::desired::Installation;
use crate::object::{ObjectKey, Resource};
use crate::ownership;

/// A live object and how its kind is served.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveObject {
    /// How its kind is served.
    pub resource: Resource,
    /// The object as the API server returned it, `managedFields` included.
    pub value: Value,
}

/// The live objects that matter to a plan: every object of the desired and of the current revision that
/// exists, and every other object that carries the installation's ApplySet label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Live objects by key.
    pub objects: BTreeMap<ObjectKey, LiveObject>,
    /// Stored JobSets that use `workloadRef`; looked up only where the plan would drop that field.
    pub workload_refs: Vec<ObjectKey>,
    /// Stored objects of the kinds that our CRDs define, whoever made them; looked up only where a plan would
    /// delete the CRD: all of them for a removal, those of [`crate::prune::pruned_crds`] otherwise.
    pub custom_objects: BTreeMap<ObjectKey, LiveObject>,
}

impl LiveObject {
    /// The uid, empty where the server sent none.
    pub fn uid(&self) -> &str {
        self.value["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// The resourceVersion, empty where the server sent none.
    pub fn resource_version(&self) -> &str {
        self.value["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }

    /// Whether it is being deleted.
    pub fn terminating(&self) -> bool {
        !self.value["metadata"]["deletionTimestamp"].is_null()
    }

    /// Its finalizers.
    pub fn finalizers(&self) -> Vec<String> {
        let list = self.value["metadata"]["finalizers"].as_array();
        list.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// Whether it carries the installation's ApplySet label.
    pub fn belongs_to(&self, installation: &Installation) -> bool {
        applyset::label(&self.value, applyset::PART_OF) == Some(&applyset::id(installation))
    }

    /// Whether it is the installation's own: it carries the label, and `field_manager` has applied it. The
    /// label alone is no proof, for a copy of one of our objects keeps it.
    pub fn is_member(&self, installation: &Installation, field_manager: &str) -> bool {
        self.belongs_to(installation) && ownership::applied_by(&self.value, field_manager)
    }

    /// Whether somebody else has it: another set claims it, or it bears neither our label nor a trace of an
    /// apply of ours. Whether it was ours once says nothing: it may have been made anew since.
    pub fn is_foreign(&self, installation: &Installation, field_manager: &str) -> bool {
        match applyset::label(&self.value, applyset::PART_OF) {
            Some(id) => id != applyset::id(installation),
            None => !self.is_unlabelled(field_manager),
        }
    }

    /// Whether `field_manager` has applied it, and no set claims it any more: somebody has taken the label away.
    pub fn is_unlabelled(&self, field_manager: &str) -> bool {
        applyset::label(&self.value, applyset::PART_OF).is_none()
            && ownership::applied_by(&self.value, field_manager)
    }

    /// Who controls it, as far as the object itself tells.
    pub fn owner(&self) -> String {
        let metadata = &self.value["metadata"];
        if let (Some(name), Some(namespace)) = (
            applyset::label(&self.value, applyset::INSTALLATION),
            applyset::label(&self.value, applyset::NAMESPACE),
        ) {
            return format!("trainerd installation {namespace}/{name}");
        }
        if let Some(release) = metadata["annotations"]["meta.helm.sh/release-name"].as_str() {
            return format!("Helm release {release}");
        }
        if let Some(owner) = metadata["ownerReferences"].as_array().into_iter().flatten().next() {
            return format!(
                "{} {}",
                owner["kind"].as_str().unwrap_or_default(),
                owner["name"].as_str().unwrap_or_default()
            );
        }
        let managers = metadata["managedFields"].as_array().into_iter().flatten();
        let mut managers: Vec<_> = managers.filter_map(|entry| entry["manager"].as_str()).collect();
        managers.sort_unstable();
        managers.dedup();
        match managers.as_slice() {
            [] => "somebody else".to_owned(),
            names => format!("field manager {}", names.join(", ")),
        }
    }
}
