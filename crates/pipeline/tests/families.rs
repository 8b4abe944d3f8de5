//! The pipeline by families of input, with both kinds of compatibility: what each decides, and that `extended` never changes what quota and
//! scheduling depend on.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it is surprised"
)]

#[path = "families/admission.rs"]
mod admission;
#[path = "families/frameworks.rs"]
mod frameworks;
#[path = "families/gating.rs"]
mod gating;
#[path = "families/passes.rs"]
mod passes;
#[path = "families/shape.rs"]
mod shape;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use trainerd_pipeline::{BuildError, BuildProfile, Compatibility, Facts, FixedSshKey, Lookup, build};

/// No PriorityClasses.
static NO_CLASSES: BTreeMap<String, Lookup> = BTreeMap::new();

/// An empty cluster.
fn facts(compatibility: Compatibility) -> Facts<'static> {
    Facts {
        compatibility,
        profile: if compatibility == Compatibility::Upstream {
            BuildProfile::Upstream
        } else {
            BuildProfile::Extended
        },
        operator_namespace: "kubeflow-system",
        service_name: "kubeflow-trainer-controller-manager",
        status_port: Some(10443),
        train_job_status: false,
        certificate_authority: Ok("CA"),
        job_set: None,
        coscheduling_pod_group: false,
        volcano_pod_group: false,
        ssh_secret: false,
        priority_classes: &NO_CLASSES,
        keys: &FixedSshKey,
    }
}

/// A replicated Job with one container of its own name, or `node`'s.
fn job(name: &str, ancestor: Option<&str>, container: Value) -> Value {
    let mut job = json!({ "name": name, "replicas": 1, "template": { "spec": { "template": { "spec": { "containers": [container] } } } } });
    if let Some(ancestor) = ancestor {
        job["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] =
            ancestor.into();
    }
    job
}

fn runtime(ml_policy: Value, jobs: Vec<Value>) -> Value {
    let mut runtime = json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "ClusterTrainingRuntime", "metadata": { "name": "r" },
        "spec": { "template": { "spec": { "replicatedJobs": jobs } } },
    });
    if !ml_policy.is_null() {
        runtime["spec"]["mlPolicy"] = ml_policy;
    }
    runtime
}

fn node() -> Value {
    job("node", Some("trainer"), json!({ "name": "node", "image": "i" }))
}

fn train_job(spec: Value) -> Value {
    let mut all = json!({ "runtimeRef": { "name": "r", "apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime" } });
    all.as_object_mut().unwrap().extend(spec.as_object().cloned().unwrap_or_else(Map::new));
    json!({ "metadata": { "name": "a", "namespace": "n", "uid": "u" }, "spec": all })
}

fn built(runtime: &Value, train_job: &Value, compatibility: Compatibility) -> Result<Vec<Value>, BuildError> {
    build(runtime, train_job, &facts(compatibility))
}

fn job_set(runtime: &Value, train_job: &Value, compatibility: Compatibility) -> Value {
    let objects = built(runtime, train_job, compatibility).unwrap();
    objects.into_iter().find(|object| object["kind"] == "JobSet").unwrap()
}

/// The container `node` of the Job `node`.
fn container(job_set: &Value) -> &Value {
    let jobs = job_set["spec"]["replicatedJobs"].as_array().unwrap();
    let job = jobs.iter().find(|job| job["name"] == "node").unwrap();
    let containers = job["template"]["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    containers.iter().find(|container| container["name"] == "node").unwrap()
}

/// Variables as `NAME=value`, those of fields as `NAME`.
fn env(container: &Value) -> Vec<String> {
    let variable = |one: &Value| match one["value"].as_str() {
        Some(value) => format!("{}={value}", one["name"].as_str().unwrap()),
        None => one["name"].as_str().unwrap().to_owned(),
    };
    container["env"].as_array().into_iter().flatten().map(variable).collect()
}
