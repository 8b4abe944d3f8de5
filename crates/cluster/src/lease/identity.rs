//! Who holds a lease, said so that another process of the same machine can see whether it still lives.

use std::fmt;
use std::fs;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// A process of a Linux machine, distinguished from every other that ever ran there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id, in its pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// Inode number of its pid namespace.
    pub pid_namespace: u64,
    /// Random id that the kernel takes at each boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

/// Holder of a lease.
///
/// Printed `HOST:NONCE`, and `HOST:NONCE:PID:START_TICKS:PID_NAMESPACE:BOOT_ID` where `/proc` tells:
/// `laptop:5f3a1c09:4242:123456:4026531836:3f2c61a0-…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Host name, for people.
    pub host: String,
    /// Tells apart the holders within one process.
    pub nonce: u32,
    /// The process, where known.
    pub process: Option<Process>,
}

/// A holder that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read {0:?} as an identity")]
pub struct IdentityError(pub String);

impl Identity {
    /// A new identity of this process. Two calls give two identities.
    pub fn of_this_process() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().replace(':', "-");
        let host = if host.is_empty() { "unknown".to_owned() } else { host };
        Self { host, nonce: fastrand::u32(..), process: Process::current() }
    }

    /// Whether this identity is of a process of this machine that has ended. `false` whenever that cannot be
    /// seen: another machine, another boot, another pid namespace, no `/proc`.
    pub fn is_dead(&self) -> bool {
        match (&self.process, Process::current()) {
            (Some(holder), Some(me)) => holder.is_dead(&me),
            _ => false,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:08x}", self.host, self.nonce)?;
        if let Some(process) = &self.process {
            let Process { pid, start_ticks, pid_namespace, boot_id } = process;
            write!(f, ":{pid}:{start_ticks}:{pid_namespace}:{boot_id}")?;
        }
        Ok(())
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let parsed = match parts.as_slice() {
            [host, nonce] => Self::from_parts(host, nonce, None),
            [host, nonce, pid, start, namespace, boot] => Process::from_parts(pid, start, namespace, boot)
                .and_then(|process| Self::from_parts(host, nonce, Some(process))),
            _ => None,
        };
        parsed.ok_or_else(|| IdentityError(text.to_owned()))
    }
}

impl Identity {
    fn from_parts(host: &str, nonce: &str, process: Option<Process>) -> Option<Self> {
        if host.is_empty() || nonce.len() != 8 {
            return None;
        }
        Some(Self { host: host.to_owned(), nonce: u32::from_str_radix(nonce, 16).ok()?, process })
    }
}

impl Process {
    fn from_parts(pid: &str, start: &str, namespace: &str, boot: &str) -> Option<Self> {
        if boot.is_empty() {
            return None;
        }
        Some(Self {
            pid: pid.parse().ok()?,
            start_ticks: start.parse().ok()?,
            pid_namespace: namespace.parse().ok()?,
            boot_id: boot.to_owned(),
        })
    }

    /// This process. `None` where `/proc` is missing or belongs to another pid namespace.
    fn current() -> Option<Self> {
        let pid = std::process::id();
        // A /proc of another pid namespace would show other processes under our numbers.
        if fs::read_link("/proc/self").ok()?.to_str()? != pid.to_string() {
            return None;
        }
        let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
        let namespace = namespace.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?;
        Some(Self {
            pid,
            start_ticks: stat(pid)?.start_ticks,
            pid_namespace: namespace.parse().ok()?,
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned(),
        })
    }

    /// Namespace inodes are reused, but not while a process of the namespace lives: a number that matches ours
    /// is either our namespace or one whose processes are all gone.
    fn is_dead(&self, me: &Self) -> bool {
        if self.boot_id != me.boot_id || self.pid_namespace != me.pid_namespace {
            return false;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        // Not by a missing /proc/PID: with hidepid other users' processes are not shown there.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        stat(self.pid).is_some_and(|stat| stat.ended || stat.start_ticks != self.start_ticks)
    }
}

struct Stat {
    ended: bool,
    start_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field, the command in parentheses, may hold spaces and parentheses of its own: fields are counted
/// from its last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { ended: matches!(state, "Z" | "X" | "x"), start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process {
            pid: 4242,
            start_ticks: 123_456,
            pid_namespace: 4_026_531_836,
            boot_id: "3f2c61a0-1".to_owned(),
        }
    }

    #[test]
    fn prints_and_parses() {
        let with = Identity { host: "laptop".to_owned(), nonce: 0x0f3a_1c09, process: Some(process()) };
        let without = Identity { process: None, ..with.clone() };
        for (identity, text) in
            [(with, "laptop:0f3a1c09:4242:123456:4026531836:3f2c61a0-1"), (without, "laptop:0f3a1c09")]
        {
            assert_eq!(identity.to_string(), text);
            assert_eq!(text.parse(), Ok(identity));
        }
    }

    #[test]
    fn foreign_holder_names_are_not_parsed() {
        for text in [
            "",
            "manager-7d9f_1b2c3d4e-aaaa",
            "laptop:xyz",
            "laptop:0f3a1c09:x:1:2:b",
            ":0f3a1c09",
            "laptop:0f3a1c09:1:2:3:",
            "laptop:0f3a1c09:1:2:3",
        ] {
            assert_eq!(text.parse::<Identity>(), Err(IdentityError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn stat_is_parsed_with_unusual_command_names() {
        let text = "7 (a b) (c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1\n";
        let stat = parse_stat(text).unwrap();
        assert!(!stat.ended);
        assert_eq!(stat.start_ticks, 98_765);
        assert!(parse_stat(&text.replace(") S ", ") Z ")).unwrap().ended);
        assert!(parse_stat("7 (x) S 1").is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_holder_is_dead_only_if_its_process_is_known_to_have_ended() {
        let me = Identity::of_this_process();
        let process = me.process.clone().unwrap();
        let other = |change: fn(&mut Process)| {
            let mut process = process.clone();
            change(&mut process);
            Identity { process: Some(process), ..me.clone() }
        };
        assert!(!me.is_dead());
        assert!(other(|process| process.start_ticks += 1).is_dead(), "the pid was given to another process");
        assert!(!other(|process| process.boot_id.push('x')).is_dead(), "another machine or boot");
        assert!(!other(|process| process.pid_namespace += 1).is_dead(), "another container");
        assert!(!Identity { process: None, ..me.clone() }.is_dead());

        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let sleeper = Process {
            pid: child.id(),
            start_ticks: stat(child.id()).unwrap().start_ticks,
            ..process.clone()
        };
        let sleeper = Identity { process: Some(sleeper), ..me.clone() };
        assert!(!sleeper.is_dead());
        child.kill().unwrap();
        // Not yet reaped, it is a zombie: it will never write again.
        let seen_dead = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            sleeper.is_dead()
        });
        assert!(seen_dead, "killed, not reaped");
        child.wait().unwrap();
        assert!(sleeper.is_dead(), "reaped");
    }

    #[test]
    fn holders_of_one_process_differ() {
        assert_ne!(Identity::of_this_process().nonce, Identity::of_this_process().nonce);
    }
}
