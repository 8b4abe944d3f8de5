//! What the machine must have: the container runtime and its helpers, from Debian's packages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::Error;
use crate::debian;

/// The machine's programs that a node uses.
#[derive(Debug)]
pub(super) struct Host {
    /// containerd.
    pub(super) containerd: PathBuf,
    /// containerd's client.
    pub(super) ctr: PathBuf,
    /// Folder of the network plugins.
    pub(super) plugins: PathBuf,
    /// Folders that the node's processes look for helpers in.
    pub(super) path: OsString,
}

/// A program or file, the places it may be in, and the package that brings it.
struct Requirement {
    names: &'static [&'static str],
    folders: &'static [&'static str],
    package: &'static str,
}

const PROGRAM_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const PLUGIN_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

static NEEDS: [Requirement; 6] = [
    Requirement {
        names: &["containerd", "containerd-shim-runc-v2", "ctr"],
        folders: &PROGRAM_FOLDERS,
        package: "containerd",
    },
    // Not crun: 1.8 fails on machines with both versions of control groups.
    Requirement { names: &["runc"], folders: &PROGRAM_FOLDERS, package: "runc" },
    Requirement { names: &["iptables", "iptables-restore"], folders: &PROGRAM_FOLDERS, package: "iptables" },
    Requirement { names: &["ip"], folders: &PROGRAM_FOLDERS, package: "iproute2" },
    Requirement { names: &["nsenter", "mount"], folders: &PROGRAM_FOLDERS, package: "util-linux mount" },
    Requirement {
        names: &["bridge", "host-local", "portmap", "loopback"],
        folders: &PLUGIN_FOLDERS,
        package: "containernetworking-plugins",
    },
];

impl Requirement {
    /// The first folder that has all of it.
    fn folder(&self) -> Option<&'static Path> {
        let has_all = |folder: &&&str| self.names.iter().all(|name| Path::new(folder).join(name).exists());
        self.folders.iter().find(has_all).map(Path::new)
    }
}

/// Finds the programs; installs the Debian packages of those that are missing, saying so.
pub(super) fn prepare() -> Result<Host, Error> {
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|need| need.folder().is_none())
        .flat_map(|need| need.package.split(' '))
        .collect();
    if !missing.is_empty() {
        let failed = |source| Error::Install { packages: missing.join(" "), source };
        debian::install(&missing).map_err(failed)?;
    }
    let [runtime, .., plugins] = &NEEDS;
    let find = |need: &Requirement| need.folder().ok_or(Error::MissingPrograms { package: need.package });
    for need in &NEEDS {
        find(need)?;
    }
    let runtime = find(runtime)?;
    Ok(Host {
        containerd: runtime.join("containerd"),
        ctr: runtime.join("ctr"),
        plugins: find(plugins)?.to_owned(),
        path: PROGRAM_FOLDERS.join(":").into(),
    })
}
