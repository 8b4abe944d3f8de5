//! What a cluster looks like to the programs that use it.

use std::path::PathBuf;

use serde::Serialize;

use super::{Folder, Network, Profile, State, process};

/// A cluster's data sheet, and the JSON of `cargo xtask cluster status -o json`. Paths are absolute.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The cluster's name.
    pub name: String,
    /// What runs in it.
    pub profile: Profile,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The API server's audit log: one JSON event a line, level Metadata, written before the answer is sent.
    pub audit_log: PathBuf,
    /// The processes that run.
    pub processes: Vec<Running>,
    /// The network namespace, where the cluster has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Names of processes that were started and run no more.
    #[serde(skip)]
    pub ended: Vec<String>,
    /// The start went through to its end.
    #[serde(skip)]
    pub ready: bool,
}

/// A process that runs for a cluster.
#[derive(Debug, Serialize)]
pub struct Running {
    /// What it is: `etcd`, `kube-apiserver`, …
    pub name: String,
    /// Its process id.
    pub pid: i32,
}

impl Status {
    /// Looks at the processes of a cluster.
    pub(super) fn of(folder: &Folder, state: &State) -> Self {
        let mut processes = Vec::new();
        let mut ended = Vec::new();
        for name in &state.processes {
            match process::recorded(folder, name).filter(process::Process::is_alive) {
                Some(process) => processes.push(Running { name: name.clone(), pid: process.pid() }),
                None => ended.push(name.clone()),
            }
        }
        Self {
            name: state.name.clone(),
            profile: state.profile,
            kubeconfig: folder.kubeconfig(),
            audit_log: folder.audit_log(),
            processes,
            network: state.network.clone(),
            ended,
            ready: state.ready,
        }
    }

    /// Every process that was started still runs.
    pub fn is_whole(&self) -> bool {
        self.ended.is_empty() && !self.processes.is_empty()
    }
}
