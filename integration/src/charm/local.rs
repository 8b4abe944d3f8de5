//! A unit's containers as local processes, each with a root of its own; the workload is in the cluster's network.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::root::Root;
use super::{HOOK_TOOL, MODEL, Programs, agent, kill, link_tools, packed, tools, unpack};
use crate::{Error, TestCluster};

/// Path of the program in the workload, as in the image.
const PROGRAM: &str = "/usr/bin/trainerd";

/// Path of the kubeconfig of all programs of the pod.
pub(super) const KUBECONFIG: &str = "/kube/config";

/// Where the charm's container has Juju's world.
pub(super) const WORLD: &str = "/juju";

/// Containers without a pod.
pub(crate) struct Local<'c> {
    cluster: &'c TestCluster,
    charm: Root,
    workload: Root,
    folder: PathBuf,
    application: String,
    number: usize,
    pebble: Option<Child>,
}

impl<'c> Local<'c> {
    /// Unpacks the charm into a folder; the workload container is not started yet.
    pub(super) fn new(
        cluster: &'c TestCluster,
        programs: &Programs,
        (application, number): (&str, usize),
        folder: &Path,
        kubeconfig: &Path,
    ) -> Result<Self, Error> {
        let make = |path: &Path| std::fs::create_dir_all(path).map_err(Error::io("make", path));
        let (charm, workload) = (folder.join("charm"), folder.join("workload"));
        let shared = folder.join("shared/containers");
        let (agent, tools) = (agent(application, number), tools(application, number));
        let below = |root: &Path, path: &str| root.join(path.trim_start_matches('/'));
        for path in [
            shared.join("trainerd"),
            below(&charm, &agent),
            below(&charm, &tools),
            below(&charm, WORLD).join("resources"),
            charm.join("tmp"),
            workload.join("tmp"),
            workload.join("var/lib/pebble"),
        ] {
            make(&path)?;
        }
        link_tools(&below(&charm, &tools))?;
        let access = folder.join("kubeconfig");
        std::fs::copy(kubeconfig, &access).map_err(Error::io("copy", &access))?;
        let hook_tool = format!("{tools}/{HOOK_TOOL}");
        let dispatch = format!("{agent}/dispatch");
        let mut mounts = vec![
            (shared.clone(), "/charm/containers"),
            (programs.hook_tool.clone(), hook_tool.as_str()),
            (access.clone(), KUBECONFIG),
        ];
        let packed = packed();
        let program = if let Some(packed) = &packed {
            unpack(packed, &below(&charm, &agent))?;
            below(&charm, &dispatch)
        } else {
            mounts.push((cluster.trainerd().path().to_owned(), &dispatch));
            cluster.trainerd().path().to_owned()
        };
        let charm = Root::new(&charm, &mounts, packed.is_none())?;
        let mounts = [
            (shared.join("trainerd"), "/charm/container"),
            (programs.pebble.clone(), "/charm/bin/pebble"),
            (program, PROGRAM),
            (access, KUBECONFIG),
        ];
        let workload = Root::new(&workload, &mounts, packed.is_none())?;
        let (folder, application) = (folder.to_owned(), application.to_owned());
        Ok(Self { cluster, charm, workload, folder, application, number, pebble: None })
    }

    /// The folder of Juju's world.
    pub(super) fn world(&self) -> PathBuf {
        self.charm.path(WORLD)
    }

    pub(super) fn command(&self, program: &str, directory: &str) -> Command {
        self.charm.command(program, directory, None)
    }

    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.charm.path(path)
    }

    pub(super) fn shared(&self) -> PathBuf {
        self.folder.join("shared/containers/trainerd")
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("pebble.log")).unwrap_or_default()
    }

    pub(super) fn contains(&self, pid: u32) -> bool {
        self.workload.contains(pid)
    }

    /// Starts the workload container.
    ///
    /// The first unit's runs where the cluster does, so that the daemon's port is this unit's alone; another's beside it,
    /// in this machine's network.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let network = self.cluster.network().ok_or_else(|| Error::Missing("the local cluster".to_owned()))?;
        let network = (self.number == 0).then_some(network);
        let log =
            std::fs::File::create(self.folder.join("pebble.log")).map_err(Error::io("make", "a log"))?;
        let errors = log.try_clone().map_err(Error::io("make", "a log"))?;
        let child = self
            .workload
            .command("/charm/bin/pebble", "/", network)
            .args(["run", "--hold", "--create-dirs", "--verbose"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PEBBLE", "/var/lib/pebble/default")
            .env("PEBBLE_SOCKET", "/charm/container/pebble.socket")
            .env("HOSTNAME", format!("{}-{}", self.application, self.number))
            .env("TRAINERD_NAMESPACE", MODEL)
            .env("KUBECONFIG", KUBECONFIG)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("run", "nsenter"))?;
        self.pebble = Some(child);
        let socket = self.socket();
        self.cluster.wait_until("Pebble", Duration::from_secs(20), || Ok(socket.exists()))
    }

    fn socket(&self) -> PathBuf {
        self.shared().join("pebble.socket")
    }

    /// Stops the workload container, as on deletion of a pod.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.pebble.take() {
            // Pebble stops its services first.
            kill(child.id(), rustix::process::Signal::TERM);
            let _ = child.wait();
            let _ = std::fs::remove_file(self.socket());
        }
    }

    /// Removes the shared folder, which a charm without the workload container does not have.
    pub(crate) fn without_workload(&self) -> Result<(), Error> {
        let shared = self.shared();
        std::fs::remove_dir(&shared).map_err(Error::io("remove", shared))
    }

    /// Sends the requests of the pod's programs through the proxy, from their next start on.
    pub(crate) fn use_proxy(&self) -> Result<(), Error> {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            serde_yaml::from_str::<Value>(&text).map_err(|_| Error::Missing("a kubeconfig".to_owned()))
        };
        let mut access = read(&self.cluster.proxied())?;
        // The container has no authorities of its own.
        let authority =
            &read(self.cluster.kubeconfig())?["clusters"][0]["cluster"]["certificate-authority-data"];
        access["clusters"][0]["cluster"]["certificate-authority-data"] = authority.clone();
        // In place: the file is mounted.
        std::fs::write(self.folder.join("kubeconfig"), access.to_string())
            .map_err(Error::io("write", "the kubeconfig"))
    }
}

impl Drop for Local<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
