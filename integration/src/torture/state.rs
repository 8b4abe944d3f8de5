//! What a cluster is like after a run, said so that two runs can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use trainerd_plan::object::{ObjectKey, Resource};

use crate::Error;
use crate::cluster::TestCluster;
use crate::stack;

/// Kinds whose objects the cluster's controllers make, under names that differ from run to run.
const PASSING: [&str; 6] = [
    "/registry/pods/",
    "/registry/replicasets/",
    "/registry/endpointslices/",
    "/registry/services/endpoints/",
    "/registry/ipaddresses/",
    "/registry/events/",
];

/// What a cluster is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Every object that the installation owns, without what differs from run to run.
    pub objects: BTreeMap<String, Value>,
    /// Every key in etcd, but for what controllers make.
    pub keys: BTreeSet<String>,
    /// The number of the plan that is still in progress.
    pub open: Option<u64>,
    /// Who holds the lease.
    pub holder: Option<String>,
    /// The outcome of each revision, newest last.
    pub results: Vec<(u64, String)>,
}

impl State {
    /// Looks at the installation. `kinds`: those that its objects may be of.
    pub fn of(cluster: &TestCluster, kinds: &[Resource]) -> Result<Self, Error> {
        let mut objects = BTreeMap::new();
        for kind in kinds {
            for object in cluster.list(kind, Some(stack::INSTALLATION))? {
                // trainerd's own records are judged by their keys and by what they say.
                if object["metadata"]["labels"]["trainerd.dev/record"].is_null()
                    && let Some(key) = ObjectKey::of(&object)
                {
                    objects.insert(key.to_string(), normalize(object));
                }
            }
        }
        let record = cluster.record()?.unwrap_or_default();
        let mut results: Vec<(u64, String)> = record["results"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(number, outcome)| {
                Some((number.parse().ok()?, outcome["result"].as_str()?.to_owned()))
            })
            .collect();
        results.sort_unstable();
        let keys =
            cluster.keys()?.into_iter().filter(|key| !PASSING.iter().any(|prefix| key.starts_with(prefix)));
        Ok(Self {
            objects,
            keys: keys.collect(),
            open: record["journal"]["target"].as_u64(),
            holder: cluster.lease_holder()?,
            results,
        })
    }

    /// Keys of this state that the expected one does not have. A revision that the record knows of belongs here.
    pub fn orphans(&self, expected: &Self) -> Vec<String> {
        let known: BTreeSet<String> = self
            .results
            .iter()
            .map(|(number, _)| format!("/registry/secrets/{}/{}-r{number}", stack::NAMESPACE, stack::RECORD))
            .collect();
        self.keys.difference(&expected.keys).filter(|key| !known.contains(*key)).cloned().collect()
    }

    /// What is missing or different where this state should be like another.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let all: BTreeSet<&String> = self.objects.keys().chain(expected.objects.keys()).collect();
        let mut differences: Vec<String> = all
            .into_iter()
            .filter_map(|key| match (self.objects.get(key), expected.objects.get(key)) {
                (Some(found), Some(expected)) if found == expected => None,
                (Some(found), Some(expected)) => {
                    Some(format!("{key} differs: {}", first_difference("", found, expected)))
                }
                (Some(_), None) => Some(format!("{key} should not be there")),
                (None, _) => Some(format!("{key} is missing")),
            })
            .collect();
        differences.extend(expected.keys.difference(&self.keys).map(|key| format!("{key} is missing")));
        if let Some(number) = self.open {
            differences.push(format!("the journal towards revision {number} is open"));
        }
        differences
    }
}

/// An object without what differs from run to run, without its status, and without what controllers fill in.
fn normalize(mut object: Value) -> Value {
    without_webhook_targets(&mut object);
    if let Some(root) = object.as_object_mut() {
        root.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            // The deployment controller counts rollouts.
            annotations.remove("deployment.kubernetes.io/revision");
        }
        if metadata.get("annotations").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
            metadata.remove("annotations");
        }
    }
    if object["kind"] == "Service"
        && let Some(spec) = object["spec"].as_object_mut()
    {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    object
}

/// Webhooks' bundles are the controllers' to write, in CRDs whenever they come to it; and by which port of a Service a
/// webhook is called follows from how often the pods behind it were replaced.
fn without_webhook_targets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("caBundle");
            if let Some(service) = fields.get_mut("clientConfig").and_then(|config| config.get_mut("service"))
                && let Some(service) = service.as_object_mut()
            {
                service.remove("port");
            }
            fields.values_mut().for_each(without_webhook_targets);
        }
        Value::Array(items) => items.iter_mut().for_each(without_webhook_targets),
        _ => {}
    }
}

/// Where two values differ first, and how.
fn first_difference(path: &str, found: &Value, expected: &Value) -> String {
    match (found, expected) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let null = Value::Null;
            let mut differing = keys.into_iter().filter(|key| left.get(*key) != right.get(*key));
            differing.next().map_or_else(String::new, |key| {
                let value = |side: &serde_json::Map<String, Value>| side.get(key).unwrap_or(&null).clone();
                first_difference(&format!("{path}.{key}"), &value(left), &value(right))
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs
                .find(|(_, (left, right))| left != right)
                .map_or_else(String::new, |(index, (left, right))| {
                    first_difference(&format!("{path}[{index}]"), left, right)
                })
        }
        _ => format!("{path} is {found}, not {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn state(objects: &[(&str, Value)], keys: &[&str], results: &[(u64, &str)]) -> State {
        State {
            objects: objects.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            open: None,
            holder: None,
            results: results.iter().map(|(number, result)| (*number, (*result).to_owned())).collect(),
        }
    }

    #[test]
    fn differences_of_states_are_reported() {
        let expected = state(
            &[("a", json!({"spec": {"x": [1, 2]}})), ("b", json!({}))],
            &["/registry/a", "/registry/b"],
            &[],
        );
        assert!(expected.differences(&expected).is_empty() && expected.orphans(&expected).is_empty());
        let found = State {
            open: Some(2),
            ..state(
                &[("a", json!({"spec": {"x": [1, 3]}})), ("c", json!({}))],
                &["/registry/a", "/registry/c"],
                &[],
            )
        };
        assert_eq!(
            found.differences(&expected),
            [
                "a differs: .spec.x[1] is 3, not 2",
                "b is missing",
                "c should not be there",
                "/registry/b is missing",
                "the journal towards revision 2 is open",
            ]
        );
        assert_eq!(found.orphans(&expected), ["/registry/c"]);
    }

    #[test]
    fn a_recorded_revision_is_no_orphan() {
        let key = "/registry/secrets/kubeflow-system/trainerd-kubeflow-trainer-r3";
        let expected = state(&[], &[], &[]);
        assert_eq!(state(&[], &[key], &[(3, "rolled-back")]).orphans(&expected), Vec::<String>::new());
        assert_eq!(state(&[], &[key], &[(2, "rolled-back")]).orphans(&expected), [key]);
    }

    #[test]
    fn nondeterministic_fields_are_ignored() {
        let object = |uid: &str, address: &str| {
            json!({"kind": "Service", "metadata": {"name": "s", "uid": uid, "resourceVersion": uid},
                   "spec": {"clusterIP": address, "ports": []}, "status": {"x": uid}})
        };
        assert_eq!(normalize(object("1", "10.0.0.1")), normalize(object("2", "10.0.0.2")));
    }
}
