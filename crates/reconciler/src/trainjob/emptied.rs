//! Objects that a server-side apply empties.
//!
//! Where an apply takes the last field out of an object, the API server writes null in its place (structured-merge-diff
//! keeps no empty map), which a CRD's schema then refuses: labels that Kueue gave to a pod template and takes away again.
//! What the refusal names is taken out beforehand, by a patch, and the apply is sent again.

use serde_json::{Value, json};
use trainerd_cluster::{Cause, RequestError};

/// A JSON patch (RFC 6902) that empties what the refusal of an apply says has become null; `None` where it says nothing
/// of the kind. Only that is taken which the apply itself would have emptied.
pub(super) fn patch(error: &RequestError, applied: &Value, live: &Value) -> Option<Value> {
    let RequestError::Invalid { causes, .. } = error else { return None };
    let mut operations = Vec::new();
    for pointer in causes.iter().filter_map(emptied_field) {
        let is_empty = applied.pointer(&pointer).is_some_and(|value| *value == json!({}));
        let fields = live.pointer(&pointer).and_then(Value::as_object);
        for field in fields.into_iter().flatten().map(|(field, _)| field).filter(|_| is_empty) {
            let field = field.replace('~', "~0").replace('/', "~1");
            operations.push(json!({"op": "remove", "path": format!("{pointer}/{field}")}));
        }
    }
    if operations.is_empty() {
        return None;
    }
    // Of the object that was read, and of no later one.
    let version = &live["metadata"]["resourceVersion"];
    operations.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    Some(Value::Array(operations))
}

/// The JSON pointer of a field that is of the wrong type: `spec.jobs[0].metadata` is `/spec/jobs/0/metadata`.
fn emptied_field(cause: &Cause) -> Option<String> {
    let is_path = !cause.field.is_empty() && cause.field != "<nil>";
    (is_path && cause.reason.contains("TypeInvalid"))
        .then(|| format!("/{}", cause.field.replace(['.', '['], "/").replace(']', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(field: &str, reason: &str) -> RequestError {
        let cause = Cause { reason: reason.to_owned(), field: field.to_owned(), message: String::new() };
        RequestError::Invalid { causes: vec![cause], message: String::new() }
    }

    #[test]
    fn only_emptied_fields_are_removed() {
        let object = |metadata: Value| json!({"metadata": {"resourceVersion": "7"}, "spec": {"jobs": [{"metadata": metadata}]}});
        let (applied, live) = (object(json!({})), object(json!({"labels": {"queue": "a"}})));
        let (field, reason) = ("spec.jobs[0].metadata", "FieldValueTypeInvalid");
        assert_eq!(
            patch(&refused(field, reason), &applied, &live),
            Some(json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "remove", "path": "/spec/jobs/0/metadata/labels"},
            ]))
        );
        let others = [
            (refused(field, "FieldValueInvalid"), &applied, &live),
            (refused("<nil>", reason), &applied, &live),
            (refused("spec.other", reason), &applied, &live),
            (refused(field, reason), &live, &live),
            (refused(field, reason), &applied, &applied),
            (RequestError::Unexplained { message: String::new() }, &applied, &live),
        ];
        for (error, applied, live) in others {
            assert_eq!(patch(&error, applied, live), None, "{error:?}");
        }
    }
}
