//! The seal of an object: which intent was applied last, readable from its metadata.
//!
//! Objects whose metadata tells all ([`by_existence`]) are watched by their metadata alone. An apply sends the
//! intent and its digest in one request; as long as the digest stands and the fields of the intent are still
//! ours in `managedFields`, nobody has changed them since, for whoever changes a field takes it from us. So
//! nothing needs to be remembered of what was written, by whichever process.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::object::ObjectKey;
use crate::ownership::{self, FieldPath};
use crate::readiness::by_existence;

/// Annotation with the digest of the intent that was applied: 16 hexadecimal digits of a SHA-256.
pub const SEAL: &str = "trainerd.dev/intent";

/// Seals the intent of a kind whose metadata tells all; others stay as they are. Sealing again, after a change
/// of the intent, replaces the seal.
pub(crate) fn seal(manifest: &mut Value) {
    if !ObjectKey::of(manifest).is_some_and(|key| by_existence(&key)) {
        return;
    }
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(SEAL);
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
        annotations.insert(SEAL.to_owned(), Value::String(text));
    }
}

/// Whether a change is one of the seal itself: it says nothing that the other changes do not.
pub(crate) fn is_seal(path: &FieldPath) -> bool {
    path.is_under(&["metadata", "annotations", SEAL])
}

/// Whether the metadata of an object shows that it is as `intent` was applied. `false` where it does not show:
/// then the whole object does.
pub fn is_intact(intent: &Value, metadata: &Value, manager: &str) -> bool {
    let seal = |object: &Value| {
        let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
        annotations.and_then(|annotations| annotations.get(SEAL)).and_then(Value::as_str).map(str::to_owned)
    };
    let expected = seal(intent);
    expected.is_some() && expected == seal(metadata) && ownership::owns(metadata, manager, intent)
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
        seal(&mut manifest);
        manifest
    }

    fn stored(manifest: &Value, fields: &Value) -> Value {
        let mut metadata = manifest["metadata"].clone();
        metadata["managedFields"] = json!([{"manager": "us", "operation": "Apply", "fieldsV1": fields}]);
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    }

    #[test]
    fn a_seal_tells_intents_apart_and_sealing_twice_is_sealing_once() {
        let (one, other) = (config_map("1"), config_map("2"));
        let seal_of = |manifest: &Value| manifest["metadata"]["annotations"][SEAL].clone();
        assert_ne!(seal_of(&one), seal_of(&other));
        let mut again = one.clone();
        seal(&mut again);
        assert_eq!(again, one);
        again["data"]["key"] = json!("2");
        seal(&mut again);
        assert_eq!(seal_of(&again), seal_of(&other));
    }

    #[test]
    fn kinds_with_a_state_of_their_own_are_not_sealed() {
        let mut deployment =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        let before = deployment.clone();
        seal(&mut deployment);
        assert_eq!(deployment, before);
    }

    #[test]
    fn an_object_is_intact_while_its_seal_stands_and_every_field_is_ours() {
        let intent = config_map("1");
        let all = json!({
            "f:metadata": {"f:labels": {"f:l": {}}, "f:annotations": {format!("f:{SEAL}"): {}}},
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
        let mut unsealed = stored(&intent, &all);
        unsealed["metadata"]["annotations"] = json!({});
        assert!(!is_intact(&intent, &unsealed, "us"));
    }
}
