//! By which certificate the daemon in a pod is known: its fingerprint, in a Secret beside the record.
//!
//! The certificate is new with each process, and nobody vouches for it but this Secret. It belongs to the pod, so
//! that it goes with it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trainerd_catalog::daemon_certificate;
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::{ApplyParams, Cluster, builtin};
use trainerd_plan::desired::Installation;
use trainerd_serve::Certificates;

use super::Crash;

/// Time after which it is written again: certificates are renewed, and somebody may take the Secret away.
const AGAIN: Duration = Duration::from_hours(1);

/// The pod that a daemon runs in.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    namespace: String,
    name: String,
    uid: String,
}

impl Pod {
    /// The pod that the environment names, as the daemon's Deployment has it.
    pub(super) fn of_environment(installation: &Installation) -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (name, uid) = (variable("POD_NAME")?, variable("POD_UID")?);
        Some(Self { namespace: installation.namespace.clone(), name, uid })
    }

    fn secret(&self, fingerprint: &str) -> Value {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid});
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": daemon_certificate(&self.name),
                "namespace": self.namespace,
                "ownerReferences": [owner],
            },
            "type": "trainerd.dev/certificate",
            "data": {"fingerprint": STANDARD.encode(fingerprint)},
        })
    }
}

/// Writes the fingerprint down, and again when it changes. It continues for ever.
pub(super) async fn publish(cluster: Cluster, pod: Pod, certificates: Certificates) -> Result<(), Crash> {
    let params = ApplyParams { force: true, metadata_only: true, ..ApplyParams::default() };
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
    loop {
        let secret = pod.secret(&certificates.fingerprint());
        let wait = match cluster.apply(&builtin::secret(), &secret, &params).await {
            Ok(_) => {
                backoff.reset();
                AGAIN
            }
            Err(error) => {
                tracing::warn!(%error, "failed to store the fingerprint of the certificate");
                backoff.next_wait()
            }
        };
        tokio::time::sleep(wait).await;
    }
}
