//! The kubelet.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::control_plane::start_recorded;
use super::super::parts::KUBELET;
use super::super::process::{self, Launch, Process};
use super::super::{Error, Folder, Network, Parts, State, stop};
use super::host::Host;
use super::{cgroup, name_service, runtime};
use crate::files;

/// Time that it has to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Starts the kubelet.
pub(super) fn start(
    folder: &Folder,
    state: &mut State,
    parts: &Parts,
    host: &Host,
) -> Result<Process, Error> {
    let launch = launch(folder, state, parts, host)?;
    start_recorded(folder, state, &launch)
}

/// Starts the kubelet of a node that had one; one that runs is left as it is.
pub(super) fn start_again(folder: &Folder, state: &State, parts: &Parts, host: &Host) -> Result<(), Error> {
    if process::recorded(folder, KUBELET.program).is_some_and(|process| process.is_alive()) {
        return Ok(());
    }
    process::start(folder, &launch(folder, state, parts, host)?)?;
    Ok(())
}

/// Stops the kubelet; its pods continue.
pub(super) fn stop(folder: &Folder) -> Result<(), Error> {
    stop::stop_recorded(folder, KUBELET.program, GRACE)
}

fn launch(folder: &Folder, state: &State, parts: &Parts, host: &Host) -> Result<Launch, Error> {
    let network = state.network.clone().ok_or(Error::NoNetwork)?;
    // Pods get no name service of the host's, only the cluster's.
    files::write(&folder.join("resolv.conf"), "")?;
    let configuration = folder.join("kubelet.yaml");
    files::write(&configuration, serde_yaml::to_string(&settings(folder, &state.name, &network))?)?;
    let arguments = vec![
        format!("--config={}", configuration.display()),
        format!("--kubeconfig={}", folder.join("pki/kubelet.conf").display()),
        format!("--hostname-override={}", state.name),
        format!("--node-ip={}", network.node_address),
        format!("--root-dir={}", folder.join("kubelet").display()),
        format!("--cert-dir={}", folder.join("kubelet/pki").display()),
    ];
    Ok(Launch {
        name: KUBELET.program,
        program: parts.path(&KUBELET)?,
        arguments,
        namespace: Some(network.namespace),
        path: Some(host.path.clone()),
    })
}

fn settings(folder: &Folder, name: &str, network: &Network) -> Value {
    let path = |relative: &str| folder.join(relative).display().to_string();
    let runtime = format!("unix://{}", runtime::socket(folder).display());
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node_address,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": path("pki/ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": path("pki/kubelet.crt"),
        "tlsPrivateKeyFile": path("pki/kubelet.key"),
        "containerRuntimeEndpoint": runtime,
        "imageServiceEndpoint": runtime,
        "clusterDNS": [name_service::ADDRESS],
        "clusterDomain": name_service::DOMAIN,
        "resolvConf": path("resolv.conf"),
        "podLogsDir": path("pod-logs"),
        "volumePluginDir": path("kubelet/plugins"),
        // Pods' groups below one of the cluster's own: what belongs to it is then known whoever is alive.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup::root(name),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        // The controllers write their certificates into Secrets that their pods mount already, and are ready
        // once they see them there: with the default of a minute, up to 90 seconds later.
        "syncFrequency": "5s",
        // Images cannot be pulled again: none is ever collected, and a full disk evicts nobody.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
    })
}
