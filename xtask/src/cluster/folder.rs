//! The paths of one cluster.

use std::path::{Path, PathBuf};

use super::Name;
use crate::files;
use crate::home::Home;

/// The folder that holds all of a cluster. Every path is absolute.
#[derive(Debug, Clone)]
pub struct Folder {
    clusters: PathBuf,
    root: PathBuf,
}

impl Folder {
    /// The folder of the cluster `name`, whether it exists or not.
    pub fn of(home: &Home, name: &Name) -> Self {
        Self::at(&home.clusters(), name)
    }

    pub(super) fn at(clusters: &Path, name: &Name) -> Self {
        Self { clusters: clusters.to_owned(), root: clusters.join(name.as_str()) }
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.clusters.join(what).join(self.root.file_name().unwrap_or_default())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the folder.
    pub fn join(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The lock that `up` and `down` of this cluster hold; beside the folder, for the folder comes and goes.
    pub fn lock(&self) -> PathBuf {
        self.beside(".locks")
    }

    /// What is known of the cluster between runs.
    pub fn state(&self) -> PathBuf {
        self.join("cluster.json")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.join("kubeconfig")
    }

    /// The API server's audit log: one JSON event a line, level Metadata.
    pub fn audit_log(&self) -> PathBuf {
        self.join("audit.log")
    }

    /// Where pid files are.
    pub fn pids(&self) -> PathBuf {
        self.join("run")
    }

    /// The pid file of a process.
    pub fn pid(&self, process: &str) -> PathBuf {
        self.join(&format!("run/{process}.pid"))
    }

    /// An image archive on its way into the node.
    pub fn image_archive(&self) -> PathBuf {
        self.join("image.tar")
    }

    /// What a process wrote to stdout and stderr.
    pub fn log(&self, process: &str) -> PathBuf {
        self.join(&format!("log/{process}.log"))
    }

    /// Where the logs of a start that failed are kept until the next one.
    pub fn kept_logs(&self) -> PathBuf {
        self.beside(".failed-starts")
    }

    /// Moves the logs out of the folder before it is removed. Best effort: it serves the error's reader.
    pub(super) fn keep_logs(&self) {
        let kept = self.kept_logs();
        let parent = kept.parent().unwrap_or(&self.clusters);
        if files::remove_folder(&kept).is_ok() && files::make_folder(parent).is_ok() {
            let _ = std::fs::rename(self.join("log"), kept);
        }
    }
}
