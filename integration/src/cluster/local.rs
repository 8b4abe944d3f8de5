//! The local cluster, by the project's own command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Error;

/// A cluster's data sheet: what `cargo xtask cluster status -o json` prints.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sheet {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) audit_log: PathBuf,
    processes: Vec<Process>,
    pub(crate) network: Option<Network>,
}

#[derive(Clone, Debug, Deserialize)]
struct Process {
    name: String,
    pid: i32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Network {
    pub(crate) namespace: String,
    pub(crate) host_address: std::net::IpAddr,
}

impl Sheet {
    /// Process id of a part.
    pub(crate) fn pid(&self, name: &str) -> Option<i32> {
        self.processes.iter().find(|process| process.name == name).map(|process| process.pid)
    }
}

/// Starts the cluster of that name, with a network namespace, where it does not run yet.
pub(crate) fn up(name: &str) -> Result<Sheet, Error> {
    xtask(&["cluster", "up", name, "--netns"])?;
    let sheet = xtask(&["cluster", "status", name, "-o", "json"])?;
    serde_json::from_str(&sheet).map_err(Error::json("the cluster's status"))
}

/// Kills the API server of the cluster of that name and starts it again.
pub(crate) fn restart(name: &str) -> Result<(), Error> {
    xtask(&["cluster", "restart", name]).map(drop)
}

/// The path of a program that the charm's tests run, built first where that was not done yet.
pub(crate) fn program(name: &str) -> Result<PathBuf, Error> {
    Ok(PathBuf::from(xtask(&["cluster", "program", name])?.trim()))
}

/// The workspace's root.
pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs `cargo xtask`, or the program that `TRAINERD_XTASK` names, and returns what it prints.
fn xtask(arguments: &[&str]) -> Result<String, Error> {
    let mut command = if let Some(program) = std::env::var_os("TRAINERD_XTASK") {
        Command::new(program)
    } else {
        let mut command = Command::new(env!("CARGO"));
        command.arg("xtask");
        command
    };
    command.args(arguments).current_dir(workspace());
    output(command)
}

/// Runs a program that must succeed, and returns what it prints.
pub(crate) fn output(mut command: Command) -> Result<String, Error> {
    let program = PathBuf::from(command.get_program());
    let output = command.stdin(Stdio::null()).output().map_err(Error::io("run", program))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Command { command: format!("{command:?}"), output });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
