//! Runtimes, TrainJobs and conditions, as the tests make and read them.

use serde_json::{Value, json};

use crate::NS;

pub(crate) fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    job["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

pub(crate) fn condition_types(job: &Value) -> Vec<&str> {
    let conditions = job["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().filter_map(|condition| condition["type"].as_str()).collect()
}

/// A ClusterTrainingRuntime with one job `node`.
pub(crate) fn a_runtime(name: &str, ml_policy: &Value) -> Value {
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": name},
        "spec": {
            "mlPolicy": ml_policy,
            "template": {"spec": {"replicatedJobs": [{
                "name": "node",
                "template": {
                    "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                    "spec": {"template": {"spec": {"containers": [{"name": "node", "image": "example.com/train:v1"}]}}},
                },
            }]}},
        },
    })
}

pub(crate) fn a_job(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec["runtimeRef"].is_null() {
        spec["runtimeRef"] = json!({"name": "plain"});
    }
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": NS},
        "spec": spec,
    })
}

pub(crate) fn a_condition(kind: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": reason, "message": "said by a test",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    })
}

/// The containers' node of a JobSet.
pub(crate) fn node(job_set: &Value) -> &Value {
    &job_set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
}
