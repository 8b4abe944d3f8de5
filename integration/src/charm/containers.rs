//! The two containers of a unit, as local processes or in a pod.

use std::path::PathBuf;
use std::process::Command;

use super::local::Local;
use super::pod::Pod;

/// The charm's container and the workload's.
pub(super) enum Containers<'c> {
    /// Local processes, each with a root of its own.
    Local(Local<'c>),
    /// Containers of a pod on a node of this machine.
    Pod(Pod<'c>),
}

impl Containers<'_> {
    /// The command line of a program of the charm's container, in a folder of it.
    pub(super) fn command(&self, program: &str, directory: &str) -> Command {
        match self {
            Self::Local(local) => local.command(program, directory),
            Self::Pod(pod) => pod.command(program, directory),
        }
    }

    /// The variables that tell a hook where the API server is.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        match self {
            Self::Local(_) => vec![("KUBECONFIG".to_owned(), super::local::KUBECONFIG.to_owned())],
            Self::Pod(pod) => pod.environment(),
        }
    }

    /// A file of the charm's container, as this process sees it.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        match self {
            Self::Local(local) => local.file(path),
            Self::Pod(pod) => pod.file(path),
        }
    }

    /// The folder that both containers share, as this process sees it.
    pub(super) fn shared(&self) -> PathBuf {
        match self {
            Self::Local(local) => local.shared(),
            Self::Pod(pod) => pod.file("/charm/containers/trainerd"),
        }
    }

    /// The folder of Juju's state in the charm's container.
    pub(super) fn world_inside(&self) -> &'static str {
        match self {
            Self::Local(_) => super::local::WORLD,
            Self::Pod(_) => super::pod::WORLD,
        }
    }

    /// The log of Pebble and the daemon.
    pub(super) fn log(&self) -> String {
        match self {
            Self::Local(local) => local.log(),
            Self::Pod(pod) => pod.log(),
        }
    }

    /// Whether a process runs in the workload's container.
    pub(super) fn contains(&self, pid: u32) -> bool {
        match self {
            Self::Local(local) => local.contains(pid),
            Self::Pod(pod) => pod.contains(pid),
        }
    }
}
