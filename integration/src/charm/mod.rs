//! A unit of the charm as Juju runs it.
//!
//! The hook tools are Juju's own, with the controller's state in a file; Pebble is the real one; the charm is the packed
//! file, unpacked. This module does what Juju's agent does: it sets the environment of a hook, and commits what the hook
//! wrote to databags and state if it ended with 0.

mod containers;
mod kills;
mod local;
mod pod;
mod root;
mod scenario;
mod trust;
mod world;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::containers::Containers;
pub use self::kills::random_kills;
use self::local::Local;
use self::pod::Pod;
pub use self::scenario::{Outcome, run, run_in_pods, run_text};
pub use self::world::World;
use crate::cluster::TestCluster;
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

/// The model's own id.
const MODEL_UUID: &str = "0d1a0b1e-2b3c-4d5e-8f90-123456789abc";

/// The program that is every tool, beside the links to it.
const HOOK_TOOL: &str = "hook-tool";

/// Time limit of any hook.
const HOOK_TIMEOUT: Duration = Duration::from_mins(2);

/// The programs that the tests run.
#[derive(Clone, Debug)]
pub struct Programs {
    hook_tool: PathBuf,
    /// Juju's reader of charm files.
    pub read_charm: PathBuf,
    pebble: PathBuf,
}

impl Programs {
    /// Builds them, unless that was done on this machine before.
    pub fn find() -> Result<Self, Error> {
        Ok(Self {
            hook_tool: cluster::local::program("hook-tool")?,
            read_charm: cluster::local::program("read-charm")?,
            pebble: cluster::local::program("pebble")?,
        })
    }
}

/// The result of a hook.
#[derive(Clone, Debug)]
pub struct HookRun {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What Juju would log as a warning.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
    /// CPU time, without its tools.
    pub cpu: Duration,
    /// Peak of resident memory.
    pub peak_kib: u64,
    /// The hook tools that it called: name, arguments, input.
    pub calls: Vec<Value>,
}

/// The images that a node must have for units with pods.
pub fn pod_images() -> [&'static str; 2] {
    [pod::BASE, pod::WORKLOAD]
}

/// Makes the model's namespace.
pub fn namespace(cluster: &TestCluster) -> Result<(), Error> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MODEL}});
    cluster.create(&stack::namespace(), &namespace).map(drop)
}

/// A unit of the charm: the charm's container, and the workload's.
pub struct Unit<'c> {
    cluster: &'c TestCluster,
    // Before the folder that they may lie in.
    containers: Containers<'c>,
    folder: TempDir,
    /// What Juju knows.
    pub world: World,
}

impl<'c> Unit<'c> {
    /// The first unit of an application, its charm unpacked, its workload container not started.
    ///
    /// The charm is the packed one that `TRAINERD_CHARM_FILE` names: its program runs in a root that has nothing else
    /// but what Juju puts there. Without it the program of this build takes its place, with this machine's libraries.
    pub fn new(cluster: &'c TestCluster, programs: &Programs, application: &str) -> Result<Self, Error> {
        trust::create_account(cluster, application)?;
        Self::with_number(cluster, programs, application, 0)
    }

