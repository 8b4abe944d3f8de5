//! Whose object this is: ApplySet labels (KEP-3659) and our own, so that other tools can read them too.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::desired::{Desired, DesiredObject, Installation};
use crate::{intent_digest, yielded_fields};

/// Label of every member object; its value is the ApplySet id of the installation.
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";
/// Label of the parent object; its value is the ApplySet id.
pub const ID: &str = "applyset.kubernetes.io/id";
/// Annotation of the parent: which tool, and which version of it, keeps the set.
pub const TOOLING: &str = "applyset.kubernetes.io/tooling";
/// Annotation of the parent: the group-kinds that members may have, sorted, comma-separated.
pub const CONTAINS_GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";
/// Annotation of the parent: namespaces of members other than the parent's own, sorted, comma-separated.
pub const ADDITIONAL_NAMESPACES: &str = "applyset.kubernetes.io/additional-namespaces";
/// Label of every member: the installation's name.
pub const INSTALLATION: &str = "trainerd.dev/installation";
/// Label of every member: the installation's namespace.
pub const NAMESPACE: &str = "trainerd.dev/namespace";
/// Label of every member: the component it belongs to.
pub const COMPONENT: &str = "trainerd.dev/component";
/// Annotation of a namespace that trainerd created, and may therefore delete.
pub const CREATED_FOR: &str = "trainerd.dev/created-for";

/// Name of the parent object: the Secret that holds the installation's record.
pub fn parent_name(installation: &Installation) -> String {
    format!("trainerd-{}", installation.name)
}

/// The ApplySet id of an installation: `applyset-<base64url(sha256(name.namespace.Secret.))>-v1`.
pub fn id(installation: &Installation) -> String {
    let source = format!("{}.{}.Secret.", parent_name(installation), installation.namespace);
    format!("applyset-{}-v1", base64url(&Sha256::digest(source.as_bytes())))
}

/// The intent of an object: [`labelled`], without the fields that were left to others.
pub fn owned(desired: &Desired, object: &DesiredObject) -> Value {
    let mut manifest = labelled(desired, object);
    for path in &object.yielded {
        yielded_fields::remove(&mut manifest, path);
    }
    intent_digest::annotate(&mut manifest);
    manifest
}

/// The manifest as it is sent where no other manager has a say: with the labels that say whose it is, with the digest of the intent, and
/// without the fields that belong to somebody else by their nature (the rules of an aggregated ClusterRole).
pub fn labelled(desired: &Desired, object: &DesiredObject) -> Value {
    let mut manifest = object.manifest.clone();
    let installation = &desired.installation;
    if let Some(labels) = labels_mut(&mut manifest) {
        labels.insert(PART_OF.to_owned(), json!(id(installation)));
        labels.insert(INSTALLATION.to_owned(), json!(installation.name));
        labels.insert(NAMESPACE.to_owned(), json!(installation.namespace));
        labels.insert(COMPONENT.to_owned(), json!(object.component));
    }
    if manifest.get("aggregationRule").is_some()
        && let Some(root) = manifest.as_object_mut()
    {
        root.remove("rules");
    }
    intent_digest::annotate(&mut manifest);
    manifest
}

/// The value of a label of a live object.
pub fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(name)?.as_str()
}

fn labels_mut(manifest: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = manifest.get_mut("metadata")?.as_object_mut()?;
    metadata.entry("labels").or_insert_with(|| json!({})).as_object_mut()
}

/// Unpadded base64 with the URL alphabet, as the KEP prescribes for ids.
fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_the_one_the_kep_defines() {
        let installation =
            Installation { name: "kubeflow-trainer".into(), namespace: "kubeflow-system".into() };
        // KEP-3659: applyset-<base64(sha256(<name>.<namespace>.<kind>.<group>))>-v1, by the URL alphabet of RFC 4648
        // without padding; the group of a Secret is empty. Computed apart from this code:
        //   printf %s trainerd-kubeflow-trainer.kubeflow-system.Secret. | openssl dgst -sha256 -binary | base64
        let id = id(&installation);
        assert_eq!(id, "applyset-b_b8MxdMeUvYHkaPxFOyJvm5IjcN93HabCwk0SUTBPg-v1");
        assert!(id.len() <= 63, "a label value holds 63 characters");
    }
}
