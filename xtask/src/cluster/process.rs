//! Processes that outlive this program: started, recognised later, stopped.
//!
//! A pid alone says nothing once its process may have ended. A pid file therefore holds the process's start
//! time and the boot it was started in as well, and a signal goes through a pidfd that was opened before
//! the check, so that it cannot reach a process which took over the number.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Error, Folder};
use crate::files;

/// Environment variable that every process of a cluster carries: the path of the cluster's folder.
pub(super) const MARK: &str = "TRAINERD_CLUSTER_FOLDER";

/// One incarnation of a pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pid: i32,
    /// Field `starttime` of `/proc/PID/stat`: clock ticks since boot.
    start_time: u64,
    boot: String,
}

impl Identity {
    /// The process that has `pid` now; `None` when there is none, or only its remains.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start_time = start_time(&stat)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Self { pid, start_time, boot })
    }

    /// The process id.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// This very process still runs.
    pub(super) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal to this very process; one that ended is fine.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if self.is_alive() {
            // It may end between the two: nothing to do then. Whether it ended is seen by who waits.
            let _ = pidfd_send_signal(&handle, signal);
        }
    }

    fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.pid, self.start_time, self.boot)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.parse().ok()?;
        let start_time = lines.next()?.parse().ok()?;
        Some(Self { pid, start_time, boot: lines.next()?.to_owned() })
    }
}

/// Start time of a process from its `/proc/PID/stat`; `None` for a zombie.
///
/// The second field is the command in parentheses and may itself hold spaces and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_ascii_whitespace();
    let status = fields.next()?;
    // Field 3 was just taken; starttime is field 22.
    let start_time = fields.nth(18)?.parse().ok()?;
    (status != "Z" && status != "X").then_some(start_time)
}

/// A process of a cluster, known by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    name: String,
    identity: Identity,
}

impl Process {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pid(&self) -> i32 {
        self.identity.pid
    }

    pub(super) fn is_alive(&self) -> bool {
        self.identity.is_alive()
    }
}

/// What to start.
#[derive(Debug)]
pub(super) struct Launch {
    /// Name of the process: of its pid file and log.
    pub(super) name: &'static str,
    /// The program's path.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// Network namespace to run in.
    pub(super) namespace: Option<String>,
    /// Its PATH, where it runs helpers; else this program's own.
    pub(super) path: Option<OsString>,
}

/// Starts a process in a group of its own, its output going to its log, and writes its pid file.
///
/// It keeps running when this program ends, and holds none of its standard streams.
pub(super) fn start(folder: &Folder, launch: &Launch) -> Result<Process, Error> {
    let log = folder.log(launch.name);
    files::write(&log, "")?;
    let failed = |source| Error::Start { process: launch.name.to_owned(), source };
    let output = fs::OpenOptions::new().append(true).open(&log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;

    let mut command = match &launch.namespace {
        // Not `ip netns exec`, which remounts /sys and hides the cgroups. nsenter replaces itself by the
        // program, so the pid is the program's.
        Some(namespace) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(&launch.program);
            command
        }
        None => Command::new(&launch.program),
    };
    command
        .args(&launch.arguments)
        .env(MARK, folder.root())
        // Collecting garbage takes a third of the API server's time otherwise; a gigabyte more is at hand.
        .env("GOGC", "400")
        // Proxies of the host are none of a cluster's business, and its addresses are not theirs.
        .env_remove("HTTP_PROXY")
        .env_remove("HTTPS_PROXY")
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .current_dir(folder.root())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    if let Some(path) = &launch.path {
        command.env("PATH", path);
    }
    let child = command.spawn().map_err(failed)?;
    let pid = i32::try_from(child.id()).map_err(|error| failed(std::io::Error::other(error)))?;
    // A child that ended at once is a zombie until this program ends, and has no identity: give it one that
    // is never alive, so that the first wait reports it with its log.
    let identity = Identity::of(pid).unwrap_or(Identity { pid, start_time: 0, boot: String::new() });
    files::write(&folder.pid(launch.name), identity.to_text())?;
    Ok(Process { name: launch.name.to_owned(), identity })
}

/// The process that a pid file names, whether it runs or not; `None` without a readable pid file.
pub(super) fn recorded(folder: &Folder, name: &str) -> Option<Process> {
    let identity = Identity::from_text(&fs::read_to_string(folder.pid(name)).ok()?)?;
    Some(Process { name: name.to_owned(), identity })
}

/// Every running process that carries the cluster's mark in its environment, pid files or not.
pub(super) fn marked(folder: &Path) -> Vec<Identity> {
    let mark = format!("{MARK}={}", folder.display());
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // The identity first: should the process end meanwhile, its successor has another.
        .filter_map(Identity::of)
        .filter(|identity| {
            // Other users' processes cannot be read, and are not ours.
            let environment = fs::read(format!("/proc/{}/environ", identity.pid)).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_field_22_whatever_the_command_is_called() {
        let fields: Vec<String> = (4..=25).map(|number| number.to_string()).collect();
        let rest = fields.join(" ");
        assert_eq!(start_time(&format!("7 (a) S {rest}")), Some(22));
        assert_eq!(start_time(&format!("7 (a b) (c) R {rest}")), Some(22));
        assert_eq!(start_time(&format!("7 (a) Z {rest}")), None, "a zombie runs no more");
        assert_eq!(start_time("7 (a) S 4"), None);
    }

    #[test]
    fn a_pid_file_survives_the_round_trip_and_rejects_other_text() {
        let identity = Identity { pid: 12, start_time: 34, boot: "b".into() };
        assert_eq!(Identity::from_text(&identity.to_text()), Some(identity));
        for text in ["", "12", "12\n34", "x\n34\nb\n"] {
            assert_eq!(Identity::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!Identity { start_time: me.start_time + 1, ..me.clone() }.is_alive());
        assert!(!Identity { boot: "another".into(), ..me.clone() }.is_alive());
    }

    #[test]
    fn signals_reach_only_the_recorded_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        Identity { start_time: identity.start_time + 1, ..identity.clone() }.signal(Signal::KILL);
        assert!(child.try_wait().unwrap().is_none(), "a stale pid file must not kill");
        identity.signal(Signal::KILL);
        assert!(!child.wait().unwrap().success());
        assert!(!identity.is_alive());
    }

    #[test]
    fn a_started_process_is_found_by_its_pid_file_and_by_its_mark() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(temporary.path(), &"test".parse().unwrap());
        let launch = Launch {
            name: "sleeper",
            program: "sleep".into(),
            arguments: vec!["60".into()],
            namespace: None,
            path: None,
        };
        let process = start(&folder, &launch).unwrap();
        assert_eq!(recorded(&folder, "sleeper").as_ref(), Some(&process));
        let found = loop {
            // Until the child has replaced itself by the program, its environment is this test's.
            let found = marked(folder.root());
            if !found.is_empty() || !process.is_alive() {
                break found;
            }
        };
        assert_eq!(found, std::slice::from_ref(&process.identity));
        process.identity.signal(Signal::KILL);
    }
}
