//! The objects of a data cache: a pure function of what the initializer is told and of the TrainJob.

use serde_json::{Value, json};
use trainerd_cluster::builtin;
use trainerd_object::Resource;

use crate::provision::settings::{Resources, Settings};

/// Port of head and workers.
const PORT: u16 = 50051;

/// Port of their probes.
const HEALTH: u16 = 8080;

/// Where the files of a Secret are in the pods.
const FILES: &str = "/etc/data-cache";

/// Where a worker keeps rows on its disk.
const DISK: &str = "/var/cache/data-cache";

/// The TrainJob that owns the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// The trace that the objects are made in, in the form of W3C's `traceparent`.
    pub traceparent: Option<String>,
}

/// An object and its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub resource: Resource,
    /// The whole of it.
    pub manifest: Value,
}

impl Object {
    /// Its name.
    pub fn name(&self) -> &str {
        self.manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Kind and name.
    pub fn shown(&self) -> String {
        format!("{} {}", self.resource.kind, self.name())
    }
}

/// The kind of what head and workers run as.
pub fn leader_worker_sets() -> Resource {
    Resource::namespaced("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets")
}

/// Name of the LeaderWorkerSet that is waited for.
pub fn set_name(settings: &Settings) -> String {
    format!("{}-cache", settings.shared.as_ref().unwrap_or(&settings.job))
}

/// The objects, in the order in which they are made. Of a cache that is there already, the Service only.
pub fn objects(settings: &Settings, owner: &Owner) -> Vec<Object> {
    let mut objects = Vec::new();
    if settings.shared.is_none() {
        objects.push(account(settings, owner));
        objects.push(set(settings, owner));
    }
    objects.push(service(settings, owner));
    objects
}

fn metadata(name: &str, owner: &Owner) -> Value {
    json!({
        "name": name,
        "namespace": owner.namespace,
        "ownerReferences": [{
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    })
}

/// Which cloud an identity is of: they cannot be mistaken for each other.
enum Identity<'a> {
    /// A role of IAM.
    Amazon(&'a str),
    /// A service account of Google Cloud.
    Google(&'a str),
    /// The client id of a managed identity.
    Azure(&'a str),
}

fn identity(settings: &Settings) -> Option<Identity<'_>> {
    let role = settings.role.as_deref()?;
    let is_id = role.len() == 36 && role.bytes().all(|letter| letter.is_ascii_hexdigit() || letter == b'-');
    Some(match role {
        _ if settings.is_upstream => Identity::Amazon(role),
        _ if role.ends_with(".gserviceaccount.com") => Identity::Google(role),
        _ if is_id => Identity::Azure(role),
        _ => Identity::Amazon(role),
    })
}

fn account(settings: &Settings, owner: &Owner) -> Object {
    let mut manifest = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(&format!("{}-cache", settings.job), owner),
    });
    let annotations = match identity(settings) {
        None => None,
        Some(Identity::Amazon(role)) => Some(json!({
            "eks.amazonaws.com/sts-regional-endpoints": "true",
            "eks.amazonaws.com/role-arn": role,
        })),
        Some(Identity::Google(account)) => Some(json!({ "iam.gke.io/gcp-service-account": account })),
        Some(Identity::Azure(client)) => Some(json!({ "azure.workload.identity/client-id": client })),
    };
    if let Some(annotations) = annotations {
        manifest["metadata"]["annotations"] = annotations;
    }
    Object { resource: builtin::service_account(), manifest }
}

fn service(settings: &Settings, owner: &Owner) -> Object {
    let app = format!("{}-head", set_name(settings));
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(&format!("{}-cache-service", settings.job), owner),
        "spec": {
            "selector": { "app": app },
            "ports": [{ "protocol": "TCP", "port": PORT, "targetPort": PORT }],
        },
    });
    Object { resource: builtin::service(), manifest }
}