    /// A unit of an application that has its account.
    pub(crate) fn with_number(
        cluster: &'c TestCluster,
        programs: &Programs,
        application: &str,
        number: usize,
    ) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make", "a folder"))?;
        let access = trust::kubeconfig(cluster, application)?;
        let local = Local::new(cluster, programs, (application, number), folder.path(), &access)?;
        let world = World::new(application, number, &local.world())?;
        world.write()?;
        Ok(Self { cluster, containers: Containers::Local(local), folder, world })
    }

    /// A unit whose containers are those of a pod.
    pub(crate) fn in_pod(
        cluster: &'c TestCluster,
        programs: &Programs,
        application: &str,
        number: usize,
    ) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make", "a folder"))?;
        let pod = Pod::new(cluster, programs, application, number);
        let world = World::new(application, number, &pod.world())?;
        Ok(Self { cluster, containers: Containers::Pod(pod), folder, world })
    }

    /// Its containers, if they are local processes.
    pub(crate) fn local(&mut self) -> Result<&mut Local<'c>, Error> {
        match &mut self.containers {
            Containers::Local(local) => Ok(local),
            Containers::Pod(_) => Err(Error::Missing("a unit without a pod".to_owned())),
        }
    }

    /// Its pod.
    pub(crate) fn pod(&mut self) -> Result<&mut Pod<'c>, Error> {
        match &mut self.containers {
            Containers::Pod(pod) => Ok(pod),
            Containers::Local(_) => Err(Error::Missing("a unit with a pod".to_owned())),
        }
    }

    /// Waits for the unit's pod, and does in it what Juju does before any hook.
    pub(crate) fn prepare_pod(&mut self) -> Result<(), Error> {
        let pod = self.pod()?;
        pod.wait()?;
        let world = pod.world();
        self.world.move_to(&world);
        self.world.write()
    }

    /// Starts the workload container: Pebble, which runs nothing before it is told to.
    pub fn start_container(&mut self) -> Result<(), Error> {
        self.local()?.start()
    }

    /// When the daemon's notice was posted last, if it was.
    pub fn notice(&self) -> Result<Option<String>, Error> {
        let path = "/v1/notices?types=custom&keys=trainerd.dev/state&users=all";
        let answer = self.get("pebble.socket", path)?;
        Ok(answer["result"][0]["last-repeated"].as_str().map(str::to_owned))
    }

    /// Status of a Pebble check, if Pebble has it.
    pub(crate) fn check(&self, name: &str) -> Result<Option<String>, Error> {
        let answer = self.get("pebble.socket", &format!("/v1/checks?names={name}"))?;
        Ok(answer["result"][0]["status"].as_str().map(str::to_owned))
    }

    /// Generation of the daemon's desired state, if a daemon runs and has one.
    pub(crate) fn generation(&self) -> Result<Option<String>, Error> {
        Ok(self.get("trainerd.sock", "/v1/status")?["generation"].as_str().map(str::to_owned))
    }

    /// A GET on a socket of the workload's container; `null` if nothing listens.
    fn get(&self, socket: &str, path: &str) -> Result<Value, Error> {
        let Ok(stream) = UnixStream::connect(self.containers.shared().join(socket)) else {
            return Ok(Value::Null);
        };
        let answer = crate::daemon::exchange(stream, "GET", path, None, None)?;
        serde_json::from_str(&answer.body).map_err(Error::json("what a socket of the charm answers"))
    }

    /// A file of the charm's container, as this process sees it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.containers.file(path)
    }

    /// Replaces the daemon by a server with another version of the API.
    pub fn fake_daemon(&self, version: &str) -> Result<(), Error> {
        let socket = self.containers.shared().join("trainerd.sock");
        std::fs::remove_file(&socket).map_err(Error::io("remove", &socket))?;
        let listener = UnixListener::bind(&socket).map_err(Error::io("listen on", &socket))?;
        let body = json!({"version": version, "api": 0}).to_string();
        // The thread ends with the test.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let is_version = stream
                    .read(&mut request)
                    .is_ok_and(|read| request[..read].starts_with(b"GET /v1/version "));
                let (code, body) =
                    if is_version { ("200 OK", body.as_str()) } else { ("404 Not Found", "{}") };
                let answer = format!(
                    "HTTP/1.1 {code}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{body}",
                    body.len()
                );
                // The client may have gone.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Ok(())
    }

    /// Puts a resource where `resource-get` finds it.
    pub fn put_resource(&mut self, name: &str, file: &Path) -> Result<(), Error> {
        let place = format!("{}/resources/{name}.yaml", self.containers.world_inside());
        let outside = self.containers.file(&place);
        std::fs::copy(file, outside).map_err(Error::io("copy", file))?;
        self.world.content["resources"][name] = place.into();
        Ok(())
    }

    /// Fires a hook, or an action (`actions/…`), with further variables.
    pub fn run_hook(&mut self, path: &str, more: &[(&str, String)]) -> Result<HookRun, Error> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_action = path.starts_with("actions/");
        let (application, number) = (&self.world.application, self.world.number);
        let (agent, tools) = (agent(application, number), tools(application, number));
        let mut command = self.containers.command(&format!("{agent}/dispatch"), &agent);
        command
            .env_clear()
            .envs(self.containers.environment())
            .env("PATH", format!("{tools}:/usr/bin:/bin"))
            .env("JUJU_DISPATCH_PATH", path)
            .env("JUJU_HOOK_NAME", if is_action { "" } else { name })
            .env("JUJU_UNIT_NAME", format!("{application}/{number}"))
            .env("JUJU_MODEL_NAME", MODEL)
            .env("JUJU_MODEL_UUID", MODEL_UUID)
            .env("JUJU_VERSION", "3.6.11")
            .env("JUJU_CHARM_DIR", &agent)
            .env("FAKEJUJU_DIR", self.containers.world_inside());
        for (name, value) in more {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        let error_log = self.folder.path().join("stderr");
        let stderr = std::fs::File::create(&error_log).map_err(Error::io("make", &error_log))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        self.world.before_hook(path, more)?;
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
        let mut trust = after("TRUST_AFTER_MS");
        let mut daemon = after("KILL_DAEMON_AFTER_MS");
        let mut usage = ResourceUsage::default();
        let status = loop {
            for (after, signal) in &mut signals {
                if after.take_if(|after| started.elapsed() >= *after).is_some() {
                    kill(child.id(), *signal);
                }
            }
            if trust.take_if(|after| started.elapsed() >= *after).is_some() {
                trust::set(self.cluster, &self.world.application, true)?;
            }
            if daemon.take_if(|after| started.elapsed() >= *after).is_some()
                && let Some(pid) = self.daemon_pid()
            {
                kill(pid, rustix::process::Signal::KILL);
            }
            usage.sample(child.id());
            if let Some(status) = child.try_wait().map_err(Error::io("wait for", "dispatch"))? {
                break status;
            }
            if started.elapsed() > HOOK_TIMEOUT {
                let _ = child.kill();
                return Err(Error::Command {
                    command: path.to_owned(),
                    output: format!("not done in {HOOK_TIMEOUT:?}"),
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let took = started.elapsed();
        let stderr = std::fs::read_to_string(&error_log).map_err(Error::io("read", &error_log))?;
        let calls = self.world.after_hook(status.code() == Some(0))?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let ResourceUsage { cpu, peak_kib } = usage;
        Ok(HookRun { code: status.code(), signal, stderr, took, cpu, peak_kib, calls })
    }

    /// What Pebble and the daemon wrote.
    pub fn log(&self) -> String {
        self.containers.log()
    }

    /// Number of the process that is the daemon.
    pub fn daemon_pid(&self) -> Option<u32> {
        std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            let is_daemon = words.starts_with(b"/usr/bin/trainerd\0daemon\0--juju");
            (is_daemon && self.containers.contains(pid)).then_some(pid)
        })
    }
}

/// Where Juju unpacks the charm of a unit.
fn agent(application: &str, number: usize) -> String {
    format!("/var/lib/juju/agents/unit-{application}-{number}/charm")
}

/// Where Juju puts the hook tools of a unit.
fn tools(application: &str, number: usize) -> String {
    format!("/var/lib/juju/tools/unit-{application}-{number}")
}

/// Puts Juju's tools into a folder: a link each to a program beside them.
fn link_tools(folder: &Path) -> Result<(), Error> {
    for tool in TOOLS {
        let place = folder.join(tool);
        std::os::unix::fs::symlink(HOOK_TOOL, &place).map_err(Error::io("link", &place))?;
    }
    Ok(())
}

/// The packed charm, if there is one.
fn packed() -> Option<PathBuf> {
    std::env::var_os("TRAINERD_CHARM_FILE").map(PathBuf::from)
}

/// The packed charm, if there is one, unpacked into a folder, and its program.
pub fn packed_program(folder: &Path) -> Result<Option<(PathBuf, PathBuf)>, Error> {
    let Some(charm) = packed() else { return Ok(None) };
    unpack(&charm, folder)?;
    Ok(Some((charm, folder.join("dispatch"))))
}

/// Unpacks a packed charm.
fn unpack(charm: &Path, to: &Path) -> Result<(), Error> {
    let file = std::fs::File::open(charm).map_err(Error::io("open", charm))?;
    let unreadable = |_| Error::Missing(format!("a zip file in {}", charm.display()));
    let mut zip = zip::ZipArchive::new(file).map_err(unreadable)?;
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).map_err(unreadable)?;
        let name = entry.name().map_err(unreadable)?.into_owned();
        let mode = entry.unix_mode().unwrap_or_default();
        let path = to.join(name);
        let mut file = std::fs::File::create(&path).map_err(Error::io("make", &path))?;
        std::io::copy(&mut entry, &mut file).map_err(Error::io("write", &path))?;
        // Juju keeps the modes of the zip.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        file.set_permissions(mode).map_err(Error::io("set the mode of", &path))?;
    }
    Ok(())
}

/// CPU and memory of a process, sampled every millisecond while it runs.
#[derive(Default)]
struct ResourceUsage {
    cpu: Duration,
    peak_kib: u64,
}

impl ResourceUsage {
    fn sample(&mut self, pid: u32) {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // The main thread's; the last sample counts.
        let spent = read("schedstat").split(' ').next().and_then(|nanos| nanos.parse().ok());
        self.cpu = self.cpu.max(Duration::from_nanos(spent.unwrap_or_default()));
        let status = read("status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        self.peak_kib = self.peak_kib.max(peak.unwrap_or_default());
    }
}

/// Signals a process, if it still runs.
fn kill(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The checkout.
pub fn workspace() -> &'static Path {
    cluster::local::workspace()
}
