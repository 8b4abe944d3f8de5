//! Where the charm's containers meet: the mount that both share.

use std::path::PathBuf;

/// The folder that a container shares with the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared(PathBuf);

impl Shared {
    /// The socket of the workload's Pebble.
    pub fn pebble(&self) -> PathBuf {
        self.0.join("pebble.socket")
    }

    /// The socket of the daemon.
    pub fn daemon(&self) -> PathBuf {
        self.0.join("trainerd.sock")
    }

    /// Whether the workload container is part of the charm at all: Juju makes the folder before any hook runs.
    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }
}

/// As the workload container sees it.
pub fn in_workload() -> Shared {
    Shared(PathBuf::from("/charm/container"))
}

/// As the charm container sees it.
pub fn in_charm() -> Shared {
    Shared(PathBuf::from("/charm/containers/trainerd"))
}
