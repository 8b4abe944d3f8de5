//! The root of a container of the charm's pod: a folder and a mount namespace of its own.
//!
//! A packed charm has fixed paths, so its programs need a root with the pod's layout. Its mounts are invisible to other
//! processes, and are gone when this process ends.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;

/// Mounts its arguments, then the folder over the root, and keeps the namespace until its input ends. A process that
/// enters the namespace has the topmost mount as its root.
const SETUP: &str = r#"set -e
root=$1; shift
while [ $# -gt 0 ]; do mount --rbind "$1" "$root$2"; shift 2; done
mount --rbind "$root" /
echo ready
read _ || true"#;

/// Mounts that every container needs.
const SYSTEM: [&str; 2] = ["/proc", "/dev"];

/// Mounts that dynamically linked programs need.
const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// A container's root.
pub(super) struct Root {
    folder: PathBuf,
    holder: Child,
}

impl Root {
    /// A root in a folder. `mounts` are pairs of a path of this machine and one in the container; `libraries` says whether
    /// the programs need this machine's libraries.
    pub(super) fn new(folder: &Path, mounts: &[(PathBuf, &str)], libraries: bool) -> Result<Self, Error> {
        let mut all: Vec<(PathBuf, &str)> =
            SYSTEM.iter().map(|place| (PathBuf::from(place), *place)).collect();
        for place in LIBRARIES.into_iter().filter(|_| libraries) {
            let inside = folder.join(&place[1..]);
            match std::fs::symlink_metadata(place) {
                // `/lib` is `/usr/lib` on many systems, by a link that leads there in the container, too.
                Ok(found) if found.is_symlink() => {
                    let target = std::fs::read_link(place).map_err(Error::io("read", place))?;
                    std::os::unix::fs::symlink(target, &inside).map_err(Error::io("link", inside))?;
                }
                Ok(_) => all.push((PathBuf::from(place), place)),
                Err(_) => {}
            }
        }
        all.extend(mounts.iter().cloned());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", SETUP, "sh"]).arg(folder);
        for (from, to) in &all {
            let inside = folder.join(to.trim_start_matches('/'));
            if from.is_dir() {
                std::fs::create_dir_all(&inside).map_err(Error::io("make", &inside))?;
            } else {
                let parent = inside.parent().unwrap_or(folder);
                std::fs::create_dir_all(parent).map_err(Error::io("make", parent))?;
                std::fs::write(&inside, "").map_err(Error::io("make", &inside))?;
            }
            command.arg(from).arg(to);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().map_err(Error::io("run", "unshare"))?;
        let mut line = [0; 5];
        let ready = holder.stdout.as_mut().is_some_and(|out| out.read_exact(&mut line).is_ok());
        if !ready {
            return Err(Error::Missing(format!("a mount namespace for {}", folder.display())));
        }
        Ok(Self { folder: folder.to_owned(), holder })
    }

    /// A path of the container, as this process sees it.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below.trim_start_matches('/'))
    }

    /// The command line of a program of the container, in a folder of it; `network` names a network namespace.
    pub(super) fn command(&self, program: &str, directory: &str, network: Option<&str>) -> Command {
        // By its absolute path: `PATH` is that of the container.
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg(format!("--wdns={directory}"));
        command.args(network.map(|network| format!("--net=/run/netns/{network}")));
        command.arg("--").arg(program);
        command
    }

    /// Whether a process runs in the container.
    pub(super) fn contains(&self, pid: u32) -> bool {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        of(pid).is_some_and(|namespace| of(self.holder.id()) == Some(namespace))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // The namespace ends with its input.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
