//! Where the demo plays, and the two programs it plays with.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::Error;
use crate::cluster::Status;
use crate::{command, foreground};

/// A cluster with the programs to work on it.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Value of `KUBECONFIG`: a path, or several as kubectl takes them.
    pub(crate) kubeconfig: OsString,
    /// The cluster is the demo's own, with this project's images on its node.
    pub(crate) own: bool,
    /// The product.
    pub(crate) trainerd: PathBuf,
    /// kubectl.
    pub(crate) kubectl: PathBuf,
}

impl Scene {
    /// A cluster that was started for the demo.
    pub(crate) fn on_own(cluster: &Status, trainerd: PathBuf, kubectl: PathBuf) -> Self {
        Self { kubeconfig: cluster.kubeconfig.clone().into(), own: true, trainerd, kubectl }
    }

    /// A cluster that somebody keeps.
    pub(crate) fn on_given(kubeconfig: OsString, trainerd: PathBuf, kubectl: PathBuf) -> Self {
        Self { kubeconfig, own: false, trainerd, kubectl }
    }

    /// Trainerd with these arguments. It reads its options from the environment too: those of whoever runs
    /// the demo must not change it.
    fn trainerd(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.trainerd);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TRAINERD_") {
                command.env_remove(&name);
            }
        }
        command.args(arguments);
        command
    }

    /// Runs trainerd in sight of the person.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<(), Error> {
        Ok(foreground::run(&mut self.trainerd(arguments))?)
    }

    /// Runs trainerd and kills it with signal 9 after a time; whether it still ran then.
    pub(crate) fn kill(&self, arguments: &[&str], after: Duration) -> Result<bool, Error> {
        let failed = |source| command::Error::Start { program: "trainerd".to_owned(), source };
        let mut trainerd = self.trainerd(arguments);
        trainerd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = trainerd.spawn().map_err(failed)?;
        std::thread::sleep(after);
        if child.try_wait().map_err(failed)?.is_some() {
            return Ok(false);
        }
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        Ok(true)
    }

    /// Runs trainerd without a word; whether it succeeded.
    pub(crate) fn succeeds(&self, arguments: &[&str]) -> Result<bool, Error> {
        match command::run(&mut self.trainerd(arguments)) {
            Ok(_) => Ok(true),
            Err(command::Error::Failed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What trainerd prints as JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value, Error> {
        let text = foreground::run_for_data(self.trainerd(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&text).map_err(|source| Error::Answer { program: "trainerd", source })
    }

    /// kubectl with these arguments.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.kubectl);
        if self.own {
            // Beside the kubeconfig, and gone with the cluster: the next one has the same address.
            let folder = Path::new(&self.kubeconfig).with_file_name("kubectl-cache");
            command.arg("--cache-dir").arg(folder);
        }
        command.args(arguments);
        command
    }

    /// Runs kubectl without a word.
    pub(crate) fn kubectl_run(&self, arguments: &[&str]) -> Result<(), Error> {
        command::run(&mut self.kubectl(arguments))?;
        Ok(())
    }

    /// As [`kubectl_run`](Self::kubectl_run), with that on its standard input.
    pub(crate) fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<(), Error> {
        let failed = |source: io::Error| command::Error::Start { program: "kubectl".to_owned(), source };
        let mut kubectl = self.kubectl(arguments);
        kubectl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = command::tail(&String::from_utf8_lossy(&output.stderr), 5);
        let command = format!("kubectl {}", arguments.join(" "));
        Err(command::Error::Failed { command, status: output.status, stderr }.into())
    }

    /// What `kubectl get …` finds.
    pub(crate) fn get(&self, arguments: &[&str]) -> Result<Value, Error> {
        let output = command::run(self.kubectl(&["get"]).args(arguments).args(["-o", "json"]))?;
        serde_json::from_slice(&output.stdout).map_err(|source| Error::Answer { program: "kubectl", source })
    }

    /// Whether the cluster can run pods.
    pub(crate) fn has_node(&self) -> Result<bool, Error> {
        Ok(self.get(&["nodes"])?["items"].as_array().is_some_and(|nodes| !nodes.is_empty()))
    }

    /// A program on the cluster.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig);
        if self.own {
            // It is on this machine: no proxy leads there.
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().to_uppercase().ends_with("_PROXY") {
                    command.env_remove(&name);
                }
            }
        }
        command
    }
}
