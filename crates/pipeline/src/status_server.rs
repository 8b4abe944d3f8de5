//! Requests of the status server: training code says how far it is. What is read and answered is decided here; listening,
//! the check of tokens and the write are the caller's.

use serde_json::{Value, json};

use crate::names::{API_VERSION, GROUP};
use crate::value::{Object, at};
use crate::{go, wire};

/// The most that a body may have, in bytes.
pub const MAX_BODY: u64 = 1 << 16;
/// Field manager of status writes.
pub const FIELD_MANAGER: &str = "trainer-status";

/// The one path there is, for a TrainJob.
pub fn path(namespace: &str, name: &str) -> String {
    format!("/apis/{API_VERSION}/namespaces/{namespace}/trainjobs/{name}/status")
}

/// Audience of the tokens that may write the status of a TrainJob.
pub fn audience(namespace: &str, name: &str) -> String {
    format!("{API_VERSION}/namespaces/{namespace}/trainjobs/{name}/status")
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Namespace of the TrainJob.
    pub namespace: String,
    /// Name of the TrainJob.
    pub name: String,
}

/// An answer, `application/json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// The body; written with a newline at its end, as upstream's is.
    pub body: String,
}

/// An error as `metav1.Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another method or path.
    NoRoute,
    /// More than [`MAX_BODY`].
    TooLarge,
    /// A token that is missing or of somebody else.
    Forbidden,
    /// A body that is none of ours.
    Payload,
    /// The API server does not take the status, in its words.
    Invalid(String),
    /// There is no such TrainJob.
    NoTrainJob,
    /// Anything else.
    Internal,
}

impl Refusal {
    /// The answer.
    pub fn answer(&self) -> Answer {
        let (code, reason, message) = match self {
            Self::NoRoute => (404, "NotFound", "Not found"),
            Self::TooLarge => (413, "RequestEntityTooLarge", "Payload too large"),
            Self::Forbidden => (403, "Forbidden", "Forbidden"),
            Self::Payload => (422, "Invalid", "Invalid payload"),
            Self::Invalid(message) => (422, "Invalid", message.as_str()),
            Self::NoTrainJob => (404, "NotFound", "Train job not found"),
            Self::Internal => (500, "InternalError", "Internal error"),
        };
        let mut body = String::from("{\"metadata\":{},\"status\":\"Failure\",\"message\":");
        go::push_json_string(&mut body, message);
        body.extend([",\"reason\":\"", reason, "\",\"code\":", &code.to_string(), "}\n"]);
        Answer { code, body }
    }
}

/// What a request is about. Checks run in this order: route, size, token, body.
///
/// # Errors
/// Another route, or a body that says it is too long.
pub fn route(method: &str, path: &str, content_length: Option<u64>) -> Result<Target, Refusal> {
    // Upstream looks at the length before the route.
    if content_length.is_some_and(|length| length > MAX_BODY) {
        return Err(Refusal::TooLarge);
    }
    let prefix = ["", "apis", GROUP, "v1alpha1", "namespaces"];
    let parts: Vec<&str> = path.split('/').collect();
    match parts.strip_prefix(prefix.as_slice()) {
        Some([namespace, "trainjobs", name, "status"])
            if method == "POST" && !namespace.is_empty() && !name.is_empty() =>
        {
            Ok(Target { namespace: (*namespace).to_owned(), name: (*name).to_owned() })
        }
        _ => Err(Refusal::NoRoute),
    }
}

/// The token of an `Authorization` header: two words, the first `Bearer` in any case.
pub fn bearer(authorization: &str) -> Option<&str> {
    let mut words = authorization.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case("bearer") => Some(token),
        _ => None,
    }
}

/// A request that may be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What to apply to the status subresource, with [`FIELD_MANAGER`] and force; `None` when nothing is reported.
    pub apply: Option<Value>,
    /// The answer once it is applied.
    pub answer: Answer,
}

