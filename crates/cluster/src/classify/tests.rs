//! Answers as an API server 1.36.3 gave them, the messages shortened where they repeat themselves.

use serde_json::{Value, json};

use super::*;

/// What an error is, without the message.
fn shape(error: &RequestError) -> String {
    let fields =
        |causes: &[Cause]| causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>().join(",");
    match error {
        RequestError::NotFound { resource, name, .. } => format!("NotFound {resource} {name}"),
        RequestError::NotServed { path } => format!("NotServed {path}"),
        RequestError::AlreadyExists { .. } => "AlreadyExists".to_owned(),
        RequestError::Conflict { kind: ConflictKind::FieldManager { fields }, .. } => fields
            .iter()
            .map(|FieldConflict { field, detail }| format!("FieldManager {field}: {detail}"))
            .collect::<Vec<_>>()
            .join("; "),
        RequestError::Conflict { kind, .. } => format!("Conflict {kind:?}"),
        RequestError::Invalid { causes, .. } => format!("Invalid {}", fields(causes)),
        RequestError::BadRequest { .. } => "BadRequest".to_owned(),
        RequestError::AdmissionDenied { code, causes, .. } => {
            format!("AdmissionDenied {code} {}", fields(causes))
        }
        RequestError::Forbidden { verb, group, resource, name, .. } => {
            format!("Forbidden {verb} {resource}.{group} {name}")
        }
        RequestError::Unauthorized { .. } => "Unauthorized".to_owned(),
        RequestError::NamespaceTerminating { .. } => "NamespaceTerminating".to_owned(),
        RequestError::Expired { .. } => "Expired".to_owned(),
        RequestError::TooManyRequests { retry_after, .. } => format!("TooManyRequests {retry_after:?}"),
        RequestError::ServerBusy { code, retry_after, .. } => format!("ServerBusy {code} {retry_after:?}"),
        RequestError::Internal { .. } => "Internal".to_owned(),
        RequestError::Unexplained { .. } => "Unexplained".to_owned(),
        RequestError::Timeout { retry_after, .. } => format!("Timeout {retry_after:?}"),
        RequestError::Other { code, reason, .. } => format!("Other {code} {reason}"),
        other => format!("{other:?}"),
    }
}

fn status(code: u16, reason: &str, message: &str, details: Value) -> Vec<u8> {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code,
    });
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
    if !details.is_null() {
        status["details"] = details;
    }
    status.to_string().into_bytes()
}

fn info(uid: bool, resource_version: bool) -> RequestInfo {
    RequestInfo { verb: Verb::Patch, path: "/p".to_owned(), uid, resource_version }
}

