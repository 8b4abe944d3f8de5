//! What a container of the charm's pod sees: a root folder and a mount namespace of its own.
//!
//! Paths of a packed charm are fixed, so that a test gives its programs a root in which they mean what they mean in the
//! pod. Nothing of it is mounted where anybody else sees it, and all of it goes with this process.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;

/// Mounts what is named, then the folder over the root, and holds the namespace until its input ends. Whoever enters the
/// namespace has the topmost mount as his root.
const HOLD: &str = r#"set -e
root=$1; shift
while [ $# -gt 0 ]; do mount --rbind "$1" "$root$2"; shift 2; done
mount --rbind "$root" /
echo ready
read _ || true"#;

/// What every container has of the system.
const SYSTEM: [&str; 2] = ["/proc", "/dev"];

/// What a program needs that has not got its libraries in it.
const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// A container's root.
pub(super) struct Root {
    folder: PathBuf,
    holder: Child,
}

impl Root {
    /// A root of what lies in a folder. `mounts` are places of this machine and where they are in the container;
    /// `libraries` says whether its programs need this machine's.
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
        command.args(["--mount", "sh", "-c", HOLD, "sh"]).arg(folder);
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
        let mut said = [0; 5];
        let ready = holder.stdout.as_mut().is_some_and(|out| out.read_exact(&mut said).is_ok());
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
        // By its whole path: what is found by the program's own `PATH` lies in the container.
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg(format!("--wdns={directory}"));
        command.args(network.map(|network| format!("--net=/run/netns/{network}")));
        command.arg("--").arg(program);
        command
    }

    /// Whether a process runs in the container.
    pub(super) fn holds(&self, pid: u32) -> bool {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        of(pid).is_some_and(|namespace| of(self.holder.id()) == Some(namespace))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Its input ends, and with it the namespace.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