/// Reads a body.
///
/// # Errors
/// [`Refusal::Payload`] for everything that is not a report, a body that is too long among it.
pub fn report(target: &Target, body: &[u8]) -> Result<Report, Refusal> {
    if u64::try_from(body.len()).map_or(true, |length| length > MAX_BODY) {
        return Err(Refusal::Payload);
    }
    // The first document counts, as Go's decoder reads a stream.
    let first = serde_json::Deserializer::from_slice(body).into_iter::<Value>().next();
    let value = first.and_then(Result::ok).ok_or(Refusal::Payload)?;
    let request = decode::request(&value)?;
    let answer = |text: String| Answer { code: 200, body: format!("{text}\n") };
    let Some(status) = request else { return Ok(Report { apply: None, answer: answer("{}".to_owned()) }) };
    let mut echo = wire::normal_object("TrainerStatus", &Value::Object(status.clone()));
    // Go writes a zero time as null.
    echo.entry("lastUpdatedTime").or_insert(Value::Null);
    let apply = json!({
        "apiVersion": API_VERSION,
        "kind": "TrainJob",
        "metadata": { "name": target.name, "namespace": target.namespace },
        "status": { "trainerStatus": applied(&status) },
    });
    let text =
        format!("{{\"trainerStatus\":{}}}", wire::json_with_nulls("TrainerStatus", &Value::Object(echo)));
    Ok(Report { apply: Some(apply), answer: answer(text) })
}

/// What goes into the apply request: metrics with both fields, an absent time as null.
fn applied(status: &Object) -> Value {
    let status = Value::Object(status.clone());
    let mut out = json!({});
    for key in ["progressPercentage", "estimatedRemainingSeconds"] {
        if at(&status, &[key]).is_number() {
            out[key] = at(&status, &[key]).clone();
        }
    }
    if let Some(Value::Array(metrics)) = status.get("metrics").filter(|list| **list != json!([])) {
        let text = |metric: &Value, key: &str| at(metric, &[key]).as_str().unwrap_or_default().to_owned();
        let metric = |metric: &Value| json!({ "name": text(metric, "name"), "value": text(metric, "value") });
        out["metrics"] = metrics.iter().map(metric).collect();
    }
    out["lastUpdatedTime"] = at(&status, &["lastUpdatedTime"]).clone();
    out
}

/// Go's decoder: field names in any case, unknown ones ignored, null as absent, other forms refused.
mod decode {
    use jiff::Timestamp;
    use serde_json::Value;

    use crate::value::Object;

    /// The trainer status in a request; `None` inside when there is none, outside when the request is invalid.
    pub(super) fn request(value: &Value) -> Result<Option<Object>, super::Refusal> {
        let fields = match value {
            Value::Null => return Ok(None),
            other => other.as_object().ok_or(super::Refusal::Payload)?,
        };
        match field(fields, "trainerStatus") {
            None | Some(Value::Null) => Ok(None),
            Some(status) => {
                let status = status.as_object().and_then(trainer_status);
                status.map(Some).ok_or(super::Refusal::Payload)
            }
        }
    }

