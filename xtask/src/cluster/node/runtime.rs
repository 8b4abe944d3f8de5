//! containerd, its network plugins and its images.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::super::control_plane::{POD_RANGE, start_recorded};
use super::super::process::{self, Launch, MARK, Process};
use super::super::{Error, Folder, State, stop, wait};
use super::host::Host;
use crate::command::run;
use crate::files;
use crate::image::catalog::PAUSE;

/// Name of the process.
pub(super) const NAME: &str = "containerd";
/// What containerd forgets with a restart of its machine, in the cluster's folder.
const VOLATILE: &str = "containerd/state";
/// containerd's namespace for what the kubelet runs.
const NAMESPACE: &str = "k8s.io";
const BOUND: Duration = Duration::from_secs(30);

/// Most bytes of a socket's path: `sun_path` holds 108, a final zero included.
const LONGEST_SOCKET: usize = 107;

pub(super) fn socket(folder: &Folder) -> PathBuf {
    folder.join("containerd.sock")
}

/// Fails early where the folder's path leaves no room for the longest socket path in it, containerd's second
/// one (`.ttrpc`).
pub(super) fn check_length(folder: &Folder) -> Result<(), Error> {
    let longest = socket(folder).as_os_str().len() + ".ttrpc".len();
    if longest > LONGEST_SOCKET {
        return Err(Error::FolderTooLong { folder: folder.root().to_owned() });
    }
    Ok(())
}

/// Starts containerd and waits until it answers.
pub(super) fn start(folder: &Folder, state: &mut State, host: &Host) -> Result<(), Error> {
    files::write(&folder.join("containerd.toml"), configuration(folder, host))?;
    files::write(&folder.join("cni/10-bridge.conflist"), plugins(folder)?)?;
    let launch = launch(folder, state, host);
    let process = start_recorded(folder, state, &launch)?;
    wait_until_it_answers(folder, host, &process)
}

/// Starts containerd on a node that had one, and waits until it answers.
pub(super) fn start_again(folder: &Folder, state: &State, host: &Host) -> Result<(), Error> {
    let process = process::start(folder, &launch(folder, state, host))?;
    wait_until_it_answers(folder, host, &process)
}

/// Ends containerd as a node that loses its power would; its pods continue.
pub(super) fn stop(folder: &Folder) -> Result<(), Error> {
    stop::stop_recorded(folder, NAME, Duration::ZERO)
}

/// Forgets what a restart of the machine would: the folder of it would lie in memory.
pub(super) fn forget(folder: &Folder) -> Result<(), Error> {
    Ok(files::remove_folder(&folder.join(VOLATILE))?)
}

fn launch(folder: &Folder, state: &State, host: &Host) -> Launch {
    Launch {
        name: NAME,
        program: host.containerd.clone(),
        arguments: vec![format!("--config={}", folder.join("containerd.toml").display())],
        namespace: state.network.as_ref().map(|network| network.namespace.clone()),
        path: Some(host.path.clone()),
    }
}

fn wait_until_it_answers(folder: &Folder, host: &Host, process: &Process) -> Result<(), Error> {
    wait::until(folder, process, "containerd to answer", BOUND, || {
        run(ctr(folder, host).args(["version"])).is_ok()
    })
}

fn ctr(folder: &Folder, host: &Host) -> Command {
    let mut command = Command::new(&host.ctr);
    command.arg("--address").arg(socket(folder)).args(["--namespace", NAMESPACE]);
    // It ends by itself, but may outlive a killed run by an import.
    command.env(MARK, folder.root());
    command
}

/// Imports the archives under their own references.
pub(super) fn import(folder: &Folder, host: &Host, archives: &[PathBuf]) -> Result<(), Error> {
    for archive in archives {
        wait::check_interrupted()?;
        run(ctr(folder, host).args(["image", "import"]).arg(archive))?;
    }
    Ok(())
}

fn configuration(folder: &Folder, host: &Host) -> String {
    let path = |relative: &str| folder.join(relative).display().to_string();
    let sandbox = PAUSE.references[0];
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{opt}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox}"
stream_server_address = "127.0.0.1"
# Without CAP_SYS_RESOURCE a container's score cannot be lowered, and its start would fail.
restrict_oom_score_adj = true
# Pods' network namespaces lie in the cluster's folder and are found there when it is cleared.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{runc}"
SystemdCgroup = false
"#,
        root = path("containerd/root"),
        state = path(VOLATILE),
        socket = socket(folder).display(),
        opt = path("containerd/opt"),
        plugins = host.plugins.display(),
        cni = path("cni"),
        runc = path("runc"),
    )
}

fn plugins(folder: &Folder) -> Result<String, Error> {
    Ok(serde_json::to_string_pretty(&json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": folder.join("cni-addresses"),
                    "ranges": [[{ "subnet": POD_RANGE }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    }))?)
}
