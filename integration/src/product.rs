//! The product as a user runs it: a process with arguments, an exit code and two streams.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::cluster::TestCluster;
use crate::proxy::{Entry, Rule};

/// The binary under test.
#[derive(Clone, Debug)]
pub struct Trainerd {
    path: PathBuf,
}

/// How a run of it ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line.
    pub command: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Text for people.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Trainerd {
    /// The binary that `TRAINERD_BIN` names, else the one of this build, which is built now.
    pub fn find() -> Result<Self, Error> {
        if let Some(path) = std::env::var_os("TRAINERD_BIN") {
            return Ok(Self { path: path.into() });
        }
        crate::cluster::build("trainerd")?;
        // target/debug/deps/TEST-HASH: the binaries are two levels up.
        let test = std::env::current_exe().map_err(Error::io("find", "this test"))?;
        let folder = test.ancestors().nth(2).unwrap_or(Path::new("."));
        Ok(Self { path: folder.join("trainerd") })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its command line with these arguments and that kubeconfig, and nothing of this process's environment
    /// that it reads.
    pub fn command<A: AsRef<OsStr>>(&self, kubeconfig: &Path, arguments: &[A]) -> Command {
        let mut command = Command::new(&self.path);
        let inherited: Vec<OsString> = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| {
                let name = name.to_string_lossy().to_uppercase();
                name.starts_with("TRAINERD_") || name.ends_with("_PROXY") || name == "KUBECONFIG"
            })
            .collect();
        for name in inherited {
            command.env_remove(name);
        }
        // Behind a `--` come words that are not ours.
        let end = arguments.iter().position(|argument| argument.as_ref() == "--").unwrap_or(arguments.len());
        let (own, rest) = arguments.split_at(end);
        command.args(own).arg("--kubeconfig").arg(kubeconfig).args(rest).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl TestCluster {
    /// Runs the product as an administrator.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Run, Error> {
        self.run_as(self.kubeconfig(), arguments)
    }

    /// Runs the product with a kubeconfig.
    pub fn run_as<A: AsRef<OsStr>>(&self, kubeconfig: &Path, arguments: &[A]) -> Result<Run, Error> {
        let started = Instant::now();
        let (command, child) = self.spawn(kubeconfig, arguments)?;
        wait(command, child, started)
    }

    /// Starts the product and returns its command line and the process.
    pub fn spawn<A: AsRef<OsStr>>(
        &self,
        kubeconfig: &Path,
        arguments: &[A],
    ) -> Result<(String, Child), Error> {
        let mut command = self.trainerd().command(kubeconfig, arguments);
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(Error::io("run", program))?;
        Ok((format!("trainerd {}", words.join(" ")), child))
    }

    /// Runs the product through the proxy, with these faults; returns its end and its requests.
    pub fn run_proxied<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        rules: Vec<Rule>,
    ) -> Result<(Run, Vec<Entry>), Error> {
        let proxy = self.proxy();
        self.block_on(proxy.begin(rules));
        let started = Instant::now();
        let (command, child) = self.spawn(&self.proxied(), arguments)?;
        proxy.set_child(Some(child.id()));
        let run = wait(command, child, started);
        proxy.set_child(None);
        self.block_on(proxy.drained());
        Ok((run?, proxy.log()))
    }
}

/// Waits for a process's end.
pub fn wait(command: String, child: Child, started: Instant) -> Result<Run, Error> {
    let output = child.wait_with_output().map_err(Error::io("wait for", "trainerd"))?;
    Ok(Run {
        command,
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: started.elapsed(),
    })
}

impl Run {
    /// This run, if it ended with that exit code; else an error that tells everything of it.
    pub fn expect_code(self, code: i32) -> Result<Self, Error> {
        if self.code == Some(code) {
            return Ok(self);
        }
        let Self { command, code: got, signal, stdout, stderr, took } = self;
        let ended = match (got, signal) {
            (Some(got), _) => format!("exit code {got}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        let output = format!("{ended} after {took:?}, not exit code {code}\n{stderr}\n{stdout}");
        Err(Error::Command { command, output })
    }

    /// What it printed, read as one JSON document.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.stdout).map_err(Error::json("what trainerd printed"))
    }

    /// What it printed, read as JSON documents, one a line.
    pub fn json_lines(&self) -> Result<Vec<Value>, Error> {
        let lines = self.stdout.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).map_err(Error::json("a line that trainerd printed")))
            .collect()
    }
}
