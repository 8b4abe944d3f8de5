//! The digest of the intent that was applied last, readable from the metadata of an object.
//!
//! Objects whose metadata suffices ([`by_existence`]) are watched by their metadata alone. An apply sends the
//! intent and its digest in one request; as long as the digest is the same and the fields of the intent are still
//! ours in `managedFields`, nobody has changed them since, for whoever changes a field takes it from us. So
//! nothing needs to be remembered of what was written, by whichever process.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::object::ObjectKey;
use crate::ownership::{self, FieldPath};
use crate::readiness::by_existence;

/// Annotation with the digest of the intent that was applied: 16 hexadecimal digits of a SHA-256.
pub const ANNOTATION: &str = "trainerd.dev/intent";

/// Annotates the intent of a kind whose metadata suffices with its digest; others stay as they are. Doing so again,
/// after a change of the intent, replaces the digest.
pub(crate) fn annotate(manifest: &mut Value) {
    if !ObjectKey::of(manifest).is_some_and(|key| by_existence(&key)) {
        return;
    }
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let digest = Sha256::digest(manifest.to_string().as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let text = format!("{number:016x}");
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(ANNOTATION.to_owned(), Value::String(text));
    }
}

/// Whether a change is one of the digest itself: it says nothing that the other changes do not.
pub(crate) fn is_digest(path: &FieldPath) -> bool {
    path.is_under(&["metadata", "annotations", ANNOTATION])
}

/// Whether the metadata of an object shows that it is as `intent` was applied. `false` where it does not show:
/// then the whole object does.
pub fn is_intact(intent: &Value, metadata: &Value, manager: &str) -> bool {
    let digest = |object: &Value| {
        let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
        annotations
            .and_then(|annotations| annotations.get(ANNOTATION))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let expected = digest(intent);
    expected.is_some() && expected == digest(metadata) && ownership::owns(metadata, manager, intent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(data: &str) -> Value {
        let mut manifest = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "b", "labels": {"l": "1"}},
            "data": {"key": data},
        });
        annotate(&mut manifest);
        manifest
    }

    fn stored(manifest: &Value, fields: &Value) -> Value {
        let mut metadata = manifest["metadata"].clone();
        metadata["managedFields"] = json!([{"manager": "us", "operation": "Apply", "fieldsV1": fields}]);
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    }

    #[test]
    fn digests_distinguish_intents_and_annotation_is_idempotent() {
        let (one, other) = (config_map("1"), config_map("2"));
        let digest_of = |manifest: &Value| manifest["metadata"]["annotations"][ANNOTATION].clone();
        assert_ne!(digest_of(&one), digest_of(&other));
        let mut again = one.clone();
        annotate(&mut again);
        assert_eq!(again, one);
        again["data"]["key"] = json!("2");
        annotate(&mut again);
        assert_eq!(digest_of(&again), digest_of(&other));
    }

    #[test]
    fn kinds_with_controller_state_are_not_annotated() {
        let mut deployment =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        let before = deployment.clone();
        annotate(&mut deployment);
        assert_eq!(deployment, before);
    }

    #[test]
    fn an_object_is_intact_while_its_digest_is_the_same_and_every_field_is_ours() {
        let intent = config_map("1");
        let all = json!({
            "f:metadata": {"f:labels": {"f:l": {}}, "f:annotations": {format!("f:{ANNOTATION}"): {}}},
            "f:data": {"f:key": {}},
        });
        assert!(is_intact(&intent, &stored(&intent, &all), "us"));
        assert!(!is_intact(&intent, &stored(&intent, &all), "them"));
        // Applied from another intent.
        assert!(!is_intact(&intent, &stored(&config_map("2"), &all), "us"));
        // Somebody changed a value, and with it who owns it; the map may still be ours.
        for left in [json!({".": {}}), Value::Null] {
            let mut taken = all.clone();
            taken["f:data"] = left;
            assert!(!is_intact(&intent, &stored(&intent, &taken), "us"), "{taken}");
        }
        let mut bare = stored(&intent, &all);
        bare["metadata"]["annotations"] = json!({});
        assert!(!is_intact(&intent, &bare, "us"));
    }
}
