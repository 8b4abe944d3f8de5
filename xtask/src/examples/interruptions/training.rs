//! A training that is interrupted: submitted, looked at, and followed to its end by trainerd's own verbs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::Error;
use super::super::run::{NAMESPACE, ended};
use crate::command;
use crate::demo::Scene;
use crate::demo::look::restarts;
use crate::foreground::check_interrupted;
use crate::terminal::say;

/// The training runtime of the folder.
const RUNTIME: &str = "TrainingRuntime/interruptions-example";
/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(700);
/// How long anything may take: a node counts as lost a minute after it was heard of.
const BOUND: Duration = Duration::from_mins(4);

/// A TrainJob of one pod.
pub(super) struct Training<'a> {
    scene: &'a Scene,
    name: &'static str,
}

/// Its pod, as far as it tells an interruption.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pod {
    uid: String,
    restarts: u64,
}

impl<'a> Training<'a> {
    /// Submits one of so many epochs, which take a second each, and waits until the first is over.
    pub(super) fn begin(
        scene: &'a Scene,
        name: &'static str,
        epochs: u8,
        more: &[&str],
    ) -> Result<Self, Error> {
        say(format_args!("\n==> {name}"));
        let epochs = format!("EPOCHS={epochs}");
        let submit =
            ["trainjob", "submit", name, "--namespace", NAMESPACE, "--runtime", RUNTIME, "--env", &epochs];
        let training = Self { scene, name };
        // Upstream's webhook may not have seen the runtime yet.
        let arguments = [&submit[..], more].concat();
        training.until("be admitted", || Ok(scene.succeeds(&arguments)?.then_some(())))?;
        training.until("train", || Ok(training.log().contains("epoch=1 ").then_some(())))?;
        Ok(training)
    }

    /// Waits until `trainerd status` says that of it, and shows how it and `trainjob get` say it.
    pub(super) fn until_told(&self, what: &str) -> Result<(), Error> {
        let mut last = String::new();
        let told = self.until("be told", || {
            let jobs = self.scene.ask(&["status"])?["trainJobs"]["unfinished"].take();
            let mut jobs = jobs.as_array().into_iter().flatten();
            let own = jobs.find(|job| job["namespace"] == NAMESPACE && job["name"] == self.name);
            let own = own.unwrap_or(&Value::Null);
            let line = format!(
                "{}, {} of {} pods, {} restarts: {}",
                own["phase"].as_str().unwrap_or_default(),
                own["podsReady"],
                own["pods"],
                own["restarts"].as_u64().unwrap_or_default(),
                own["why"].as_str().unwrap_or("-")
            );
            if line != last {
                say(format_args!("    status: {line}"));
                last.clone_from(&line);
            }
            Ok(line.contains(what).then_some(()))
        });
        if told.is_err() {
            check_interrupted()?;
            return Err(Error::NotSeen(format!(
                "`trainerd status` say of {}: {what}; it says {last}",
                self.name
            )));
        }
        Ok(self.scene.run(&["trainjob", "get", self.name, "--namespace", NAMESPACE])?)
    }

    /// Waits until it is Complete and its log has that, takes it away, and says how long it took from there.
    pub(super) fn until_complete(self, log_has: &str) -> Result<Duration, Error> {
        let start = Instant::now();
        self.until("be Complete", || {
            let job = self.scene.get(&["trainjob", self.name, "--namespace", NAMESPACE])?;
            match ended(&job) {
                Some(Ok(())) => Ok(Some(())),
                Some(Err(why)) => Err(Error::NotSeen(format!("TrainJob {} Complete: {why}", self.name))),
                None => Ok(None),
            }
        })?;
        let took = start.elapsed();
        let log = self.log();
        if !log.contains(log_has) {
            return Err(Error::NotSeen(format!("the log of {} say {log_has:?}:\n{log}", self.name)));
        }
        let last = log.lines().next_back().unwrap_or_default();
        say(format_args!("    Complete; its log ends: {last}"));
        self.scene.run(&["trainjob", "delete", self.name, "--namespace", NAMESPACE, "--yes"])?;
        Ok(took)
    }

    /// Its pods.
    pub(super) fn pods(&self) -> Result<Vec<Pod>, Error> {
        let selector = format!("jobset.sigs.k8s.io/jobset-name={}", self.name);
        let list = self.scene.get(&["pods", "--namespace", NAMESPACE, "--selector", &selector])?;
        let pods = list["items"].as_array().into_iter().flatten().map(|pod| Pod {
            uid: pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            restarts: restarts(pod),
        });
        Ok(pods.collect())
    }

    /// Holds its pods against those from before: nothing that was done ended one.
    pub(super) fn went_on(&self, before: &[Pod]) -> Result<(), Error> {
        let now = self.pods()?;
        if now == before {
            return Ok(());
        }
        Err(Error::NotSeen(format!("the pods of {} go on: {before:?} became {now:?}", self.name)))
    }

    /// What its pod says; nothing while the kubelet cannot be asked.
    fn log(&self) -> String {
        let selector = format!("jobset.sigs.k8s.io/jobset-name={}", self.name);
        let arguments = ["logs", "--namespace", NAMESPACE, "--selector", &selector, "--tail", "-1"];
        let said = command::run(&mut self.scene.kubectl(&arguments));
        said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default()
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> Result<Option<()>, Error>) -> Result<(), Error> {
        let start = Instant::now();
        while done()?.is_none() {
            check_interrupted()?;
            if start.elapsed() > BOUND {
                let (name, bound) = (self.name, BOUND.as_secs());
                return Err(Error::NotSeen(format!("{name} {what} within {bound} s")));
            }
            sleep(INTERVAL);
        }
        Ok(())
    }
}
