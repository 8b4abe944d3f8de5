//! A unit of the charm as Juju runs it.
//!
//! The hook tools are Juju's own, over a world that lies in a file; Pebble is the real one; the charm is the packed file,
//! unpacked. What Juju does beside its tools is done here: the environment of a hook is made from nothing, and what a
//! hook wrote to databags and state counts once it ended with 0.

mod scenario;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::scenario::{Outcome, play};
pub use self::world::World;
use crate::cluster::{TestCluster, local};
use crate::{Error, cluster, stack};

/// Juju's tools that the charm may run.
const TOOLS: [&str; 19] = [
    "action-fail",
    "action-get",
    "action-log",
    "action-set",
    "application-version-set",
    "config-get",
    "goal-state",
    "is-leader",
    "juju-log",
    "network-get",
    "relation-get",
    "relation-ids",
    "relation-list",
    "relation-set",
    "resource-get",
    "state-get",
    "state-set",
    "status-get",
    "status-set",
];

/// The model, which is the namespace.
pub const MODEL: &str = "kubeflow";

/// Longest that a hook may take at all, whatever its budget.
const LONGEST: Duration = Duration::from_mins(2);

/// What the tests run.
#[derive(Clone, Debug)]
pub struct Programs {
    hook_tool: PathBuf,
    /// Juju's reader of charm files.
    pub read_charm: PathBuf,
    pebble: PathBuf,
}

impl Programs {
    /// Builds them, where that was not done yet on this machine.
    pub fn find() -> Result<Self, Error> {
        Ok(Self {
            hook_tool: local::program("hook-tool")?,
            read_charm: local::program("read-charm")?,
            pebble: local::program("pebble")?,
        })
    }
}

/// How a hook ended.
#[derive(Clone, Debug)]
pub struct Fired {
    /// Exit code; nothing where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What Juju would log as a warning.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
    /// Time that it computed, without its tools.
    pub cpu: Duration,
    /// The most memory that it had resident.
    pub peak_kib: u64,
    /// The hook tools that it called: name, arguments, what they were given.
    pub calls: Vec<Value>,
}

/// Makes the model's namespace.
pub fn namespace(cluster: &TestCluster) -> Result<(), Error> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MODEL}});
    cluster.create(&stack::namespace(), &namespace).map(drop)
}

/// A unit of the charm.
pub struct Unit<'c> {
    cluster: &'c TestCluster,
    programs: Programs,
    root: TempDir,
    /// What Juju knows.
    pub world: World,
    pebble: Option<Child>,
}

impl<'c> Unit<'c> {
    /// A unit of an application, its charm unpacked, its container not started.
    pub fn new(cluster: &'c TestCluster, programs: &Programs, application: &str) -> Result<Self, Error> {
        let root = tempfile::tempdir().map_err(Error::io("make", "a folder"))?;
        let make = |path: &Path| std::fs::create_dir_all(path).map_err(Error::io("make", path));
        for folder in ["charm/container", "charm/containers", "tools", "juju", "unit", "bin", "pebble"] {
            make(&root.path().join(folder))?;
        }
        let link =
            |from: &Path, to: &Path| std::os::unix::fs::symlink(from, to).map_err(Error::io("link", to));
        // The mount that both containers share.
        link(Path::new("../container"), &root.path().join("charm/containers/trainerd"))?;
        for tool in TOOLS {
            link(&programs.hook_tool, &root.path().join("tools").join(tool))?;
        }
        let copied = |to: &Path| {
            if let Some(charm) = std::env::var_os("TRAINERD_CHARM_FILE") {
                return unpack(Path::new(&charm), to);
            }
            let from = cluster.trainerd().path();
            // The same file where that can be: a debug build is large.
            std::fs::hard_link(from, to)
                .or_else(|_| std::fs::copy(from, to).map(drop))
                .map_err(Error::io("copy", to))
        };
        copied(&root.path().join("unit/dispatch"))?;
        copied(&root.path().join("bin/trainerd"))?;
        let world = World::new(application, &root.path().join("juju"))?;
        let unit = Self { cluster, programs: programs.clone(), root, world, pebble: None };
        unit.world.write()?;
        Ok(unit)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// Starts the workload container: Pebble, which runs nothing before it is told to.
    ///
    /// It runs where the cluster does, so that the daemon's port is this unit's alone; the program lies at
    /// `/usr/bin/trainerd` for it, as in the image.
    pub fn start_container(&mut self) -> Result<(), Error> {
        let network = self.cluster.network().ok_or_else(|| Error::Missing("the local cluster".to_owned()))?;
        let mount = format!(
            "mount -t overlay overlay -o lowerdir={}:/usr/bin /usr/bin && exec {} run --hold --create-dirs --verbose",
            self.path("bin").display(),
            self.programs.pebble.display(),
        );
        let log = std::fs::File::create(self.path("pebble.log")).map_err(Error::io("make", "a log"))?;
        let errors = log.try_clone().map_err(Error::io("make", "a log"))?;
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{network}"))
            .args(["unshare", "--mount", "sh", "-c", &mount])
            .env("PEBBLE", self.path("pebble"))
            .env("PEBBLE_SOCKET", self.path("charm/container/pebble.socket"))
            .env("HOSTNAME", format!("{}-0", self.world.application))
            .env("TRAINERD_NAMESPACE", MODEL)
            .env("TRAINERD_CHARM_ROOT", self.root.path())
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("run", "nsenter"))?;
        self.pebble = Some(child);
        let socket = self.path("charm/container/pebble.socket");
        self.cluster.wait_until("Pebble", Duration::from_secs(20), || Ok(socket.exists()))
    }

