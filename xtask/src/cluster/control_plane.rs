//! etcd, the API server and the controller manager.

use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::certificates::Keys;
use super::parts::{ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER};
use super::probe::Probe;
use super::process::{self, Launch, Process};
use super::{Error, Folder, Part, Parts, Profile, State, state, stop, wait};
use crate::files;

/// The range that Services get their addresses from.
pub(super) const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The range that pods get their addresses from.
pub(super) const POD_RANGE: &str = "10.244.0.0/24";

/// Bounds: ten times what an idle machine with two cores needs, for a busy one.
const ETCD_BOUND: Duration = Duration::from_secs(30);
const API_SERVER_BOUND: Duration = Duration::from_mins(1);
const CONTROLLERS_BOUND: Duration = Duration::from_mins(1);
const PORT_BOUND: Duration = Duration::from_secs(5);

/// Starts the control plane and waits until pods can be created in it.
pub(super) fn start(folder: &Folder, state: &mut State, parts: &Parts, keys: &Keys) -> Result<(), Error> {
    let etcd = launch(folder, state, parts, &ETCD, etcd_arguments(folder, state))?;
    if state.network.is_none() {
        // Only from inside can a namespace's loopback be looked at; the API server waits for etcd as well.
        let address = (Ipv4Addr::LOCALHOST, state.ports.etcd);
        wait::until(folder, &etcd, "etcd to listen", ETCD_BOUND, || TcpStream::connect(address).is_ok())?;
    }

    files::write(&folder.join("audit-policy.yaml"), serde_yaml::to_string(&audit_policy())?)?;
    let api_server = launch(folder, state, parts, &KUBE_APISERVER, api_server_arguments(folder, state))?;
    let probe = Probe::new(state, keys)?;
    wait::until(folder, &api_server, "the API server to be ready", API_SERVER_BOUND, || {
        probe.is_ok("/readyz")
    })?;

    if parts.has(&KUBE_CONTROLLER_MANAGER) {
        let arguments = controller_manager_arguments(folder, state);
        let manager = launch(folder, state, parts, &KUBE_CONTROLLER_MANAGER, arguments)?;
        // Its controllers make this ServiceAccount first; without it no pod is admitted.
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        wait::until(folder, &manager, "the controllers to work", CONTROLLERS_BOUND, || probe.is_ok(account))?;
    }
    Ok(())
}

/// Starts one of the built programs in the cluster's network and notes it in the cluster's state.
pub(super) fn launch(
    folder: &Folder,
    state: &mut State,
    parts: &Parts,
    part: &Part,
    arguments: Vec<String>,
) -> Result<Process, Error> {
    let launch = of_part(state, parts, part, arguments)?;
    start_recorded(folder, state, &launch)
}

/// How one of the built programs is started in the cluster's network.
fn of_part(state: &State, parts: &Parts, part: &Part, arguments: Vec<String>) -> Result<Launch, Error> {
    Ok(Launch {
        name: part.program,
        program: parts.path(part)?,
        arguments,
        namespace: state.network.as_ref().map(|network| network.namespace.clone()),
        path: None,
    })
}

/// Kills the API server and starts it again, as it was. It serves a few seconds later.
pub(super) fn restart_api_server(folder: &Folder, state: &State, parts: &Parts) -> Result<(), Error> {
    let launch = of_part(state, parts, &KUBE_APISERVER, api_server_arguments(folder, state))?;
    stop::stop_recorded(folder, launch.name, Duration::ZERO)?;
    // The last of its threads may release the port a moment after the process has ended.
    let address = (state.address(), state.ports.api_server);
    let began = Instant::now();
    while TcpStream::connect(address).is_ok() && began.elapsed() < PORT_BOUND {
        wait::check_interrupted()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    process::start(folder, &launch)?;
    Ok(())
}

/// Starts a process and notes it in the cluster's state.
pub(super) fn start_recorded(folder: &Folder, state: &mut State, launch: &Launch) -> Result<Process, Error> {
    wait::check_interrupted()?;
    let process = process::start(folder, launch)?;
    state.processes.push(process.name().to_owned());
    state::save(folder, state)?;
    Ok(process)
}

fn etcd_arguments(folder: &Folder, state: &State) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", state.ports.etcd);
    let peer = format!("http://127.0.0.1:{}", state.ports.etcd_peer);
    vec![
        "--name=default".into(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data never outlives the machine's uptime: nothing to lose, and several times as fast.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn api_server_arguments(folder: &Folder, state: &State) -> Vec<String> {
    let pki = |file: &str| folder.join(&format!("pki/{file}")).display().to_string();
    let address = state.address();
    let mut arguments = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", state.ports.etcd),
        format!("--secure-port={}", state.ports.api_server),
        format!("--bind-address={address}"),
        format!("--advertise-address={address}"),
        format!("--endpoint-reconciler-type={}", endpoint_reconciler(state)),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--service-account-key-file={}", pki("service-account.pub")),
        format!("--service-account-signing-key-file={}", pki("service-account.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged".into(),
        format!("--audit-policy-file={}", folder.join("audit-policy.yaml").display()),
        format!("--audit-log-path={}", folder.audit_log().display()),
        // An event is in the log before its answer is sent: who got an answer can count on the log.
        "--audit-log-mode=blocking".into(),
        // Megabytes. The default rotates at 100, and readers would lose the beginning.
        "--audit-log-maxsize=100000".into(),
    ];
    match (state.profile, &state.network) {
        (Profile::Node, _) => arguments.extend([
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".into(),
        ]),
        // No proxy routes ClusterIPs here: the API server takes a Service's endpoints itself.
        (Profile::ControlPlane, Some(_)) => arguments.push("--enable-aggregator-routing=true".into()),
        (Profile::ControlPlane, None) => {}
    }
    arguments
}

/// The API server keeps its own Service's endpoints, unless it listens on loopback only: an address there is
/// refused in endpoints, and it would try every ten seconds, in everybody's audit log.
fn endpoint_reconciler(state: &State) -> &'static str {
    if state.network.is_some() { "lease" } else { "none" }
}

fn controller_manager_arguments(folder: &Folder, state: &State) -> Vec<String> {
    let pki = |file: &str| folder.join(&format!("pki/{file}")).display().to_string();
    let mut arguments = vec![
        format!("--kubeconfig={}", pki("controller-manager.conf")),
        format!("--service-account-private-key-file={}", pki("service-account.key")),
        format!("--root-ca-file={}", pki("ca.crt")),
        "--use-service-account-credentials".into(),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        "--leader-elect=false".into(),
        "--bind-address=127.0.0.1".into(),
        // Nobody asks it anything: no port, so that clusters side by side need none.
        "--secure-port=0".into(),
    ];
    if state.profile == Profile::Node {
        arguments.push(format!("--cluster-cidr={POD_RANGE}"));
    }
    arguments
}

/// One event a request, at its end (or when a watch begins), without bodies.
fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata" }],
    })
}
