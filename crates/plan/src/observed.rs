//! What the cluster looks like: the facts that a plan is made from.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Who uses an object: the TrainJobs that name a training runtime. Looked up only for runtimes that a plan would
    /// delete, and for those that are being deleted.
    pub users: BTreeMap<ObjectKey, Vec<ObjectKey>>,
    /// ApplySet ids of installations that are known to be gone, with no record and no lease, and that objects here
    /// still carry.
    pub removed: BTreeSet<String>,
}

impl Observed {
    /// Whether an object was left by an installation that is gone: whoever wants it may take it.
    pub fn is_left(&self, live: &LiveObject, field_manager: &str) -> bool {
        let id = applyset::label(&live.value, applyset::PART_OF);
        id.is_some_and(|id| self.removed.contains(id)) && ownership::applied_by(&live.value, field_manager)
    }
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
    /// apply of ours. Whether it was ours once says nothing: it may have been created again since.
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

    /// The installation of trainerd whose labels it carries.
    pub fn installation(&self) -> Option<Installation> {
        let label = |name| applyset::label(&self.value, name).map(str::to_owned);
        let installation =
            Installation { name: label(applyset::INSTALLATION)?, namespace: label(applyset::NAMESPACE)? };
        self.belongs_to(&installation).then_some(installation)
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

/// The conditions in the status of an object that are true, with what they say.
pub fn true_conditions(object: &Value) -> Vec<String> {
    let conditions = object["status"]["conditions"].as_array();
    let is_true = |condition: &&Value| condition["status"] == "True";
    let text = |condition: &Value| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("type"), text("message"))
    };
    conditions.into_iter().flatten().filter(is_true).map(text).collect()
}
