//! What other people do to the objects of an installation.

use fastrand::Rng;
use serde_json::{Value, json};
use trainerd_plan::object::{ObjectKey, Resource};

use super::State;

/// Labels by which an installation knows its own. With another value an object is somebody else's, and left to
/// him; without them it is only lost.
const OURS: [&str; 2] = [crate::stack::INSTALLATION, "applyset.kubernetes.io/part-of"];
/// The one of them that is the proof: an object of which nobody wants anything any more goes only with it.
const MEMBERSHIP: &str = OURS[1];
/// Labels that the API server itself writes.
const FIXED: &str = "kubernetes.io/metadata.name";

/// An object of a state: a kind first, or there would be little but roles and runtimes.
pub(super) fn pick<'s>(state: &'s State, kinds: &'s [Resource], rng: &mut Rng) -> Option<Picked<'s>> {
    let mut owned: Vec<(ObjectKey, &Value)> =
        state.objects.values().filter_map(|object| Some((ObjectKey::of(object)?, object))).collect();
    owned.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut names: Vec<(String, String)> =
        owned.iter().map(|(key, _)| (key.group.clone(), key.kind.clone())).collect();
    names.dedup();
    let (group, kind) = rng.choice(names)?;
    owned.retain(|(key, _)| key.group == group && key.kind == kind);
    let (key, object) = rng.choice(owned)?;
    let kind = kinds.iter().find(|known| known.group == group && known.kind == kind)?;
    Some(Picked { key, object, kind })
}

/// An object that somebody has in mind.
pub(super) struct Picked<'s> {
    pub(super) key: ObjectKey,
    /// As it should be.
    pub(super) object: &'s Value,
    pub(super) kind: &'s Resource,
}

/// A merge patch that changes something of an object that trainerd has set; nothing is added to it that nobody
/// would take away again.
pub(super) fn edit(object: &Value, rng: &mut Rng) -> Option<Value> {
    let mut edits = of_kind(object);
    for label in object["metadata"]["labels"].as_object().into_iter().flat_map(|labels| labels.keys()) {
        if label == FIXED {
            continue;
        }
        edits.push(json!({"metadata": {"labels": {(label.as_str()): null}}}));
        if !OURS.contains(&label.as_str()) {
            edits.push(json!({"metadata": {"labels": {(label.as_str()): "theirs"}}}));
        }
    }
    rng.choice(edits)
}

/// Whether a patch takes an object out of the installation for good, unless it is wanted.
pub(super) fn removes_from_installation(patch: &Value) -> bool {
    patch["metadata"]["labels"].get(MEMBERSHIP).is_some()
}

/// Edits that only one kind knows.
fn of_kind(object: &Value) -> Vec<Value> {
    let mut edits = Vec::new();
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" => {
            edits.push(json!({"spec": {"replicas": 3}}));
            edits.push(json!({"spec": {"replicas": 0}}));
            let mut containers = object["spec"]["template"]["spec"]["containers"].clone();
            if let Some(container) = containers.get_mut(0) {
                container["image"] = json!("example.com/theirs:v1");
                edits.push(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
            }
        }
        "ConfigMap" => {
            for key in object["data"].as_object().into_iter().flat_map(|data| data.keys()) {
                edits.push(json!({"data": {(key.as_str()): "theirs"}}));
                edits.push(json!({"data": {(key.as_str()): null}}));
            }
        }
        "Service" => {
            for key in object["spec"]["selector"].as_object().into_iter().flat_map(|labels| labels.keys()) {
                edits.push(json!({"spec": {"selector": {(key.as_str()): "theirs"}}}));
            }
        }
        // The rules of aggregated ones are a controller's.
        "ClusterRole" | "Role" if object["aggregationRule"].is_null() => {
            edits.push(json!({"rules": []}));
        }
        "ClusterRoleBinding" | "RoleBinding" => edits.push(json!({"subjects": []})),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            let mut webhooks = object["webhooks"].clone();
            if let Some(webhook) = webhooks.get_mut(0) {
                let policy = if webhook["failurePolicy"] == "Fail" { "Ignore" } else { "Fail" };
                webhook["failurePolicy"] = json!(policy);
                edits.push(json!({"webhooks": webhooks}));
            }
        }
        "ClusterTrainingRuntime" if !object["spec"]["mlPolicy"]["numNodes"].is_null() => {
            edits.push(json!({"spec": {"mlPolicy": {"numNodes": 7}}}));
        }
        _ => {}
    }
    edits
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn concurrent_edits_change_only_existing_fields() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
            "metadata": {"name": "c", "labels": {"trainerd.dev/installation": "x", "app": "y"}},
        });
        let edits: BTreeSet<String> = (0..100)
            .filter_map(|seed| edit(&object, &mut Rng::with_seed(seed)))
            .map(|edit| edit.to_string())
            .collect();
        let expected = [
            r#"{"data":{"a":"theirs"}}"#,
            r#"{"data":{"a":null}}"#,
            r#"{"metadata":{"labels":{"app":"theirs"}}}"#,
            r#"{"metadata":{"labels":{"app":null}}}"#,
            r#"{"metadata":{"labels":{"trainerd.dev/installation":null}}}"#,
        ];
        assert_eq!(edits.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        let bare = json!({"kind": "Namespace", "metadata": {"labels": {(FIXED): "n"}}});
        assert_eq!(edit(&bare, &mut Rng::with_seed(1)), None);
    }
}