    fn field<'v>(fields: &'v Object, name: &str) -> Option<&'v Value> {
        let exact = fields.get(name);
        exact
            .or_else(|| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
    }

    fn trainer_status(fields: &Object) -> Option<Object> {
        let mut out = Object::new();
        for name in ["progressPercentage", "estimatedRemainingSeconds"] {
            match field(fields, name) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let number = value.as_i64().and_then(|number| i32::try_from(number).ok())?;
                    out.insert(name.into(), number.into());
                }
            }
        }
        match field(fields, "metrics") {
            None | Some(Value::Null) => {}
            Some(value) => {
                let metrics: Option<Vec<Value>> = value.as_array()?.iter().map(metric).collect();
                out.insert("metrics".into(), metrics?.into());
            }
        }
        match field(fields, "lastUpdatedTime") {
            None | Some(Value::Null) => {}
            Some(value) => {
                let time: Timestamp = value.as_str()?.parse().ok()?;
                out.insert("lastUpdatedTime".into(), crate::defaulting::format_time(time).into());
            }
        }
        Some(out)
    }

    fn metric(value: &Value) -> Option<Value> {
        let mut out = Object::new();
        let fields = match value {
            Value::Null => return Some(Value::Object(out)),
            other => other.as_object()?,
        };
        for name in ["name", "value"] {
            match field(fields, name) {
                None | Some(Value::Null) => {}
                Some(value) => drop(out.insert(name.into(), value.as_str()?.into())),
            }
        }
        Some(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_route_exists() {
        let good = path("n", "a");
        for (method, path, length, expected) in [
            ("POST", good.as_str(), Some(10), Ok(Target { namespace: "n".into(), name: "a".into() })),
            ("POST", good.as_str(), Some(MAX_BODY + 1), Err(Refusal::TooLarge)),
            ("GET", good.as_str(), None, Err(Refusal::NoRoute)),
            ("POST", "/", None, Err(Refusal::NoRoute)),
            (
                "POST",
                "/apis/trainer.kubeflow.org/v1alpha1/namespaces//trainjobs/a/status",
                None,
                Err(Refusal::NoRoute),
            ),
            (
                "POST",
                "/apis/trainer.kubeflow.org/v1alpha1/namespaces/n/trainjobs/a/status/",
                None,
                Err(Refusal::NoRoute),
            ),
        ] {
            assert_eq!(route(method, path, length), expected, "{method} {path}");
        }
    }

    #[test]
    fn the_bearer_token_is_parsed() {
        for (header, expected) in [
            ("Bearer t", Some("t")),
            (" bEARER \t t ", Some("t")),
            ("Bearer", None),
            ("Bearer a b", None),
            ("Basic t", None),
            ("", None),
        ] {
            assert_eq!(bearer(header), expected, "{header}");
        }
    }

    #[test]
    fn reports_are_parsed_as_in_go() {
        let target = Target { namespace: "n".into(), name: "a".into() };
        let time = "2026-04-04T04:04:04Z";
        for (body, expected) in [
            ("{}", Some((None, "{}\n".to_owned()))),
            ("null", Some((None, "{}\n".to_owned()))),
            (r#"{"trainerStatus":null,"x":1}"#, Some((None, "{}\n".to_owned()))),
            (
                r#"{"trainerStatus":{"progressPercentage":0,"LASTUPDATEDTIME":"2026-04-04T06:04:04.5+02:00","y":2}} trailing"#,
                Some((
                    Some(json!({"progressPercentage": 0, "lastUpdatedTime": time})),
                    format!(
                        "{{\"trainerStatus\":{{\"progressPercentage\":0,\"lastUpdatedTime\":\"{time}\"}}}}\n"
                    ),
                )),
            ),
            (
                r#"{"trainerStatus":{"metrics":[{"name":"a"}]}}"#,
                Some((
                    Some(json!({"metrics": [{"name": "a", "value": ""}], "lastUpdatedTime": null})),
                    "{\"trainerStatus\":{\"metrics\":[{\"name\":\"a\"}],\"lastUpdatedTime\":null}}\n"
                        .to_owned(),
                )),
            ),
            (r#"{"trainerStatus":{"progressPercentage":12.5}}"#, None),
            (r#"{"trainerStatus":{"progressPercentage":"1"}}"#, None),
            (r#"{"trainerStatus":{"progressPercentage":2147483648}}"#, None),
            (r#"{"trainerStatus":{"lastUpdatedTime":"yesterday"}}"#, None),
            (r#"{"trainerStatus":[]}"#, None),
            ("[]", None),
            ("", None),
            ("{", None),
        ] {
            let read = report(&target, body.as_bytes());
            match expected {
                None => assert_eq!(read, Err(Refusal::Payload), "{body}"),
                Some((status, echo)) => {
                    let read = read.unwrap();
                    let applied = read.apply.map(|object| at(&object, &["status", "trainerStatus"]).clone());
                    assert_eq!((applied, read.answer), (status, Answer { code: 200, body: echo }), "{body}");
                }
            }
        }
        assert_eq!(report(&target, &vec![b' '; 70_000]), Err(Refusal::Payload));
    }

    #[test]
    fn refusals_are_statuses() {
        let answer = Refusal::Invalid("a \"b\"".to_owned()).answer();
        assert_eq!(answer.code, 422);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let expected = json!({"metadata": {}, "status": "Failure", "message": "a \"b\"", "reason": "Invalid", "code": 422});
        assert_eq!(body, expected);
    }
}
