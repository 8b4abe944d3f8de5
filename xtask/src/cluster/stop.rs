//! Stopping what runs and removing what is left.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::parts::{ETCD, KUBE_APISERVER};
use super::process::{Identity, marked, recorded};
use super::{Error, Folder, network, node};
use crate::files;

/// Time that processes have to end by themselves; an idle API server takes about one second, one whose
/// clients hold on to their watches a minute, for nothing: what it would still write is thrown away.
const GRACE: Duration = Duration::from_secs(5);
/// Time that the kernel has to end a killed process; more only passes where a disk hangs.
const KILL_BOUND: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(20);

/// Stops all processes of the folder and removes all that the cluster made. Works from whatever a start or
/// stop that was cut short left behind; returns whether there was anything.
pub(super) fn clear(folder: &Folder) -> Result<bool, Error> {
    let name = folder.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let processes = of_folder(folder);
    let mut found = !processes.is_empty() || folder.root().exists();

    // Clients before servers: the API server waits for watches to end, and gives back its lease in etcd.
    let (store, others) = split(processes, ETCD.program);
    let (api_server, clients) = split(others, KUBE_APISERVER.program);
    stop(&clients, GRACE)?;
    found |= node::end_pods(folder, &name)?;
    stop(&api_server, GRACE)?;
    stop(&store, GRACE)?;
    found |= node::clear(folder, &name)?;
    found |= network::remove(&name)?;
    files::remove_folder(folder.root())?;
    Ok(found)
}

/// Those that run `name`, and the others.
fn split(processes: Vec<Identity>, name: &str) -> (Vec<Identity>, Vec<Identity>) {
    processes.into_iter().partition(|identity| program(identity.pid()) == name)
}

/// The folder's processes, recorded or only marked; not those of pods, which go with the node.
fn of_folder(folder: &Folder) -> Vec<Identity> {
    let mut found: Vec<Identity> =
        marked(folder.root()).into_iter().filter(|identity| !node::is_shim(identity)).collect();
    let Ok(entries) = std::fs::read_dir(folder.pids()) else { return found };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".pid")) else { continue };
        let Some(process) = recorded(folder, name).filter(super::process::Process::is_alive) else {
            continue;
        };
        if found.iter().all(|identity| identity.pid() != process.pid()) {
            found.extend(Identity::of(process.pid()));
        }
    }
    found
}

/// Name of the program that a process runs, its first 15 bytes; empty when it has ended.
pub(super) fn program(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// TERM to all, KILL after a bound to those that are left.
fn stop(processes: &[Identity], grace: Duration) -> Result<(), Error> {
    for identity in processes {
        identity.signal(Signal::TERM);
    }
    if wait(processes, grace).is_none() {
        return Ok(());
    }
    kill(processes)
}

/// Ends the process of that name, where it runs: TERM, and KILL after the grace.
pub(super) fn stop_recorded(folder: &Folder, name: &str, grace: Duration) -> Result<(), Error> {
    let recorded = recorded(folder, name).filter(super::process::Process::is_alive);
    let running = recorded.and_then(|process| Identity::of(process.pid()));
    if grace.is_zero() { kill(running.as_slice()) } else { stop(running.as_slice(), grace) }
}

/// KILL to all, and waits until they are gone.
pub(super) fn kill(processes: &[Identity]) -> Result<(), Error> {
    for identity in processes {
        identity.signal(Signal::KILL);
    }
    match wait(processes, KILL_BOUND) {
        None => Ok(()),
        Some(left) => Err(Error::WillNotEnd { program: program(left.pid()), pid: left.pid() }),
    }
}

/// Waits until all have ended; returns one that has not when the bound passes.
fn wait(processes: &[Identity], bound: Duration) -> Option<&Identity> {
    let start = Instant::now();
    loop {
        let left = processes.iter().find(|identity| identity.is_alive())?;
        if start.elapsed() > bound {
            return Some(left);
        }
        sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_that_ignores_term_is_killed_after_the_bound() {
        let mut deaf = Command::new("sh").args(["-c", "trap '' TERM; exec sleep 60"]).spawn().unwrap();
        let identity = Identity::of(i32::try_from(deaf.id()).unwrap()).unwrap();
        while program(identity.pid()) != "sleep" {
            sleep(INTERVAL);
        }
        let grace = Duration::from_millis(100);
        let start = Instant::now();
        stop(std::slice::from_ref(&identity), grace).unwrap();
        assert!(start.elapsed() >= grace, "it had its time");
        assert_eq!(deaf.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_process_that_ends_on_term_is_not_killed() {
        let mut obedient = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(i32::try_from(obedient.id()).unwrap()).unwrap();
        stop(&[identity], GRACE).unwrap();
        assert_eq!(obedient.wait().unwrap().signal(), Some(15));
    }

    #[test]
    fn a_stale_pid_file_kills_nothing() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(temporary.path(), &"stale".parse().unwrap());
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        let text = format!("{}\n1\nan earlier boot\n", stranger.id());
        files::write(&folder.pid("etcd"), text).unwrap();
        assert!(clear(&folder).unwrap());
        assert!(
            stranger.try_wait().unwrap().is_none(),
            "it only has the number of the process that was meant"
        );
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn clearing_stops_a_process_that_has_no_pid_file() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::at(temporary.path(), &"left-over".parse().unwrap());
        files::make_folder(folder.root()).unwrap();
        let mut orphan =
            Command::new("sleep").arg("60").env(super::super::process::MARK, folder.root()).spawn().unwrap();
        // The kernel shows the environment of a program a moment after it was started.
        while of_folder(&folder).is_empty() {
            sleep(INTERVAL);
        }
        assert!(clear(&folder).unwrap());
        assert!(orphan.try_wait().unwrap().is_some(), "the orphan must have ended");
        assert!(!folder.root().exists());
        assert!(!clear(&folder).unwrap(), "nothing is left to clear");
    }
}
