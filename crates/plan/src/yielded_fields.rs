//! Leaving fields to whoever owns them: out of the intent, and out of the desired state.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::desired::Desired;
use crate::object::ObjectKey;
use crate::ownership::{FieldPath, Segment, key_value};
use crate::plan::Plan;

/// Whether a plan leaves fields of the desired state to others, or the state says so of some: whether
/// [`with_yielded`] may change it.
pub fn are_any(desired: &Desired, plan: &Plan) -> bool {
    let objects = desired.objects.iter().map(|object| &object.yielded);
    objects.chain(plan.steps.iter().map(|step| &step.yielded)).any(|paths| !paths.is_empty())
}

/// The desired state as it was planned: every object with the fields that the plan leaves to others, so that
/// they are not taken for ours once the state is stored as a revision.
///
/// Planning the same again gives the same fields: equal states stay equal.
pub fn with_yielded(mut desired: Desired, plan: &Plan) -> Desired {
    let yielded: BTreeMap<&ObjectKey, &Vec<FieldPath>> =
        plan.steps.iter().map(|step| (&step.object, &step.yielded)).collect();
    for object in &mut desired.objects {
        object.yielded = yielded.get(&object.key()).map(|paths| (*paths).clone()).unwrap_or_default();
    }
    desired
}

/// Removes what is at `path`; a path that leads nowhere removes nothing.
pub fn remove(manifest: &mut Value, path: &FieldPath) {
    let Some((last, way)) = path.segments().split_last() else { return };
    let mut place = manifest;
    for segment in way {
        let Some(next) = descend(place, segment) else { return };
        place = next;
    }
    match (last, place) {
        (Segment::Field(name), Value::Object(fields)) => {
            fields.remove(name);
        }
        (segment, Value::Array(items)) => {
            let mut index = 0;
            items.retain(|item| {
                let found = is(segment, item, index);
                index += 1;
                !found
            });
        }
        _ => {}
    }
}

fn descend<'a>(place: &'a mut Value, segment: &Segment) -> Option<&'a mut Value> {
    match (segment, place) {
        (Segment::Field(name), Value::Object(fields)) => fields.get_mut(name),
        (segment, Value::Array(items)) => {
            items.iter_mut().enumerate().find(|(index, item)| is(segment, item, *index)).map(|(_, item)| item)
        }
        _ => None,
    }
}

fn is(segment: &Segment, item: &Value, index: usize) -> bool {
    match segment {
        Segment::Field(_) => false,
        Segment::Item(keys) => {
            keys.iter().all(|(name, value)| key_value(item, name).is_some_and(|own| own == *value))
        }
        Segment::Element(value) => item == value,
        Segment::Index(wanted) => index == *wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_yielded_path_is_removed() {
        let cases = [
            (
                ".spec.replicas",
                json!({"spec": {"replicas": 2, "paused": true}}),
                json!({"spec": {"paused": true}}),
            ),
            (
                ".spec.containers[name=a].image",
                json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}),
                json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "image": "y"}]}}),
            ),
            (
                ".spec.containers[name=a]",
                json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
                json!({"spec": {"containers": [{"name": "b"}]}}),
            ),
            // The API server knows the port by a protocol that the manifest leaves to its default.
            (
                ".spec.ports[port=80,protocol=TCP].targetPort",
                json!({"spec": {"ports": [{"port": 80, "targetPort": 1}, {"port": 80, "protocol": "UDP"}]}}),
                json!({"spec": {"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}}),
            ),
            (".args[1]", json!({"args": ["a", "b", "c"]}), json!({"args": ["a", "c"]})),
            (".nowhere.at.all", json!({"spec": 1}), json!({"spec": 1})),
        ];
        for (path, mut manifest, expected) in cases {
            remove(&mut manifest, &path.parse().unwrap());
            assert_eq!(manifest, expected, "{path}");
        }
    }
}
