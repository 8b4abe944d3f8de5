//! The node: an object that says it is ready, and a lease that says it lives.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use trainerd_cluster::{ApplyParams, Cluster, CreateParams, RequestError};

use super::{Error, NODE, kinds, raw};

/// A kubelet's own period; the controller manager misses a node after 50 s.
const RENEW: Duration = Duration::from_secs(10);
const LEASE_NAMESPACE: &str = "kube-node-lease";

pub(super) struct Node {
    cluster: Cluster,
}

impl Node {
    /// Makes the node, or takes over the one that is there.
    pub(super) async fn register(cluster: Cluster, address: IpAddr, cpu_millis: u64) -> Result<Self, Error> {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"}},
        });
        match cluster.create(&kinds::node(), &node, CreateParams::default()).await {
            Ok(_) | Err(RequestError::AlreadyExists { .. }) => {}
            Err(source) => {
                return Err(Error::Request { action: "register the node", source: Box::new(source) });
            }
        }
        let node = Self { cluster };
        node.renew().await?;
        node.report(address, cpu_millis).await?;
        Ok(node)
    }

    async fn report(&self, address: IpAddr, cpu_millis: u64) -> Result<(), Error> {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": "the stand-in runs",
                   "lastHeartbeatTime": now, "lastTransitionTime": now})
        };
        let capacity = json!({"cpu": format!("{cpu_millis}m"), "memory": "256Gi", "pods": "1000"});
        let status = json!({"status": {
            "addresses": [
                {"type": "InternalIP", "address": address.to_string()},
                {"type": "Hostname", "address": NODE},
            ],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [
                condition("Ready", "True", "KubeletReady"),
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            ],
        }});
        let reported = raw::patch_status(&self.cluster, &format!("/api/v1/nodes/{NODE}"), &status).await;
        reported.map_err(|source| Error::Subresource {
            action: "report the node's status",
            source: Box::new(source),
        })
    }

    async fn renew(&self) -> Result<(), Error> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NODE, "namespace": LEASE_NAMESPACE},
            "spec": {
                "holderIdentity": NODE,
                "leaseDurationSeconds": 40,
                "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            },
        });
        let params = ApplyParams { force: true, ..ApplyParams::default() };
        match self.cluster.apply(&kinds::lease(), &lease, &params).await {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Request { action: "renew the node's lease", source: Box::new(source) }),
        }
    }

    /// Renews the lease for ever. A renewal that fails is made up for by the next: the node is missed only
    /// after several.
    pub(super) async fn keep_alive(self) -> Result<(), Error> {
        loop {
            tokio::time::sleep(RENEW).await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "the node's lease was not renewed");
            }
        }
    }
}
