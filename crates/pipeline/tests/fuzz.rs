//! What comes from outside makes nothing panic, and every refusal says what is wrong: configuration files, objects that
//! webhooks are asked about, reports of status, runtime patches, quantities. A sample of each; as many as `TRAINERD_FUZZ`
//! says (`cargo xtask fuzz` tries a million). A failure names its seed and number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test stops where it is surprised"
)]

#[path = "fuzz/admission.rs"]
mod admission;
#[path = "fuzz/patches.rs"]
mod patches;
#[path = "fuzz/random.rs"]
mod random;
#[path = "fuzz/texts.rs"]
mod texts;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trainerd_pipeline::{BuildProfile, Compatibility, Facts, FixedSshKey, Lookup};

/// No PriorityClasses.
static NO_CLASSES: BTreeMap<String, Lookup> = BTreeMap::new();

fn facts(compatibility: Compatibility, profile: BuildProfile, job_set: Option<&Value>) -> Facts<'_> {
    Facts {
        compatibility,
        profile,
        operator_namespace: "kubeflow-system",
        service_name: "kubeflow-trainer-controller-manager",
        status_port: Some(10443),
        train_job_status: true,
        certificate_authority: Ok("CA"),
        job_set,
        coscheduling_pod_group: false,
        volcano_pod_group: false,
        ssh_secret: false,
        priority_classes: &NO_CLASSES,
        keys: &FixedSshKey,
    }
}

const TRAINER: &str = "trainer.kubeflow.org/trainjob-ancestor-step";

/// A runtime of that policy with initializers, a launcher, nodes and a sidecar: something of everything.
fn a_runtime(policy: &Value) -> Value {
    let job = |name: &str, ancestor: &str| {
        let mounts = json!([{"name": "initializer", "mountPath": "/workspace"}]);
        let container = json!({
            "name": name, "image": "i", "command": ["tune", "run"], "args": ["a"], "volumeMounts": mounts,
            "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 29500}],
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"nvidia.com/gpu": 2}},
        });
        let sidecar = json!({"name": "side", "image": "s", "restartPolicy": "Always"});
        json!({
            "name": name, "replicas": 1, "dependsOn": [],
            "template": {
                "metadata": {"labels": {TRAINER: ancestor}},
                "spec": {"parallelism": 1, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "containers": [container], "initContainers": [sidecar], "overhead": {"cpu": "1m"},
                    "volumes": [{"name": "initializer", "emptyDir": {}}], "priorityClassName": "system-node-critical",
                    "tolerations": [{"key": "k"}], "nodeSelector": {"a": "b"}, "runtimeClassName": "r",
                }}},
            },
        })
    };
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "ClusterTrainingRuntime",
        "metadata": {"name": "torchtune-llama3.2-1b", "labels": {"trainer.kubeflow.org/support": "deprecated"}},
        "spec": {
            "mlPolicy": policy,
            "podGroupPolicy": {"coscheduling": {"scheduleTimeoutSeconds": 60}, "volcano": {"networkTopology": {"mode": "hard"}}},
            "template": {
                "metadata": {"labels": {"l": "1"}, "annotations": {"scheduling.volcano.sh/queue-name": "q"}},
                "spec": {"network": {"subdomain": "s"}, "replicatedJobs": [
                    job("dataset-initializer", "dataset-initializer"), job("model-initializer", "model-initializer"),
                    job("launcher", "trainer"), job("node", "trainer"),
                ]},
            },
        },
    })
}

/// Every framework.
fn policies() -> Vec<Value> {
    let targets = json!([{"jobName": "launcher", "containerNames": ["launcher"]}]);
    vec![
        json!({"numNodes": 2, "torch": {"numProcPerNode": "auto", "envInjection": {"targets": targets}}}),
        json!({"numNodes": 3, "mpi": {"numProcPerNode": 2, "mpiImplementation": "OpenMPI", "runLauncherAsNode": true, "sshAuthMountPath": "/root/.ssh"}}),
        json!({"numNodes": 2, "jax": {}}),
        json!({"numNodes": 2, "xgboost": {}}),
        json!({"numNodes": 2, "flux": {"numProcPerNode": 2}}),
        json!({"numNodes": 2}),
        Value::Null,
    ]
}

/// A TrainJob that uses whatever one can say.
fn a_train_job() -> Value {
    let node = json!({
        "name": "node",
        "template": {"metadata": {"labels": {"x": "y"}}, "spec": {"template": {
            "metadata": {"annotations": {"a": "1"}},
            "spec": {
                "nodeSelector": {"pool": "gpu"}, "tolerations": [{"operator": "Exists"}], "schedulingGates": [{"name": "g"}],
                "containers": [{"name": "node", "env": [{"name": "B", "value": "2"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
                "initContainers": [{"name": "side", "securityContext": {"runAsUser": 1}}],
                "volumes": [{"name": "v", "emptyDir": {}}], "imagePullSecrets": [{"name": "p"}],
                "affinity": {"nodeAffinity": {}}, "serviceAccountName": "sa", "terminationGracePeriodSeconds": 5,
            },
        }}},
    });
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob",
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z", "resourceVersion": "7"},
        "spec": {
            "runtimeRef": {"name": "torchtune-llama3.2-1b", "apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime"},
            "suspend": false, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 5,
            "managedBy": "trainer.kubeflow.org/trainjob-controller",
            "initializer": {
                "dataset": {"storageUri": "hf://a/b", "env": [{"name": "C", "value": ""}], "secretRef": {"name": "s"}},
                "model": {"storageUri": "s3://a/b"},
            },
            "trainer": {
                "image": "i", "command": ["tune", "run"], "args": ["model.quantize_base=true", "model.lora_attn_modules=[q]"],
                "numNodes": 2, "numProcPerNode": 2,
                "env": [{"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}, {"name": "FLUX_NETWORK_DEVICE", "value": "e"}],
                "resourcesPerNode": {"requests": {"cpu": "3.5", "nvidia.com/gpu": "1"}, "limits": {"memory": "2Gi"}},
            },
            "runtimePatches": [
                {"manager": "kueue.x-k8s.io/manager", "time": "2026-01-02T03:04:05Z", "trainingRuntimeSpec": {"template": {
                    "metadata": {"labels": {"l": "2"}}, "spec": {"replicatedJobs": [node]},
                }}},
                {"manager": "acme.io/other"},
            ],
        },
        "status": {"conditions": [{"type": "Suspended", "status": "False", "reason": "Resumed", "message": "m", "lastTransitionTime": "2026-01-02T03:05:05Z"}]},
    })
}
