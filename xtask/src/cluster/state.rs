//! What is known of a cluster between runs: `cluster.json`.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Error, Folder};
use crate::files;

/// What runs in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// etcd, API server and controller manager.
    ControlPlane,
    /// All of it: the control plane, scheduler, container runtime, kubelet, proxy and name service.
    Node,
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ControlPlane => "control-plane",
            Self::Node => "node",
        })
    }
}

/// The network namespace that a cluster's processes run in, joined to the host by a pair of interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Name of the namespace; its file is `/run/netns/NAME`.
    pub namespace: String,
    /// Which /30 of 10.99.0.0/16 the pair uses.
    pub subnet: u16,
    /// The cluster's own address; the API server listens there.
    pub node_address: Ipv4Addr,
    /// The host's end of the pair: what listens here can be reached from the cluster, by nobody else.
    pub host_address: Ipv4Addr,
}

/// TCP ports of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// etcd, for clients.
    pub etcd: u16,
    /// etcd, for its peers (it has none).
    pub etcd_peer: u16,
    /// The API server.
    pub api_server: u16,
}

/// A cluster, as its folder describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The cluster's name.
    pub name: String,
    /// What runs in it.
    pub profile: Profile,
    /// Its ports.
    pub ports: Ports,
    /// Its network namespace, where it has one.
    pub network: Option<Network>,
    /// Names of the processes in the order they were started; each has a pid file.
    pub processes: Vec<String>,
    /// The start went through to its end.
    pub ready: bool,
}

impl State {
    /// The address that the API server listens on.
    pub fn address(&self) -> Ipv4Addr {
        self.network.as_ref().map_or(Ipv4Addr::LOCALHOST, |network| network.node_address)
    }

    /// The API server's URL.
    pub fn server(&self) -> String {
        format!("https://{}:{}", self.address(), self.ports.api_server)
    }
}

/// Reads a cluster's state; `None` when there is none.
///
/// A file that cannot be understood (half-written, or of another version of this program) counts as none:
/// the folder is then a leftover, which the next `up` or `down` clears.
pub(super) fn load(folder: &Folder) -> Result<Option<State>, Error> {
    let path = folder.state();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(serde_json::from_str(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(files::Error::new("read", &path, source).into()),
    }
}

/// Writes a cluster's state.
pub(super) fn save(folder: &Folder, state: &State) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(state)?;
    files::write(&folder.state(), text)?;
    Ok(())
}