#[test]
fn responses_are_classified_without_reading_messages() {
    let none = Value::Null;
    let configmap = json!({ "name": "a", "kind": "configmaps" });
    let uid_cause = json!({ "reason": "FieldValueInvalid", "message": "Invalid value: \"123\": field is immutable", "field": "metadata.uid" });
    let cases = [
        // Conflicts.
        (
            409,
            "Conflict",
            json!({ "causes": [{ "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.k" }] }),
            r#"FieldManager .data.k: conflict with "one""#,
        ),
        (409, "AlreadyExists", configmap.clone(), "AlreadyExists"),
        (409, "Conflict", configmap.clone(), "Conflict Other"),
        // Not found.
        (404, "NotFound", json!({ "name": "none", "kind": "configmaps" }), "NotFound configmaps none"),
        (404, "NotFound", json!({ "name": "none", "kind": "namespaces" }), "NotFound namespaces none"),
        (404, "NotFound", json!({}), "NotServed /p"),
        // The object is wrong.
        (
            422,
            "Invalid",
            json!({ "name": "d", "group": "apps", "kind": "Deployment", "causes": [
            { "reason": "FieldValueInvalid", "message": "m", "field": "spec.template.metadata.labels" },
            { "reason": "FieldValueRequired", "message": "Required value", "field": "spec.template.spec.containers" }] }),
            "Invalid spec.template.metadata.labels,spec.template.spec.containers",
        ),
        (
            422,
            "Invalid",
            json!({ "name": "a", "kind": "ConfigMap", "causes": [uid_cause, uid_cause] }),
            "Invalid metadata.uid,metadata.uid",
        ),
        (400, "BadRequest", none.clone(), "BadRequest"),
        // "failed to create typed patch object (…): .dat: field not declared in schema"
        (500, "", none.clone(), "Unexplained"),
        // Access and admission.
        (403, "Forbidden", json!({ "kind": "configmaps" }), "Forbidden patch configmaps. "),
        (
            403,
            "Forbidden",
            json!({ "name": "x", "group": "apps", "kind": "deployments" }),
            "Forbidden patch deployments.apps x",
        ),
        // "exceeded quota": as RBAC's, but for the message.
        (403, "Forbidden", json!({ "name": "s", "kind": "secrets" }), "Forbidden patch secrets. s"),
        (
            403,
            "Forbidden",
            json!({ "name": "g", "kind": "configmaps", "causes": [
            { "reason": "NamespaceTerminating", "message": "namespace term is being terminated", "field": "metadata.namespace" }] }),
            "NamespaceTerminating",
        ),
        (
            422,
            "Invalid",
            json!({ "name": "vap", "kind": "configmaps", "causes": [{ "message": "ValidatingAdmissionPolicy 'vap' …" }] }),
            "AdmissionDenied 422 ",
        ),
        (
            403,
            "Forbidden",
            json!({ "name": "vapf", "kind": "configmaps", "causes": [{ "message": "ValidatingAdmissionPolicy 'vap' …" }] }),
            "AdmissionDenied 403 ",
        ),
        (403, "Forbidden", none.clone(), "AdmissionDenied 403 "),
        (400, "", none.clone(), "AdmissionDenied 400 "),
        (
            422,
            "Invalid",
            json!({ "causes": [{ "reason": "FieldValueInvalid", "message": "m", "field": "f" }] }),
            "AdmissionDenied 422 f",
        ),
        (401, "Unauthorized", none.clone(), "Unauthorized"),
        // The server is in trouble.
        (
            500,
            "InternalError",
            json!({ "causes": [{ "message": "failed calling webhook \"wh.example.com\": …" }] }),
            "Internal",
        ),
        (
            500,
            "ServerTimeout",
            json!({ "kind": "configmaps", "name": "create", "retryAfterSeconds": 2 }),
            "ServerBusy 500 Some(2s)",
        ),
        (503, "ServiceUnavailable", none.clone(), "ServerBusy 503 None"),
        (
            504,
            "Timeout",
            json!({ "retryAfterSeconds": 1, "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }] }),
            "Timeout Some(1s)",
        ),
        (429, "TooManyRequests", json!({ "retryAfterSeconds": 5 }), "TooManyRequests Some(5s)"),
        (410, "Expired", none.clone(), "Expired"),
        (410, "Gone", none.clone(), "Expired"),
        // What nothing else is known of.
        (405, "MethodNotAllowed", json!({ "kind": "configmaps" }), "Other 405 MethodNotAllowed"),
        (413, "RequestEntityTooLarge", none.clone(), "Other 413 RequestEntityTooLarge"),
        (500, "StoreReadError", none, "Other 500 StoreReadError"),
    ];
    for (code, reason, details, expected) in cases {
        for message in ["", "not found, already exists, conflict, failed calling webhook, exceeded quota"] {
            let body = status(code, reason, message, details.clone());
            let error = classify(&info(false, false), code, None, &body);
            assert_eq!(shape(&error), expected, "{code} {reason} {details}");
        }
    }
}

#[test]
fn conflicts_are_named_after_the_preconditions_sent() {
    let body = status(409, "Conflict", "", json!({ "name": "a", "kind": "ConfigMap" }));
    for (uid, version, expected) in [
        (true, false, ConflictKind::Uid),
        (false, true, ConflictKind::ResourceVersion),
        (true, true, ConflictKind::UidOrResourceVersion),
        (false, false, ConflictKind::Other),
    ] {
        match classify(&info(uid, version), 409, None, &body) {
            RequestError::Conflict { kind, .. } => assert_eq!(kind, expected),
            other => panic!("{other:?}"),
        }
    }
    // A patch with a uid is refused as invalid instead; a patch that breaks other rules, too, is invalid.
    let cause = |field: &str| json!({ "reason": "FieldValueInvalid", "message": "", "field": field });
    let details = |causes: Value| json!({ "name": "a", "kind": "ConfigMap", "causes": causes });
    let body = status(422, "Invalid", "", details(json!([cause("metadata.uid"), cause("metadata.uid")])));
    assert_eq!(shape(&classify(&info(true, false), 422, None, &body)), "Conflict Uid");
    let body = status(422, "Invalid", "", details(json!([cause("metadata.uid"), cause("data")])));
    assert_eq!(shape(&classify(&info(true, false), 422, None, &body)), "Invalid metadata.uid,data");
}

#[test]
fn a_response_without_status_is_classified_by_its_code() {
    let second = Some(Duration::from_secs(1));
    let cases: [(u16, Option<Duration>, &str, &str); 8] = [
        (404, None, "404 page not found\n", "NotServed /p"),
        // Priority and fairness answers in plain text.
        (429, second, "Too many requests, please try again later.\n", "TooManyRequests Some(1s)"),
        (503, second, "<html>…</html>", "ServerBusy 503 Some(1s)"),
        (502, None, "", "ServerBusy 502 None"),
        (500, None, "panic", "Unexplained"),
        (403, None, "blocked by a proxy", "Other 403 "),
        (409, None, "{}", "Other 409 "),
        (401, None, "", "Unauthorized"),
    ];
    for (code, retry_after, body, expected) in cases {
        let error = classify(&info(false, false), code, retry_after, body.as_bytes());
        assert_eq!(shape(&error), expected, "{code}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn retry_after_in_the_header_overrides_the_body() {
    let body = status(429, "TooManyRequests", "", json!({ "retryAfterSeconds": 5 }));
    let error = classify(&info(false, false), 429, Some(Duration::from_secs(9)), &body);
    assert_eq!(error.retry().and_then(|retry| retry.after), Some(Duration::from_secs(9)));
}

#[test]
fn errors_about_secrets_are_redacted() {
    let secret = "/api/v1/namespaces/ns/secrets/a?fieldManager=x";
    let collection = "/api/v1/namespaces/ns/secrets";
    let other = "/api/v1/namespaces/ns/configmaps/secrets";
    let word = "hunter2-hunter2";
    let named = json!({"name": "a", "kind": "Secret", "causes": [
        {"reason": "FieldValueInvalid", "message": format!("Invalid value: {word}"), "field": "data[key]"}]});
    let cases = [
        (422, "Invalid", named.clone()),
        (400, "BadRequest", Value::Null),
        (400, "Denied", json!({"causes": [{"message": word}]})),
        (403, "Forbidden", Value::Null),
        (422, "Invalid", json!({"causes": [{"message": word}]})),
        (500, "InternalError", json!({"causes": [{"message": word}]})),
        (500, "", Value::Null),
        (418, "Teapot", Value::Null),
    ];
    for (code, reason, details) in cases {
        let body = status(code, reason, &format!("no: {word}"), details);
        for (verb, path, is_redacted) in [
            (Verb::Patch, secret, true),
            (Verb::Create, collection, true),
            (Verb::Update, secret, true),
            (Verb::Get, secret, false),
            (Verb::Patch, other, false),
        ] {
            let info = RequestInfo { verb, path: path.to_owned(), uid: false, resource_version: false };
            for body in [&body[..], format!("no: {word}").as_bytes()] {
                let error = classify(&info, code, None, body);
                let told = format!("{error} {error:?}");
                assert_eq!(!told.contains(word), is_redacted, "{verb} {path} {code} {reason}: {told}");
            }
        }
    }
    let info =
        RequestInfo { verb: Verb::Patch, path: secret.to_owned(), uid: false, resource_version: false };
    let error = classify(&info, 422, None, &status(422, "Invalid", word, named));
    assert_eq!(
        error.to_string(),
        "the API server refused the Secret (422, about data[key]); its message is withheld because it may quote the \
         data of the Secret"
    );
    // Quota and permissions are the server's own words.
    let quota = status(403, "Forbidden", "exceeded quota", json!({"name": "a", "kind": "secrets"}));
    assert_eq!(classify(&info, 403, None, &quota).to_string(), "exceeded quota");
}
