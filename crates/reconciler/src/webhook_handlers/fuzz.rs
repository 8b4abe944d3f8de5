//! Bytes that a webhook is sent: every one is answered, and what is refused says why.

#[path = "../../../pipeline/tests/fuzz/random.rs"]
#[allow(dead_code, reason = "the pipeline's tests use the rest")]
mod random;

use axum::body::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use random::{fuzz, mutate, scramble};
use serde_json::{Value, json};

use super::{default, in_namespace, validate_runtime};
use crate::webhook::{Answer, read};
use trainerd_pipeline::Compatibility;

fn answers(headers: &HeaderMap, body: &Bytes, compatibility: Compatibility) -> (String, [Answer; 2]) {
    let read = || read(headers, body);
    match (read(), read()) {
        (Ok(request), Ok(again)) => {
            let uid = request.uid.clone();
            let _ = in_namespace(request.object.clone(), &request.namespace);
            (uid, [default(request), validate_runtime(again, compatibility)])
        }
        (Err(answer), _) | (_, Err(answer)) => (String::new(), [answer.clone(), answer]),
    }
}

#[test]
fn raw_webhook_bodies() {
    let job = json!({
        "metadata": {"name": "a", "deletionTimestamp": null},
        "spec": {"runtimePatches": [{"manager": "a.io/b", "time": "2026-01-02T03:04:05Z", "trainingRuntimeSpec": {}}]},
    });
    let container = json!({"name": "node"});
    let labels = json!({"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"template": {"spec": {"containers": [container]}}}});
    let runtime = json!({
        "metadata": {"name": "r", "labels": {"trainer.kubeflow.org/support": "deprecated"}}, "kind": "ClusterTrainingRuntime",
        "spec": {"template": {"spec": {"replicatedJobs": [{"name": "node", "replicas": 1, "template": template}]}}},
    });
    let review = |operation: &str, object: &Value| {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "operation": operation, "namespace": "n", "object": object, "oldObject": job,
        }})
    };
    let reviews = [
        review("CREATE", &job),
        review("UPDATE", &job),
        review("CREATE", &runtime),
        review("DELETE", &Value::Null),
    ];
    fuzz("raw webhook bodies", 5000, |random| {
        let mut review = reviews[random.usize(0..reviews.len())].clone();
        mutate(random, &mut review);
        let mut bytes = review.to_string().into_bytes();
        scramble(random, &mut bytes);
        let kind = if random.u8(0..16) == 0 { "text/plain" } else { "application/json" };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        let compatibility = [Compatibility::Upstream, Compatibility::Extended][random.usize(0..2)];
        let (uid, answers) = answers(&headers, &Bytes::from(bytes), compatibility);
        for answer in answers {
            let response = &answer.to_review(&uid)["response"];
            assert_eq!(response["uid"], uid.as_str());
            let code = response["status"]["code"].as_u64().unwrap_or_default();
            match response["allowed"].as_bool() {
                Some(true) => assert_eq!(code, 200),
                Some(false) => {
                    assert!(matches!(code, 400 | 403), "{response}");
                    let message = response["status"]["message"].as_str().unwrap_or_default();
                    assert!(message.len() > 8, "{response}");
                }
                None => panic!("no verdict: {response}"),
            }
        }
    });
}
