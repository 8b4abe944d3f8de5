//! The control groups of a cluster's pods: one tree with the cluster's name in each hierarchy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::process::Identity;
use super::super::{Error, network};
use super::clear::mounts;
use crate::files;

/// The tree's root as the kubelet names it: relative to each hierarchy.
pub(super) fn root(name: &str) -> String {
    format!("/{}", network::namespace(name))
}

/// The tree's root in each hierarchy of this machine, whether made or not.
fn roots(name: &str) -> Vec<PathBuf> {
    mounts()
        .into_iter()
        .filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2")
        .map(|mount| mount.point.join(network::namespace(name)))
        .collect()
}

/// Makes the tree in every hierarchy: the kubelet wants to find it.
pub(super) fn make(name: &str) -> Result<(), Error> {
    for root in roots(name) {
        files::make_folder(&root)?;
    }
    Ok(())
}

/// Every process in the tree: those of pods, whoever started them.
pub(super) fn members(name: &str) -> Vec<Identity> {
    let mut pids: Vec<i32> = Vec::new();
    for root in roots(name) {
        for group in tree(&root) {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    // 0 stands for a process of another pid namespace, which cannot be one of ours.
    pids.into_iter().filter(|pid| *pid > 0).filter_map(Identity::of).collect()
}

/// Removes the tree, once no process is left in it. Returns whether there was one.
pub(super) fn remove(name: &str) -> Result<bool, Error> {
    let mut found = false;
    for root in roots(name) {
        // Deepest first: only an empty group can be removed, and only as a folder, its files are the kernel's.
        for group in tree(&root).into_iter().rev() {
            match fs::remove_dir(&group) {
                Ok(()) => found = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(files::Error::new("remove control group", &group, source).into()),
            }
        }
    }
    Ok(found)
}

/// A group and those below it, parents first; empty when there is none.
fn tree(root: &Path) -> Vec<PathBuf> {
    if !root.is_dir() {
        return Vec::new();
    }
    let mut found = vec![root.to_owned()];
    let Ok(entries) = fs::read_dir(root) else { return found };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        }
    }
    found
}
