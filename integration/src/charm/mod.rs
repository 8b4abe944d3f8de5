//! A unit of the charm as Juju runs it.
//!
//! The hook tools are Juju's own, over a world that lies in a file; Pebble is the real one; the charm is the packed file,
//! unpacked. What Juju does beside its tools is done here: the environment of a hook is made from nothing, and what a
//! hook wrote to databags and state counts once it ended with 0.

mod root;
mod scenario;
mod trust;
mod world;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::root::Root;
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

/// The model's own id.
const MODEL_UUID: &str = "0d1a0b1e-2b3c-4d5e-8f90-123456789abc";

/// The socket of the workload's Pebble, in a unit's folder.
const SOCKET: &str = "shared/containers/trainerd/pebble.socket";

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

/// Where the workload finds its program, as in the image.
const PROGRAM: &str = "/usr/bin/trainerd";

/// What every program of the pod uses to talk to the API server.
const KUBECONFIG: &str = "/kube/config";

/// A unit of the charm: the charm's container, and the workload's.
pub struct Unit<'c> {
    cluster: &'c TestCluster,
    // Before the folder that they lie in.
    charm: Root,
    workload: Root,
    folder: TempDir,
    /// What Juju knows.
    pub world: World,
    pebble: Option<Child>,
}

impl<'c> Unit<'c> {
    /// A unit of an application, its charm unpacked, its workload container not started.
    ///
    /// The charm is the packed one that `TRAINERD_CHARM_FILE` names: its program runs in a root that has nothing else
    /// but what Juju puts there. Without it the program of this build takes its place, with this machine's libraries.
    pub fn new(cluster: &'c TestCluster, programs: &Programs, application: &str) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make", "a folder"))?;
        let make = |path: &Path| std::fs::create_dir_all(path).map_err(Error::io("make", path));
        let (charm, workload) = (folder.path().join("charm"), folder.path().join("workload"));
        let shared = folder.path().join("shared/containers");
        let (agent, tools) = (agent(application), tools(application));
        let below = |root: &Path, path: &str| root.join(path.trim_start_matches('/'));
        for path in [
            shared.join("trainerd"),
            below(&charm, &agent),
            below(&charm, &tools),
            charm.join("juju/resources"),
            charm.join("tmp"),
            workload.join("tmp"),
            workload.join("var/lib/pebble"),
        ] {
            make(&path)?;
        }
        for tool in TOOLS {
            let place = below(&charm, &tools).join(tool);
            std::os::unix::fs::symlink("hook-tool", &place).map_err(Error::io("link", &place))?;
        }
        let access = folder.path().join("kubeconfig");
        std::fs::copy(trust::kubeconfig(cluster, application)?, &access)
            .map_err(Error::io("copy", &access))?;
        let hook_tool = format!("{tools}/hook-tool");
        let dispatch = format!("{agent}/dispatch");
        let mut mounts = vec![
            (shared.clone(), "/charm/containers"),
            (programs.hook_tool.clone(), hook_tool.as_str()),
            (access.clone(), KUBECONFIG),
        ];
        let packed = std::env::var_os("TRAINERD_CHARM_FILE").map(PathBuf::from);
        let program = if let Some(packed) = &packed {
            unpack(packed, &below(&charm, &agent))?;
            below(&charm, &dispatch)
        } else {
            mounts.push((cluster.trainerd().path().to_owned(), &dispatch));
            cluster.trainerd().path().to_owned()
        };
        let charm = Root::new(&charm, &mounts, packed.is_none())?;
        let mounts = [
            (shared.join("trainerd"), "/charm/container"),
            (programs.pebble.clone(), "/charm/bin/pebble"),
            (program, PROGRAM),
            (access, KUBECONFIG),
        ];
        let workload = Root::new(&workload, &mounts, packed.is_none())?;
        let world = World::new(application, &charm.path("juju"))?;
        world.write()?;
        Ok(Self { cluster, charm, workload, folder, world, pebble: None })
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Starts the workload container: Pebble, which runs nothing before it is told to.
    ///
    /// It runs where the cluster does, so that the daemon's port is this unit's alone.
    pub fn start_container(&mut self) -> Result<(), Error> {
        let network = self.cluster.network().ok_or_else(|| Error::Missing("the local cluster".to_owned()))?;
        let log = std::fs::File::create(self.path("pebble.log")).map_err(Error::io("make", "a log"))?;
        let errors = log.try_clone().map_err(Error::io("make", "a log"))?;
        let child = self
            .workload
            .command("/charm/bin/pebble", "/", Some(network))
            .args(["run", "--hold", "--create-dirs", "--verbose"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PEBBLE", "/var/lib/pebble/default")
            .env("PEBBLE_SOCKET", "/charm/container/pebble.socket")
            .env("HOSTNAME", format!("{}-0", self.world.application))
            .env("TRAINERD_NAMESPACE", MODEL)
            .env("KUBECONFIG", KUBECONFIG)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("run", "nsenter"))?;
        self.pebble = Some(child);
        let socket = self.path(SOCKET);
        self.cluster.wait_until("Pebble", Duration::from_secs(20), || Ok(socket.exists()))
    }

    /// Stops the workload container, as a pod that goes does.
    pub fn stop_container(&mut self) {
        if let Some(mut child) = self.pebble.take() {
            // Pebble ends its services, and then itself.
            kill(&child, rustix::process::Signal::TERM);
            let _ = child.wait();
            let _ = std::fs::remove_file(self.path(SOCKET));
        }
    }

    /// Takes the container out of the charm, as one packed without it has it.
    pub fn without_container(&self) -> Result<(), Error> {
        let shared = self.path("shared/containers/trainerd");
        std::fs::remove_dir(&shared).map_err(Error::io("remove", shared))
    }

    /// Lets the pod's programs talk to the API server by way of the proxy, from their next start on.
    pub fn use_proxy(&self) -> Result<(), Error> {
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            serde_yaml::from_str::<Value>(&text).map_err(|_| Error::Missing("a kubeconfig".to_owned()))
        };
        let mut access = read(&self.cluster.proxied())?;
        // The container has no authorities of its own.
        let authority =
            &read(self.cluster.kubeconfig())?["clusters"][0]["cluster"]["certificate-authority-data"];
        access["clusters"][0]["cluster"]["certificate-authority-data"] = authority.clone();
        // In place: the file is mounted.
        std::fs::write(self.path("kubeconfig"), access.to_string())
            .map_err(Error::io("write", "the kubeconfig"))
    }

    /// When Pebble was told of the daemon's status last; nothing where it was not yet.
    pub fn notice(&self) -> Result<Option<String>, Error> {
        let Ok(stream) = UnixStream::connect(self.path(SOCKET)) else { return Ok(None) };
        let path = "/v1/notices?types=custom&keys=trainerd.dev/state";
        let answer = crate::daemon::exchange(stream, "GET", path, None, None)?;
        let answer: Value = serde_json::from_str(&answer.body).map_err(Error::json("Pebble's notices"))?;
        Ok(answer["result"][0]["last-repeated"].as_str().map(str::to_owned))
    }

    /// Answers in the place of the daemon from now on, as one of another release whose API is another.
    pub fn answer_for_daemon(&self, version: &str) -> Result<(), Error> {
        let socket = self.path("shared/containers/trainerd/trainerd.sock");
        std::fs::remove_file(&socket).map_err(Error::io("remove", &socket))?;
        let listener = UnixListener::bind(&socket).map_err(Error::io("listen on", &socket))?;
        let body = json!({"version": version, "api": 0}).to_string();
        // It ends with the test.
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
                // Whoever asked may have gone.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Ok(())
    }

    /// Puts a resource where `resource-get` finds it.
    pub fn put_resource(&mut self, name: &str, file: &Path) -> Result<(), Error> {
        let place = format!("/juju/resources/{name}.yaml");
        std::fs::copy(file, self.charm.path(&place)).map_err(Error::io("copy", file))?;
        self.world.content["resources"][name] = place.into();
        Ok(())
    }

    /// Fires a hook, or an action (`actions/…`), with further variables.
    pub fn fire(&mut self, path: &str, more: &[(&str, String)]) -> Result<Fired, Error> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_action = path.starts_with("actions/");
        let (agent, tools) = (agent(&self.world.application), tools(&self.world.application));
        let mut command = self.charm.command(&format!("{agent}/dispatch"), &agent, None);
        command
            .env_clear()
            .env("PATH", format!("{tools}:/usr/bin:/bin"))
            .env("JUJU_DISPATCH_PATH", path)
            .env("JUJU_HOOK_NAME", if is_action { "" } else { name })
            .env("JUJU_UNIT_NAME", format!("{}/0", self.world.application))
            .env("JUJU_MODEL_NAME", MODEL)
            .env("JUJU_MODEL_UUID", MODEL_UUID)
            .env("JUJU_VERSION", "3.6.11")
            .env("JUJU_CHARM_DIR", &agent)
            .env("FAKEJUJU_DIR", "/juju")
            .env("KUBECONFIG", KUBECONFIG);
        for (name, value) in more {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        let error_log = self.path("stderr");
        let stderr = std::fs::File::create(&error_log).map_err(Error::io("make", &error_log))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
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
        let mut trust = after("TRUST_AFTER_MS");
        let mut use_of = Use::default();
        let status = loop {
            for (after, signal) in &mut signals {
                if after.take_if(|after| started.elapsed() >= *after).is_some() {
                    kill(&child, *signal);
                }
            }
            if trust.take_if(|after| started.elapsed() >= *after).is_some() {
                trust::set(self.cluster, &self.world.application, true)?;
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
        std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(entry.path().join("cmdline")).ok()?;
            let is_daemon = words.starts_with(b"/usr/bin/trainerd\0daemon\0--juju");
            (is_daemon && self.workload.holds(pid)).then_some(pid)
        })
    }
}

/// Where Juju unpacks the charm of a unit.
fn agent(application: &str) -> String {
    format!("/var/lib/juju/agents/unit-{application}-0/charm")
}

/// Where Juju puts the hook tools of a unit.
fn tools(application: &str) -> String {
    format!("/var/lib/juju/tools/unit-{application}-0")
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
        // As Juju does, which makes nothing executable that is not so in the zip.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        file.set_permissions(mode).map_err(Error::io("set the mode of", &path))?;
    }
    Ok(())
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
