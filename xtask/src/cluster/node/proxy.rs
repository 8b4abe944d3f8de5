//! kube-proxy: ClusterIPs, for pods and for the API server's calls to webhooks.

use serde_json::json;

use super::super::control_plane::{POD_RANGE, start_recorded};
use super::super::parts::KUBE_PROXY;
use super::super::process::Launch;
use super::super::{Error, Folder, Parts, State};
use super::host::Host;
use crate::files;

/// Starts kube-proxy.
pub(super) fn start(folder: &Folder, state: &mut State, parts: &Parts, host: &Host) -> Result<(), Error> {
    let settings = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": folder.join("pki/proxy.conf") },
        "hostnameOverride": state.name,
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // Limits of connection tracking are the host's, and not for a namespace to set.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "iptables": {
            "minSyncPeriod": "0s",
            // Answers between two pods of one bridge come back through the node even where the kernel does
            // not filter bridges (no br_netfilter).
            "masqueradeAll": true,
        },
    });
    let configuration = folder.join("kube-proxy.yaml");
    files::write(&configuration, serde_yaml::to_string(&settings)?)?;
    let launch = Launch {
        name: KUBE_PROXY.program,
        program: parts.path(&KUBE_PROXY)?,
        arguments: vec![format!("--config={}", configuration.display())],
        namespace: state.network.as_ref().map(|network| network.namespace.clone()),
        path: Some(host.path.clone()),
    };
    start_recorded(folder, state, &launch)?;
    Ok(())
}
