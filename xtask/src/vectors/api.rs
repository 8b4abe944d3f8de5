//! Cases of the API server, and of the status server, which stands before it.

use serde_json::{Value, json};
use trainerd_pipeline::api_server::{self, Part};
use trainerd_pipeline::status_server::{self, Answer, Refusal};
use trainerd_pipeline::{aggregate, names};

/// Storing an object: validation, pruning, defaulting.
pub(super) fn store(case: &Value) -> Value {
    let given = |value: &'_ Value| Some(value.clone()).filter(Value::is_object);
    let (train_job, runtime) = (given(&case["trainJob"]), given(&case["runtime"]));
    let old = given(&case["oldTrainJob"]).or_else(|| given(&case["options"]["oldRuntime"]));
    let part = if case["options"]["subresource"] == "status" { Part::Status } else { Part::Main };
    let Some(object) = train_job.or(runtime) else { return Value::Null };
    match api_server::store(&object, old.as_ref(), part) {
        Ok(stored) => {
            let mut out = json!({ "errors": stored.errors, "pruned": stored.pruned });
            if stored.errors.is_empty() {
                out["defaulted"] = stored.object;
            }
            out
        }
        Err(error) => json!({ "errors": [error.to_string()] }),
    }
}

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
    let mut new = train_job.clone();
    new["status"]["trainerStatus"] = apply["status"]["trainerStatus"].clone();
    let stored = api_server::store(&new, Some(train_job), Part::Status).map_err(|_| Refusal::Internal)?;
    if let Some(errors) = aggregate(stored.errors) {
        let message = format!("TrainJob.trainer.kubeflow.org \"{}\" is invalid: {errors}", target.name);
        return Err(Refusal::Invalid(message));
    }
    Ok((report.answer, Some(apply)))
}
