//! AdmissionReview (`admission.k8s.io/v1`): what the API server asks, and what it is answered.

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

/// What is asked about an object.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) uid: String,
    #[serde(default)]
    pub(crate) operation: String,
    #[serde(default)]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) object: Value,
    #[serde(default, rename = "oldObject")]
    pub(crate) old_object: Value,
}

/// Which operation is asked about.
#[derive(Debug)]
pub(crate) enum Operation {
    Create(Value),
    Update {
        old: Value,
        new: Value,
    },
    /// Nothing that a webhook here looks at.
    Delete,
}

#[derive(Deserialize)]
struct Review {
    request: Option<Request>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    verdict: Verdict,
    warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Allowed { patch: Option<Value> },
    Refused { code: u16, reason: Option<&'static str>, message: String },
}

impl Answer {
    /// It may be as it is.
    pub(crate) fn allowed() -> Self {
        Self { verdict: Verdict::Allowed { patch: None }, warnings: Vec::new() }
    }

    /// It may be, changed by a JSON patch. An empty one is none.
    pub(crate) fn patched(patch: Value) -> Self {
        let patch = Some(patch).filter(|patch| patch.as_array().is_some_and(|changes| !changes.is_empty()));
        Self { verdict: Verdict::Allowed { patch }, warnings: Vec::new() }
    }

    /// It may not be: 403.
    pub(crate) fn denied(message: String) -> Self {
        Self::refused(403, Some("Forbidden"), message)
    }

    /// It cannot be understood: 400.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::refused(400, None, message.into())
    }

    /// It cannot be judged: 500.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::refused(500, None, message.into())
    }

    /// The request is too large: 413.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::refused(413, None, format!("request entity is too large; limit is {limit} bytes"))
    }

    fn refused(code: u16, reason: Option<&'static str>, message: String) -> Self {
        Self { verdict: Verdict::Refused { code, reason, message }, warnings: Vec::new() }
    }

    #[must_use]
    pub(crate) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// The code inside the answer.
    #[cfg(test)]
    pub(crate) fn code(&self) -> u16 {
        match self.verdict {
            Verdict::Allowed { .. } => 200,
            Verdict::Refused { code, .. } => code,
        }
    }

    /// The review that answers the request of that uid.
    pub(crate) fn to_review(&self, uid: &str) -> Value {
        let mut response = match &self.verdict {
            Verdict::Allowed { patch } => {
                let mut response = json!({"uid": uid, "allowed": true, "status": {"code": 200}});
                if let Some(patch) = patch {
                    response["patchType"] = "JSONPatch".into();
                    response["patch"] = STANDARD.encode(patch.to_string()).into();
                }
                response
            }
            Verdict::Refused { code, reason, message } => {
                let mut status = json!({"code": code, "message": message});
                if let Some(reason) = reason {
                    status["reason"] = (*reason).into();
                }
                json!({"uid": uid, "allowed": false, "status": status})
            }
        };
        if !self.warnings.is_empty() {
            response["warnings"] = json!(self.warnings);
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

/// Reads a request.
///
/// # Errors
/// The answer to one that cannot be read.
pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Request, Answer> {
    if body.is_empty() {
        return Err(Answer::bad("request body is empty"));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind != "application/json" {
        return Err(Answer::bad(format!("contentType={kind}, expected application/json")));
    }
    let review: Review = serde_json::from_slice(body).map_err(|error| Answer::bad(error.to_string()))?;
    review.request.ok_or_else(|| Answer::bad("the review has no request"))
}

impl Request {
    /// The operation, with its objects.
    ///
    /// # Errors
    /// The answer to one that is unknown, or lacks an object.
    pub(crate) fn operation(self) -> Result<Operation, Answer> {
        let object = |object: Value| {
            if object.is_object() { Ok(object) } else { Err(Answer::bad("there is no content to decode")) }
        };
        match self.operation.as_str() {
            "CREATE" => Ok(Operation::Create(object(self.object)?)),
            "UPDATE" => Ok(Operation::Update { old: object(self.old_object)?, new: object(self.object)? }),
            "DELETE" => Ok(Operation::Delete),
            other => Err(Answer::bad(format!("unknown operation {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    fn ask(kind: &'static str, body: &str) -> Result<Operation, Answer> {
        read(&headers(kind), &Bytes::from(body.to_owned()))?.operation()
    }

    #[test]
    fn invalid_reviews_are_answered_with_400() {
        let review = |request: Value| json!({"request": request}).to_string();
        let cases = [
            (
                "text/plain",
                review(json!({"uid": "u", "operation": "DELETE"})),
                "contentType=text/plain, expected",
            ),
            ("application/json", String::new(), "request body is empty"),
            ("application/json", "{".to_owned(), "EOF"),
            ("application/json", "{}".to_owned(), "the review has no request"),
            ("application/json", review(json!({"uid": "u", "operation": "CREATE"})), "no content to decode"),
            (
                "application/json",
                review(json!({"uid": "u", "operation": "UPDATE", "object": {}})),
                "no content to decode",
            ),
            ("application/json", review(json!({"uid": "u", "operation": "WINK"})), "unknown operation"),
        ];
        for (kind, body, text) in cases {
            let answer = ask(kind, &body).unwrap_err();
            assert_eq!(answer.code(), 400);
            let review = answer.to_review("u");
            let message = review["response"]["status"]["message"].as_str().unwrap();
            assert!(message.contains(text), "{message}");
            assert_eq!(review["response"]["allowed"], false);
        }
        let deletion = review(json!({"uid": "u", "operation": "DELETE", "oldObject": {}}));
        assert!(matches!(ask("application/json", &deletion), Ok(Operation::Delete)));
    }

    #[test]
    fn responses_match_the_admission_api() {
        let patch = json!([{"op": "add", "path": "/a", "value": 1}]);
        let cases = [
            (Answer::allowed(), json!({"uid": "u", "allowed": true, "status": {"code": 200}})),
            (Answer::patched(json!([])), json!({"uid": "u", "allowed": true, "status": {"code": 200}})),
            (
                Answer::patched(patch.clone()),
                json!({
                    "uid": "u", "allowed": true, "status": {"code": 200},
                    "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()),
                }),
            ),
            (
                Answer::denied("no".to_owned()).warn(vec!["careful".to_owned()]),
                json!({
                    "uid": "u", "allowed": false, "warnings": ["careful"],
                    "status": {"code": 403, "reason": "Forbidden", "message": "no"},
                }),
            ),
            (
                Answer::too_large(7),
                json!({
                    "uid": "u", "allowed": false,
                    "status": {"code": 413, "message": "request entity is too large; limit is 7 bytes"},
                }),
            ),
        ];
        for (answer, response) in cases {
            let review = answer.to_review("u");
            assert_eq!(review["response"], response);
            assert_eq!(review["kind"], "AdmissionReview");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_answered(bytes: Vec<u8>) {
            let _ = read(&headers("application/json"), &bytes.into()).map(Request::operation);
        }

        #[test]
        fn any_review_is_answered(operation in ".*", uid in ".*", object in ".*") {
            let review = json!({"request": {"uid": uid, "operation": operation, "object": object}});
            let _ = ask("application/json", &review.to_string());
        }
    }
}
