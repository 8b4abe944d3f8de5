//! A process: how it is started, what it writes, and the signals that it gets.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::check::Check;
use crate::guard::Guard;
use crate::ring::Ring;

/// How long the last output of a process is waited for once it has ended: a child of its own may hold the pipe.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// Bytes of a line: one without an end is taken in pieces.
const MAX_LINE_BYTES: u64 = 16 << 10;

/// What a process is started with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program: a path, or a name to be found on PATH.
    pub program: PathBuf,
    /// What it is called among the processes.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside those of this process.
    pub variables: Vec<(String, OsString)>,
    /// What is asked of it while it runs.
    pub checks: Vec<Check>,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// What it needs could not be put in place.
    #[error("failed to {what}")]
    Prepare {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such program.
    #[error("failed to find the program {0}: it is neither beside this one nor on PATH")]
    NoProgram(String),
    /// The system refuses.
    #[error("failed to run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A process that was spawned.
pub(crate) struct Process {
    child: Child,
    pid: u32,
    readers: JoinSet<()>,
}

impl Process {
    /// Spawns it, in a process group of its own.
    pub(crate) fn spawn(
        launch: &Launch,
        guard: Option<&Guard>,
        service: &str,
        log: &Arc<Mutex<Ring>>,
    ) -> Result<Self, LaunchError> {
        let program = find(&launch.program)
            .ok_or_else(|| LaunchError::NoProgram(launch.program.display().to_string()))?;
        let mut command = if let Some(guard) = guard {
            guard.command(program.as_os_str(), OsStr::new(&launch.name))
        } else {
            let mut command = std::process::Command::new(&program);
            command.arg0(&launch.name);
            command
        };
        command.args(&launch.arguments).envs(launch.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        // Also where the supervisor is dropped without a word.
        let spawned = command.process_group(0).kill_on_drop(true).spawn();
        let failed = |source| LaunchError::Spawn { program: program.clone(), source };
        let mut child = spawned.map_err(failed)?;
        let pid = child.id().ok_or_else(|| failed(io::Error::other("it has no process id")))?;
        let mut readers = JoinSet::new();
        if let Some(output) = child.stdout.take() {
            readers.spawn(read(output, service.to_owned(), Arc::clone(log)));
        }
        if let Some(output) = child.stderr.take() {
            readers.spawn(read(output, service.to_owned(), Arc::clone(log)));
        }
        Ok(Self { child, pid, readers })
    }

    /// Its process id, which is that of its group, too.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Waits for what it wrote last, once it has ended.
    pub(crate) async fn drain(&mut self) {
        let all = async { while self.readers.join_next().await.is_some() {} };
        // Whoever holds the pipe is not of interest.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, all).await;
        self.readers.abort_all();
    }

    /// Sends a signal to its group. Its end is not known yet, so that nobody else has its number.
    pub(crate) fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(group) = group.filter(|_| self.child.id().is_some()) else { return };
        if let Err(error) = kill_process_group(group, signal) {
            tracing::debug!(pid = self.pid, %error, "failed to signal a process group");
        }
    }
}

/// How a process ended, in words.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// A program as it is to be run; `None` where there is none. A name without a path is looked for on PATH.
fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.exists().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Keeps what a process writes, and logs it.
async fn read(output: impl AsyncRead + Unpin, service: String, log: Arc<Mutex<Ring>>) {
    let mut reader = BufReader::new(output);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        tracing::info!(target: "trainerd::hosted", workload = service, "{line}");
        log.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    }
}
