//! CoreDNS as a Deployment, as every cluster has it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::super::{Error, Folder};
use crate::command::run;
use crate::files;
use crate::image::catalog::COREDNS;

/// Address of the Service `kube-dns`, which every pod asks.
pub(super) const ADDRESS: &str = "10.96.0.10";
/// The domain of all Services.
pub(super) const DOMAIN: &str = "cluster.local";
/// Path of the Deployment at the API server.
pub(super) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";

/// CoreDNS listens here, so that it needs no rights for a port below 1024.
const PORT: u16 = 1053;

/// Seconds are short: tests delete and make Services under the same names.
const COREFILE: &str = ".:1053 {
    errors
    health :8080
    ready :8181
    kubernetes cluster.local in-addr.arpa {
        ttl 5
    }
    cache 5
}
";

/// Applies the objects.
pub(super) fn apply(folder: &Folder, kubectl: &Path) -> Result<(), Error> {
    let path = folder.join("coredns.json");
    files::write(&path, serde_json::to_string_pretty(&objects())?)?;
    run(Command::new(kubectl)
        .arg("--kubeconfig")
        .arg(folder.kubeconfig())
        .args(["apply", "--server-side", "--field-manager=xtask", "--filename"])
        .arg(path))?;
    Ok(())
}

fn objects() -> Value {
    let metadata = json!({ "name": "coredns", "namespace": "kube-system" });
    let labels = json!({ "k8s-app": "kube-dns" });
    let probe =
        |path: &str, port: u16| json!({ "httpGet": { "path": path, "port": port }, "periodSeconds": 1 });
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": { "name": "system:coredns" },
                "rules": [
                    {
                        "apiGroups": [""],
                        "resources": ["services", "pods", "namespaces"],
                        "verbs": ["list", "watch"],
                    },
                    {
                        "apiGroups": ["discovery.k8s.io"],
                        "resources": ["endpointslices"],
                        "verbs": ["list", "watch"],
                    },
                ],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": { "name": "system:coredns" },
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "system:coredns",
                },
                "subjects": [{ "kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system" }],
            },
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": { "Corefile": COREFILE },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": labels },
                "spec": {
                    "clusterIP": ADDRESS,
                    "selector": labels,
                    "ports": [
                        { "name": "dns", "port": 53, "targetPort": PORT, "protocol": "UDP" },
                        { "name": "dns-tcp", "port": 53, "targetPort": PORT, "protocol": "TCP" },
                    ],
                },
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": metadata,
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": labels },
                    "template": {
                        "metadata": { "labels": labels },
                        "spec": {
                            "serviceAccountName": "coredns",
                            // It is the cluster's name service and cannot ask itself.
                            "dnsPolicy": "Default",
                            "priorityClassName": "system-cluster-critical",
                            "containers": [{
                                "name": "coredns",
                                "image": COREDNS.references[0],
                                // No requests: the two cores of a small machine are for the stack.
                                "args": ["-conf", "/etc/coredns/Corefile"],
                                "readinessProbe": probe("/ready", 8181),
                                "livenessProbe": probe("/health", 8080),
                                "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns" }],
                            }],
                            "volumes": [{ "name": "config", "configMap": { "name": "coredns" } }],
                        },
                    },
                },
            },
        ],
    })
}