    /// Stops the workload container, as a pod that goes does.
    pub fn stop_container(&mut self) {
        if let Some(mut child) = self.pebble.take() {
            // Pebble ends its services, and then itself.
            kill(&child, rustix::process::Signal::TERM);
            let _ = child.wait();
            let _ = std::fs::remove_file(self.path("charm/container/pebble.socket"));
        }
    }

    /// Takes the container out of the charm, as one packed without it has it.
    pub fn without_container(&self) -> Result<(), Error> {
        let shared = self.path("charm/containers/trainerd");
        std::fs::remove_file(&shared).map_err(Error::io("remove", shared))
    }

    /// Fires a hook, or an action (`actions/…`), with further variables.
    pub fn fire(&mut self, path: &str, more: &[(&str, String)]) -> Result<Fired, Error> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_action = path.starts_with("actions/");
        let mut command = Command::new(self.path("unit/dispatch"));
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("tools").display()))
            .env("JUJU_DISPATCH_PATH", path)
            .env("JUJU_HOOK_NAME", if is_action { "" } else { name })
            .env("JUJU_UNIT_NAME", format!("{}/0", self.world.application))
            .env("JUJU_MODEL_NAME", MODEL)
            .env("JUJU_MODEL_UUID", "0d1a0b1e-2b3c-4d5e-8f90-123456789abc")
            .env("JUJU_VERSION", "3.6.11")
            .env("JUJU_CHARM_DIR", self.path("unit"))
            .env("FAKEJUJU_DIR", self.path("juju"))
            .env("TRAINERD_CHARM_ROOT", self.root.path())
            .env("KUBECONFIG", self.cluster.kubeconfig());
        for (name, value) in more {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        let error_log = self.path("stderr");
        let stderr = std::fs::File::create(&error_log).map_err(Error::io("make", &error_log))?;
        command.current_dir(self.path("unit")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        self.world.begin(path, more)?;
        let started = Instant::now();
        let mut child = command.spawn().map_err(Error::io("run", "dispatch"))?;
        let after = |wanted: &str| {
            let found = more.iter().find(|(name, _)| *name == wanted);
            found.and_then(|(_, ms)| ms.parse().ok()).map(Duration::from_millis)
        };
        let mut signals = [
            (after("SIGTERM_AFTER_MS"), rustix::process::Signal::TERM),
            (after("SIGKILL_AFTER_MS"), rustix::process::Signal::KILL),
        ];
        let mut use_of = Use::default();
        let status = loop {
            for (after, signal) in &mut signals {
                if after.take_if(|after| started.elapsed() >= *after).is_some() {
                    kill(&child, *signal);
                }
            }
            use_of.look(child.id());
            if let Some(status) = child.try_wait().map_err(Error::io("wait for", "dispatch"))? {
                break status;
            }
            if started.elapsed() > LONGEST {
                let _ = child.kill();
                return Err(Error::Command {
                    command: path.to_owned(),
                    output: format!("not done in {LONGEST:?}"),
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = started.elapsed();
        let stderr = std::fs::read_to_string(&error_log).map_err(Error::io("read", &error_log))?;
        let calls = self.world.end(status.code() == Some(0))?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let Use { cpu, peak_kib } = use_of;
        Ok(Fired { code: status.code(), signal, stderr, took, cpu, peak_kib, calls })
    }

    /// What Pebble and the daemon wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("pebble.log")).unwrap_or_default()
    }

    /// Number of the process that is the daemon.
    pub fn daemon_pid(&self) -> Option<u32> {
        let program = self.path("bin/trainerd");
        let wanted = std::fs::metadata(program).ok()?;
        std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            let is_daemon = words.starts_with(b"/usr/bin/trainerd\0daemon\0--juju");
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let own = format!("TRAINERD_CHARM_ROOT={}", self.root.path().display());
            let is_own = environment.split(|byte| *byte == 0).any(|entry| entry == own.as_bytes());
            (is_daemon && is_own && wanted.is_file()).then_some(pid)
        })
    }
}

/// Unpacks the program of a packed charm, which is the image's program, too.
fn unpack(charm: &Path, to: &Path) -> Result<(), Error> {
    let file = std::fs::File::open(charm).map_err(Error::io("open", charm))?;
    let unreadable = |_| Error::Missing(format!("a program in {}", charm.display()));
    let mut zip = zip::ZipArchive::new(file).map_err(unreadable)?;
    let mut entry = zip.by_name("dispatch").map_err(unreadable)?;
    let mode = entry.unix_mode().unwrap_or_default();
    let mut program = std::fs::File::create(to).map_err(Error::io("make", to))?;
    std::io::copy(&mut entry, &mut program).map_err(Error::io("write", to))?;
    // As Juju does, which makes nothing executable that is not so in the zip.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    program.set_permissions(mode).map_err(Error::io("set the mode of", to))
}

/// What a process used, as far as it was looked at while it ran: every millisecond.
#[derive(Default)]
struct Use {
    cpu: Duration,
    peak_kib: u64,
}

impl Use {
    fn look(&mut self, pid: u32) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // Each thread by itself; what ended is counted as it was seen last.
        let spent = read("schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok());
        self.cpu = self.cpu.max(Duration::from_nanos(spent.unwrap_or_default()));
        let status = read("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        self.peak_kib = self.peak_kib.max(peak.unwrap_or_default());
    }
}

/// Signals a process; one that has ended meanwhile is none.
fn kill(child: &Child, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        self.stop_container();
    }
}

/// The checkout.
pub fn workspace() -> &'static Path {
    cluster::local::workspace()
}
