//! The daemon in the cluster: it takes over the installation and repairs what somebody deletes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Error;
use super::look;
use super::scenario::{INSTALLATION, TIMEOUT};
use super::scene::Scene;
use crate::foreground::check_interrupted;
use crate::steps::Steps;

/// How long the daemon may take for anything here.
const BOUND: Duration = Duration::from_mins(3);
/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(300);
/// The object that is deleted.
const VICTIM: &str = "jobset-controller-manager";

/// Installs the daemon, deletes an object, changes an option, and removes the daemon.
pub(super) fn play(scene: &Scene, revision: u64, steps: &mut Steps) -> Result<(), Error> {
    steps.take("install the daemon in the cluster", || {
        scene.run(&["bootstrap", "--yes", "--timeout", TIMEOUT])?;
        let status = until(scene, "become ready", |status| daemon_of(status)["phase"] == "ready")?;
        if status["revision"] != revision {
            return Err(Error::Broken(format!("revision {}, not {revision}", status["revision"])));
        }
        let version = daemon_of(&status)["version"].as_str().unwrap_or_default().to_owned();
        Ok(((), format!("trainerd {version} found revision {revision} up to date and changed nothing")))
    })?;

    steps.take("delete a controller's Deployment", || {
        let deployment = ["deployment", VICTIM, "--namespace", INSTALLATION];
        let before = scene.get(&deployment)?["metadata"]["uid"].clone();
        scene.kubectl_run(&[&["delete", "--wait=false"], &deployment[..]].concat())?;
        let began = Instant::now();
        until(scene, "repair it", |status| {
            let list = scene.get(&["deployments", "--namespace", INSTALLATION]).unwrap_or_default();
            let back = list["items"].as_array().is_some_and(|items| {
                items
                    .iter()
                    .any(|item| item["metadata"]["name"] == VICTIM && item["metadata"]["uid"] != before)
            });
            let available = look::controllers(&list).iter().all(|controller| controller.is_available);
            back && available && daemon_of(status)["phase"] == "ready"
        })?;
        let seconds = began.elapsed().as_secs_f32();
        Ok::<_, Error>(((), format!("{VICTIM} was restored and available after {seconds:.1} s")))
    })?;

    steps.take("change an option in the ConfigMap", || {
        let patch = r#"{"data":{"runtimes":"torch-distributed"}}"#;
        let map = ["configmap", "trainerd-options", "--namespace", INSTALLATION, "--patch", patch];
        scene.kubectl_run(&[&["patch"], &map[..]].concat())?;
        let next = revision + 1;
        until(scene, "apply the option", |status| {
            status["revision"] == next && daemon_of(status)["phase"] == "ready"
        })?;
        let runtimes = scene.get(&["clustertrainingruntimes"])?;
        let left = runtimes["items"].as_array().map_or(0, Vec::len);
        if left != 1 {
            return Err(Error::Broken(format!("{left} training runtimes, not 1")));
        }
        Ok(((), format!("revision {next} has one training runtime")))
    })?;

    steps.take("remove the daemon", || {
        scene.run(&["bootstrap", "--remove", "--yes", "--timeout", TIMEOUT])?;
        let status = scene.ask(&["status"])?;
        if status["ready"] != true || !status["daemon"].is_null() || !status["ruler"].is_null() {
            return Err(Error::Broken(format!("{status}")));
        }
        Ok(((), "the stack stays, and the command line manages it again".to_owned()))
    })
}

/// What the daemon says, of what `status` prints.
fn daemon_of(status: &Value) -> &Value {
    &status["daemon"]["says"]
}

/// Waits until `trainerd status` tells what is waited for.
fn until(scene: &Scene, what: &'static str, done: impl Fn(&Value) -> bool) -> Result<Value, Error> {
    let start = Instant::now();
    loop {
        let status = scene.ask(&["status"])?;
        if done(&status) {
            return Ok(status);
        }
        check_interrupted()?;
        if start.elapsed() > BOUND {
            let seconds = BOUND.as_secs();
            return Err(Error::Broken(format!(
                "the daemon did not {what} within {seconds} s; it says {}",
                status["daemon"]
            )));
        }
        sleep(INTERVAL);
    }
}
