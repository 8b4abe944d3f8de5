//! Why a cluster could not be started or stopped.

use std::path::PathBuf;

use super::{Name, Profile};
use crate::{command, files, image};

/// A cluster that could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A program that was run to its end.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A process that stays could not be started.
    #[error("failed to start {process}")]
    Start {
        /// Name of the process.
        process: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part could not be built.
    #[error("failed to build {program}")]
    Build {
        /// Name of the program.
        program: &'static str,
        /// What the toolchain said.
        source: command::Error,
    },
    /// The folder of prebuilt parts lacks one.
    #[error("failed to find {program} in {}, which KUBEBUILDER_ASSETS names", folder.display())]
    MissingAsset {
        /// Name of the program.
        program: &'static str,
        /// The folder.
        folder: PathBuf,
    },
    /// A part's go.mod lacks the requirement that tells its version.
    #[error("failed to find {module} among the requirements of {}", path.display())]
    NoVersion {
        /// The module.
        module: &'static str,
        /// The go.mod.
        path: PathBuf,
    },
    /// A certificate.
    #[error("failed to make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A state or configuration file could not be serialised.
    #[error("failed to write JSON")]
    Json(#[from] serde_json::Error),
    /// As above, for YAML.
    #[error("failed to write YAML")]
    Yaml(#[from] serde_yaml::Error),
    /// TLS to the API server could not be set up.
    #[error("failed to set up TLS for readiness checks")]
    Tls(#[from] rustls::Error),
    /// The keys just written could not be read back.
    #[error("failed to read a PEM file back")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// An image archive.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A control plane alone has no node to act on.
    #[error("failed to act on the node of cluster {name}: it has only a control plane")]
    NoNode {
        /// Name of the cluster.
        name: Name,
    },
    /// No free port was found.
    #[error("failed to find free ports on the loopback interface")]
    NoFreePort,
    /// No free subnet was found.
    #[error("failed to find a free /30 in 10.99.0.0/16")]
    NoFreeSubnet,
    /// A process ended, or did not become ready in time.
    #[error("failed to wait for {what}: {why}; the last lines of {}:\n{tail}", log.display())]
    NotReady {
        /// What was waited for.
        what: String,
        /// "it ended" or the bound that passed.
        why: String,
        /// The log that says more.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// A cluster of that name exists and is something else.
    #[error("failed to start cluster {name}: it exists already, with profile {found}{}", if *own_network { " in a network namespace" } else { "" })]
    OtherProfile {
        /// Its name.
        name: Name,
        /// Its profile.
        found: Profile,
        /// Whether it has a network namespace of its own.
        own_network: bool,
    },
    /// Namespaces, mounts and cgroups are for root.
    #[error("failed to start a cluster with a network namespace: only root can create one")]
    NeedsRoot,
    /// The path of the folder leaves no room for the names of sockets.
    #[error("failed to place sockets in {}: a socket's path has at most 107 bytes", folder.display())]
    FolderTooLong {
        /// The folder.
        folder: PathBuf,
    },
    /// Processes that do not end, even killed.
    #[error("failed to stop {program} (process {pid}): it does not end")]
    WillNotEnd {
        /// The program's name.
        program: String,
        /// Its id.
        pid: i32,
    },
    /// A mount that cannot be removed.
    #[error("failed to unmount {}", path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: rustix::io::Errno,
    },
    /// A node without a network namespace: its state file was changed by hand.
    #[error("failed to start a node: it has no network namespace")]
    NoNetwork,
    /// Debian packages could not be installed.
    #[error("failed to install the packages {packages}")]
    Install {
        /// Their names.
        packages: String,
        /// What apt-get said.
        source: command::Error,
    },
    /// Programs are missing even with their package installed.
    #[error("failed to find the programs of package {package}")]
    MissingPrograms {
        /// The Debian package that should bring them.
        package: &'static str,
    },
    /// Someone pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What to do about it, where that can be told.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Build { source, .. } if source.is_missing_program() => {
                "install Go 1.26 or newer, or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"
                    .into()
            }
            Self::MissingAsset { .. } => "unset KUBEBUILDER_ASSETS to build the parts".into(),
            Self::OtherProfile { name, .. } => {
                format!("`cargo xtask cluster down {name}` first, or choose another name")
            }
            Self::Install { source, .. } if source.is_missing_program() => {
                "this is not Debian: install containerd, runc, the CNI plugins, iptables and iproute2 by hand"
                    .into()
            }
            Self::NeedsRoot => "run as root, or start a plain control plane (no --node, no --netns)".into(),
            Self::FolderTooLong { .. } => "set TRAINERD_CACHE to a shorter path".into(),
            _ => return None,
        })
    }
}