fn set(settings: &Settings, owner: &Owner) -> Object {
    let name = set_name(settings);
    let mut template = json!({
        "size": settings.size,
        "leaderTemplate": {
            "metadata": { "labels": { "app": format!("{name}-head") } },
            "spec": pod(settings, owner, "head", &settings.head),
        },
        "workerTemplate": { "spec": pod(settings, owner, "worker", &settings.worker) },
    });
    if !settings.is_upstream {
        // A worker that starts again is given its assignment anew; the others go on.
        template["restartPolicy"] = json!("None");
        if let Some(Identity::Azure(_)) = identity(settings) {
            let label = json!("true");
            template["leaderTemplate"]["metadata"]["labels"]["azure.workload.identity/use"] = label.clone();
            template["workerTemplate"]["metadata"]["labels"]["azure.workload.identity/use"] = label;
        }
    }
    let manifest = json!({
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(&name, owner),
        "spec": { "replicas": settings.replicas, "leaderWorkerTemplate": template },
    });
    Object { resource: leader_worker_sets(), manifest }
}

fn pod(settings: &Settings, owner: &Owner, role: &str, resources: &Resources) -> Value {
    let mut variables = Vec::new();
    let mut add = |name: &str, value: &str| variables.push(json!({ "name": name, "value": value }));
    if let Some(metadata) = &settings.metadata {
        add("METADATA_LOC", metadata);
    }
    add("TABLE_NAME", &settings.table);
    add("SCHEMA_NAME", &settings.schema);
    let amounts = json!({ "cpu": resources.cpu, "memory": resources.memory });
    if !settings.is_upstream {
        for (name, value) in &settings.passed {
            add(name, value);
        }
        if let Some(traceparent) = &owner.traceparent {
            add("TRACEPARENT", traceparent);
        }
    }
    let probe = &settings.probe;
    let mut container = json!({
        "name": role,
        "image": settings.image,
        "command": [role],
        "args": ["0.0.0.0", PORT.to_string()],
        "env": variables,
        "resources": { "limits": amounts, "requests": amounts },
        "ports": [
            { "containerPort": PORT, "name": "grpc" },
            { "containerPort": HEALTH, "name": "health" },
        ],
        "readinessProbe": {
            "httpGet": { "path": "/ready", "port": HEALTH },
            "initialDelaySeconds": probe.initial_delay,
            "periodSeconds": probe.period,
            "timeoutSeconds": probe.timeout,
            "failureThreshold": probe.failure_threshold,
        },
    });
    let mut spec = json!({ "serviceAccountName": format!("{}-cache", settings.job) });
    if !settings.is_upstream {
        container["livenessProbe"] = json!({ "httpGet": { "path": "/live", "port": HEALTH }, "periodSeconds": 10, "failureThreshold": 6 });
        container["securityContext"] = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        });
    }
    if let Some(secret) = settings.secret.as_ref().filter(|_| !settings.is_upstream) {
        container["envFrom"] = json!([{ "secretRef": { "name": secret } }]);
    }
    if !settings.is_upstream {
        mount(settings, role, &mut container, &mut spec);
    }
    spec["containers"] = json!([container]);
    spec
}

