//! Removing what a node made, from whatever state it was left in.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::super::process::{Identity, marked};
use super::super::stop::{kill, program};
use super::super::{Error, Folder};
use super::cgroup;
use crate::files;

/// Killing may need rounds: a shim that dies hands on its container, which was just starting something.
const ROUNDS: Duration = Duration::from_secs(20);

/// Whether a process is containerd's for one pod: it does not end on TERM while its pod lives.
pub(in super::super) fn is_shim(identity: &Identity) -> bool {
    // The kernel keeps 15 bytes of a program's name.
    program(identity.pid()) == "containerd-shim"
}

/// Ends the pods: they get no time for it, nobody can use what they would still write.
///
/// The kubelet has ended before, else it would start them again. Returns whether there were any.
pub(in super::super) fn end_pods(folder: &Folder, name: &str) -> Result<bool, Error> {
    let start = Instant::now();
    let mut found = false;
    loop {
        let mut left: Vec<Identity> = marked(folder.root()).into_iter().filter(is_shim).collect();
        left.extend(cgroup::members(name));
        if left.is_empty() || start.elapsed() > ROUNDS {
            return Ok(found);
        }
        found = true;
        kill(&left)?;
    }
}

/// Removes what the node left outside its folder, and the mounts in it. All processes have ended before.
///
/// Returns whether there was anything.
pub(in super::super) fn clear(folder: &Folder, name: &str) -> Result<bool, Error> {
    remove_shim_sockets(folder)?;
    let mut found = remove_mounts(folder)?;
    found |= cgroup::remove(name)?;
    remove_records(folder)?;
    Ok(found)
}

/// Each shim's socket lies in `/run/containerd/s` whatever containerd's own folders are; a file in the pod's
/// bundle says which.
fn remove_shim_sockets(folder: &Folder) -> Result<(), Error> {
    let bundles = folder.join("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    let Ok(entries) = fs::read_dir(bundles) else { return Ok(()) };
    for entry in entries.flatten() {
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if let Some(socket) = address.trim().strip_prefix("unix://") {
            files::remove(Path::new(socket))?;
        }
    }
    Ok(())
}

/// Ends the pods and forgets them as a restart of the machine would: no process and no mount of theirs is left.
///
/// Neither the kubelet nor containerd runs.
pub(in super::super) fn lose_pods(folder: &Folder, name: &str) -> Result<(), Error> {
    end_pods(folder, name)?;
    remove_shim_sockets(folder)?;
    remove_mounts(folder)?;
    super::runtime::forget(folder)
}

fn remove_mounts(folder: &Folder) -> Result<bool, Error> {
    let mut found = false;
    // The latest first: a mount can lie on another.
    for mount in mounts().into_iter().rev().filter(|mount| mount.point.starts_with(folder.root())) {
        found = true;
        let first = unmount(&mount.point, UnmountFlags::empty());
        // Busy: someone outside looks into it, a shell for example. It then goes when they do.
        if first.is_err() {
            unmount(&mount.point, UnmountFlags::DETACH)
                .map_err(|source| Error::Unmount { path: mount.point.clone(), source })?;
        }
    }
    Ok(found)
}

/// Removes what the kubelet and the network plugins keep at fixed places; clusters side by side share them.
fn remove_records(folder: &Folder) -> Result<(), Error> {
    for link in paths_in("/var/log/containers") {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(folder.root())) {
            files::remove(&link)?;
        }
    }
    // A record names the pod's network namespace, which lies in the folder.
    let ours = format!("{}/", folder.root().display());
    for record in paths_in("/var/lib/cni/results") {
        if fs::read_to_string(&record).is_ok_and(|text| text.contains(&ours)) {
            files::remove(&record)?;
        }
    }
    // The place is fixed in the kubelet, wherever its root is. Nobody answers there: it is a leftover.
    let socket = Path::new("/var/lib/kubelet/device-plugins/kubelet.sock");
    if UnixStream::connect(socket).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        files::remove(socket)?;
    }
    for folder in ["/var/lib/kubelet/device-plugins", "/var/lib/kubelet", "/var/log/containers"] {
        // Only an empty one goes: the others are someone's.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

fn paths_in(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// A mount of this process's mount namespace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// Type of the file system.
    pub(super) kind: String,
}

/// All mounts, in the order they were made.
pub(super) fn mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Reads `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): the mount point is field 5, the type the first after
/// the separator, for optional fields come before it.
fn parse_mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = unescape(before.split(' ').nth(4)?);
            Some(Mount { point, kind: after.split(' ').next()?.to_owned() })
        })
        .collect()
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_and_without_optional_fields() {
        let text = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    31 22 0:30 / /a\\040b rw shared:9 master:1 - cgroup2 none rw\n\
                    garbage\n";
        let expected = [
            Mount { point: "/".into(), kind: "ext4".into() },
            Mount { point: "/a b".into(), kind: "cgroup2".into() },
        ];
        assert_eq!(parse_mounts(text), expected);
    }

    #[test]
    fn only_whole_escapes_are_unescaped() {
        assert_eq!(unescape("a\\011b\\134"), PathBuf::from("a\tb\\"));
        assert_eq!(unescape("a\\9b\\0"), PathBuf::from("a\\9b\\0"));
    }
}
