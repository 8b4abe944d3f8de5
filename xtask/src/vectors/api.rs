//! Cases of the status server.

use serde_json::{Value, json};
use trainerd_pipeline::names;
use trainerd_pipeline::status_server::{self, Answer, Refusal};

/// A request of the status server.
pub(super) fn report(case: &Value) -> Value {
    let http = &case["options"]["http"];
    let text = |key: &str| http[key].as_str().unwrap_or_default();
    let (answer, applied) = match handle(case, text("method"), text("path"), text("body"), text("auth")) {
        Ok(done) => done,
        Err(refusal) => (refusal.answer(), None),
    };
    let body: Value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    let mut out = json!({ "code": answer.code, "contentType": "application/json", "body": body });
    if let Some(object) = applied {
        out["status"] = object["status"].clone();
        out["applied"] = object;
    }
    out
}

fn handle(
    case: &Value,
    method: &str,
    path: &str,
    body: &str,
    authorization: &str,
) -> Result<(Answer, Option<Value>), Refusal> {
    let target = status_server::route(method, path, u64::try_from(body.len()).ok())?;
    match authorization {
        "Bearer good" => {}
        "Bearer error" => return Err(Refusal::Internal),
        _ => return Err(Refusal::Forbidden),
    }
    let report = status_server::report(&target, body.as_bytes())?;
    let Some(apply) = report.apply else { return Ok((report.answer, None)) };
    let train_job = &case["trainJob"];
    let exists = names::namespace(train_job) == target.namespace && names::name(train_job) == target.name;
    if !exists {
        return Err(Refusal::NoTrainJob);
    }
    Ok((report.answer, Some(apply)))
}