/// Volumes of a pod, where it has any: files of a Secret, and the disk of a worker.
fn mount(settings: &Settings, role: &str, container: &mut Value, spec: &mut Value) {
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    if let Some(secret) = &settings.files {
        volumes.push(json!({ "name": "files", "secret": { "secretName": secret } }));
        mounts.push(json!({ "name": "files", "mountPath": FILES, "readOnly": true }));
    }
    if let Some((size, bytes)) = settings.disk.as_ref().filter(|_| role == "worker") {
        volumes.push(json!({ "name": "disk", "emptyDir": { "sizeLimit": size } }));
        mounts.push(json!({ "name": "disk", "mountPath": DISK }));
        if let Some(variables) = container["env"].as_array_mut() {
            variables.push(json!({ "name": "CACHE_DISK_DIR", "value": DISK }));
            // The kubelet evicts a pod that has more than the limit.
            variables.push(json!({ "name": "CACHE_DISK_BYTES", "value": (bytes / 10 * 9).to_string() }));
        }
    }
    if !volumes.is_empty() {
        spec["volumes"] = json!(volumes);
        container["volumeMounts"] = json!(mounts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn made(more: &[(&str, &str)]) -> Vec<Object> {
        let base = [
            ("TRAIN_JOB_NAME", "j"),
            ("CACHE_IMAGE", "ghcr.io/x/cache:1"),
            ("METADATA_LOC", "s3://b/m.json"),
            ("IAM_ROLE", "arn:aws:iam::1:role/r"),
        ];
        let lookup = |name: &str| {
            let given = more.iter().chain(&base).find(|(variable, _)| *variable == name);
            given.map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::read("s".into(), "t".into(), &lookup).unwrap();
        let owner = Owner {
            api_version: "trainer.kubeflow.org/v1alpha1".into(),
            kind: "TrainJob".into(),
            name: "j".into(),
            uid: "u".into(),
            namespace: "ns".into(),
            traceparent: Some(TRACEPARENT.to_owned()),
        };
        objects(&settings, &owner)
    }

    #[test]
    fn upstreams_objects_are_upstreams() {
        let objects = made(&[("CACHE_COMPATIBILITY", "upstream"), ("COLUMNS", "a")]);
        let shown: Vec<String> = objects.iter().map(Object::shown).collect();
        assert_eq!(shown, ["ServiceAccount j-cache", "LeaderWorkerSet j-cache", "Service j-cache-service"]);
        let owner = json!([{
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "name": "j", "uid": "u",
            "controller": true, "blockOwnerDeletion": true,
        }]);
        assert!(objects.iter().all(|object| object.manifest["metadata"]["ownerReferences"] == owner));
        let pod = |role: &str, cpu: &str, memory: &str| {
            json!({
                "serviceAccountName": "j-cache",
                "containers": [{
                    "name": role,
                    "image": "ghcr.io/x/cache:1",
                    "command": [role],
                    "args": ["0.0.0.0", "50051"],
                    "env": [
                        {"name": "METADATA_LOC", "value": "s3://b/m.json"},
                        {"name": "TABLE_NAME", "value": "t"},
                        {"name": "SCHEMA_NAME", "value": "s"},
                    ],
                    "resources": {
                        "limits": {"cpu": cpu, "memory": memory},
                        "requests": {"cpu": cpu, "memory": memory},
                    },
                    "ports": [
                        {"containerPort": 50051, "name": "grpc"},
                        {"containerPort": 8080, "name": "health"},
                    ],
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": 8080},
                        "initialDelaySeconds": 5, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
                    },
                }],
            })
        };
        assert_eq!(
            objects[1].manifest["spec"],
            json!({
                "replicas": 1,
                "leaderWorkerTemplate": {
                    "size": 3,
                    "leaderTemplate": {
                        "metadata": {"labels": {"app": "j-cache-head"}},
                        "spec": pod("head", "1", "1Gi"),
                    },
                    "workerTemplate": {"spec": pod("worker", "2", "2Gi")},
                },
            })
        );
        assert_eq!(
            objects[2].manifest["spec"],
            json!({
                "selector": {"app": "j-cache-head"},
                "ports": [{"protocol": "TCP", "port": 50051, "targetPort": 50051}],
            })
        );
        assert_eq!(
            objects[0].manifest["metadata"]["annotations"],
            json!({
                "eks.amazonaws.com/sts-regional-endpoints": "true",
                "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r",
            })
        );
    }

    #[test]
    fn ours_have_variables_and_go_on_when_a_pod_restarts() {
        let objects = made(&[("COLUMNS", "a,b"), ("CLUSTER_SIZE", "4")]);
        let template = &objects[1].manifest["spec"]["leaderWorkerTemplate"];
        assert_eq!((&template["restartPolicy"], &template["size"]), (&json!("None"), &json!(4)));
        let worker = &template["workerTemplate"]["spec"];
        let variables = worker["containers"][0]["env"].to_string();
        assert!(variables.contains(r#"{"name":"COLUMNS","value":"a,b"}"#), "{variables}");
        let head = &template["leaderTemplate"]["spec"];
        for pod in [head, worker] {
            let variables = pod["containers"][0]["env"].as_array().unwrap();
            let traceparent = json!({"name": "TRACEPARENT", "value": TRACEPARENT});
            assert!(variables.contains(&traceparent), "{variables:?}");
        }
        assert!(head.get("volumes").is_none());
        assert_eq!(head["containers"][0]["securityContext"]["readOnlyRootFilesystem"], json!(true));
    }

    /// Its values are never among the objects: those who may read pods may not read Secrets.
    #[test]
    fn credentials_are_named_and_not_copied() {
        let objects = made(&[("CACHE_SECRET", "store-keys"), ("AWS_SECRET_ACCESS_KEY", "sesame")]);
        let template = &objects[1].manifest["spec"]["leaderWorkerTemplate"];
        for role in ["leaderTemplate", "workerTemplate"] {
            let container = &template[role]["spec"]["containers"][0];
            assert_eq!(container["envFrom"], json!([{"secretRef": {"name": "store-keys"}}]), "{role}");
        }
        assert!(objects.iter().all(|object| !object.manifest.to_string().contains("sesame")));
        let upstreams = made(&[("CACHE_SECRET", "store-keys"), ("CACHE_COMPATIBILITY", "upstream")]);
        assert!(!upstreams[1].manifest.to_string().contains("store-keys"));
    }

    #[test]
    fn files_are_mounted_and_only_workers_have_a_disk() {
        let objects = made(&[
            ("CACHE_FILES", "cache-tls"),
            ("TLS_CERT_FILE", "/etc/data-cache/tls.crt"),
            ("WORKER_DISK", "10Gi"),
        ]);
        let template = &objects[1].manifest["spec"]["leaderWorkerTemplate"];
        let (head, worker) = (&template["leaderTemplate"]["spec"], &template["workerTemplate"]["spec"]);
        let files = json!({"name": "files", "secret": {"secretName": "cache-tls"}});
        assert_eq!(head["volumes"], json!([files]));
        assert_eq!(worker["volumes"], json!([files, {"name": "disk", "emptyDir": {"sizeLimit": "10Gi"}}]));
        let variables = |pod: &Value| pod["containers"][0]["env"].to_string();
        assert!(!variables(head).contains("CACHE_DISK_DIR"));
        assert!(variables(worker).contains(r#"{"name":"CACHE_DISK_BYTES","value":"9663676416"}"#));
        assert!(variables(head).contains(r#"{"name":"TLS_CERT_FILE","value":"/etc/data-cache/tls.crt"}"#));
        let upstreams = made(&[("CACHE_FILES", "cache-tls"), ("CACHE_COMPATIBILITY", "upstream")]);
        assert!(!upstreams[1].manifest.to_string().contains("cache-tls"));
    }

    #[test]
    fn an_identity_is_of_its_cloud_or_none() {
        let annotations =
            |role| made(&[("IAM_ROLE", role)])[0].manifest["metadata"].get("annotations").cloned();
        assert_eq!(annotations(""), None);
        assert_eq!(
            annotations("x@p.iam.gserviceaccount.com"),
            Some(json!({"iam.gke.io/gcp-service-account": "x@p.iam.gserviceaccount.com"}))
        );
        let azure = "12345678-1234-1234-1234-123456789abc";
        assert_eq!(annotations(azure), Some(json!({"azure.workload.identity/client-id": azure})));
    }

    #[test]
    fn a_shared_cache_gets_a_service_only() {
        let objects = made(&[("CACHE_NAME", "team")]);
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].shown(), "Service j-cache-service");
        assert_eq!(objects[0].manifest["spec"]["selector"], json!({"app": "team-cache-head"}));
    }
}
