//! Running one example: applied, followed to its end, its logs shown and kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Error;
use super::check::check;
use super::table::{Act, Example};
use crate::command;
use crate::demo::Scene;
use crate::demo::look::restarts;
use crate::foreground::check_interrupted;
use crate::terminal::say;

/// Namespace of the TrainJobs.
pub(super) const NAMESPACE: &str = "trainerd-examples";
/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(700);
/// How long an example may take.
const BOUND: Duration = Duration::from_mins(5);
/// Upstream's webhook looks for a runtime in a cache, which may not have what was created a moment ago.
const TRIES: u8 = 10;

/// An example that ran as it should.
#[derive(Debug)]
pub(super) struct Ran {
    /// From its creation until it was seen Complete.
    pub(super) took: Duration,
    /// What was seen in its logs.
    pub(super) saw: String,
}

/// Runs an example of that folder, and takes it away again where it went well.
pub(super) fn run(scene: &Scene, folder: &Path, example: &Example) -> Result<Ran, Error> {
    let folder = folder.join(example.name).display().to_string();
    let on = ["--namespace", NAMESPACE];
    remove(scene, &folder, example)?;
    let start = Instant::now();
    apply(scene, &[&["apply", "--kustomize", &folder][..], &on].concat())?;
    let (logs, acted) = Follow::new(scene, example).until_complete()?;
    let took = start.elapsed();
    let mut saw =
        check(&example.expect, &logs).map_err(|why| Error::NotSeen(format!("what it should: {why}")))?;
    if !example.expect.command.is_empty() {
        saw = format!("{saw}, {}", command_of_nodes(scene, example)?);
    }
    if let Some(act) = &example.act {
        if !acted {
            return Err(Error::NotSeen(format!(
                "its log say {:?}, when {} is deleted",
                act.when.trim(),
                act.pod
            )));
        }
        saw = format!("{saw}, {} deleted meanwhile", act.pod);
    }
    remove(scene, &folder, example)?;
    Ok(Ran { took, saw })
}

/// Follows an example that lacks something as far as its pods, and takes it away again; what was seen.
pub(super) fn start(scene: &Scene, folder: &Path, example: &Example) -> Result<String, Error> {
    let folder = folder.join(example.name).display().to_string();
    let on = ["--namespace", NAMESPACE];
    remove(scene, &folder, example)?;
    apply(scene, &[&["apply", "--kustomize", &folder][..], &on].concat())?;
    let mut follow = Follow::new(scene, example);
    let start = Instant::now();
    while follow.pods.is_empty() {
        check_interrupted()?;
        if start.elapsed() > BOUND {
            let bound = BOUND.as_secs();
            return Err(Error::NotSeen(format!("a pod of TrainJob {} within {bound} s", follow.job)));
        }
        sleep(INTERVAL);
        follow.look()?;
    }
    let saw = command_of_nodes(scene, example)?;
    remove(scene, &folder, example)?;
    Ok(format!("as far as its pods; {saw}"))
}

/// Looks at what the controller makes the nodes of an example run.
fn command_of_nodes(scene: &Scene, example: &Example) -> Result<String, Error> {
    let job_set = scene.get(&["jobset", &job_name(example), "--namespace", NAMESPACE])?;
    let (command, wanted) = (node_command(&job_set), example.expect.command);
    if !command.iter().map(String::as_str).take(wanted.len()).eq(wanted.iter().copied()) {
        return Err(Error::NotSeen(format!("its nodes run {wanted:?}, but {command:?}")));
    }
    Ok(format!("its nodes run `{}`", wanted.join(" ")))
}

fn job_name(example: &Example) -> String {
    format!("{}-example", example.name)
}

/// The command of the first container of a JobSet's nodes, its arguments included.
fn node_command(job_set: &Value) -> Vec<String> {
    let jobs = job_set["spec"]["replicatedJobs"].as_array().into_iter().flatten();
    let container = jobs
        .filter(|job| job["name"] == "node")
        .map(|job| &job["template"]["spec"]["template"]["spec"]["containers"][0])
        .next();
    let words =
        |field: &str| container.and_then(|container| container[field].as_array()).into_iter().flatten();
    words("command").chain(words("args")).filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Takes an example away and waits until its pods are gone.
///
/// Not with a foreground deletion: upstream's webhook refuses every update of a TrainJob whose runtime is gone, the
/// garbage collector's removal of the finalizer too.
fn remove(scene: &Scene, folder: &str, example: &Example) -> Result<(), Error> {
    let on = ["--namespace", NAMESPACE];
    scene.kubectl_run(&[&["delete", "--ignore-not-found", "--kustomize", folder][..], &on].concat())?;
    let name = example.name;
    let start = Instant::now();
    // Those of the TrainJob, of its data cache, and of what the example has beside it.
    for selector in [
        format!("jobset.sigs.k8s.io/jobset-name={name}-example"),
        format!("leaderworkerset.sigs.k8s.io/name={name}-example-cache"),
        format!("app={name}-store"),
    ] {
        until_gone(scene, example, &selector, start)?;
    }
    Ok(())
}

fn until_gone(scene: &Scene, example: &Example, selector: &str, start: Instant) -> Result<(), Error> {
    loop {
        let left = scene.get(&["pods", "--namespace", NAMESPACE, "--selector", selector])?;
        if left["items"].as_array().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        check_interrupted()?;
        if start.elapsed() > BOUND {
            let bound = BOUND.as_secs();
            return Err(Error::NotSeen(format!("the pods of {} gone within {bound} s", example.name)));
        }
        sleep(INTERVAL);
    }
}

/// Applies, again where a webhook has not seen yet what came with it.
pub(super) fn apply(scene: &Scene, arguments: &[&str]) -> Result<(), Error> {
    for _ in 1..TRIES {
        match command::run(&mut scene.kubectl(arguments)) {
            Err(command::Error::Failed { stderr, .. }) if stderr.contains("must be created before") => {
                check_interrupted()?;
                sleep(INTERVAL);
            }
            other => return Ok(other.map(|_| ())?),
        }
    }
    Ok(scene.kubectl_run(arguments)?)
}

/// Follows a TrainJob.
struct Follow<'a> {
    scene: &'a Scene,
    job: String,
    /// What is still to be done to it.
    act: Option<&'a Act>,
    /// What was told of each pod, and its logs so far.
    pods: BTreeMap<String, Seen>,
}

#[derive(Default)]
struct Seen {
    state: String,
    /// How often its containers were started again; the log is that of the last start.
    restarts: u64,
    log: String,
}

impl<'a> Follow<'a> {
    fn new(scene: &'a Scene, example: &'a Example) -> Self {
        Self { scene, job: job_name(example), act: example.act.as_ref(), pods: BTreeMap::new() }
    }

    /// Waits until it is Complete and returns the logs of its pods, and whether all was done to it.
    fn until_complete(mut self) -> Result<(Vec<String>, bool), Error> {
        let start = Instant::now();
        loop {
            // First the job, then the logs: those of a job that is Complete are whole.
            let job = self.scene.get(&["trainjob", &self.job, "--namespace", NAMESPACE])?;
            self.look()?;
            match ended(&job) {
                Some(Ok(())) => {
                    let logs = self.pods.into_values().map(|seen| seen.log);
                    return Ok((logs.collect(), self.act.is_none()));
                }
                Some(Err(why)) => {
                    return Err(Error::NotSeen(format!("TrainJob {} Complete: {why}", self.job)));
                }
                None => {}
            }
            self.trigger_action()?;
            check_interrupted()?;
            if start.elapsed() > BOUND {
                let states: Vec<_> =
                    self.pods.iter().map(|(pod, seen)| format!("{pod} {}", seen.state)).collect();
                let (job, bound) = (&self.job, BOUND.as_secs());
                let pods = if states.is_empty() { "none".to_owned() } else { states.join(", ") };
                return Err(Error::NotSeen(format!(
                    "TrainJob {job} Complete within {bound} s; its pods: {pods}"
                )));
            }
            sleep(INTERVAL);
        }
    }

    /// Does what is to be done to it, once its log says that the time has come.
    fn trigger_action(&mut self) -> Result<(), Error> {
        let is_time = |act: &&Act| self.pods.values().any(|seen| seen.log.contains(act.when));
        let Some(act) = self.act.filter(is_time) else { return Ok(()) };
        say(format_args!("    deleting {} with grace period 0", act.pod));
        let how = ["--namespace", NAMESPACE, "--grace-period", "0", "--force", "--wait=false"];
        self.scene.kubectl_run(&[&["delete", "pod", act.pod][..], &how].concat())?;
        self.act = None;
        Ok(())
    }

    /// Says what is new of its pods.
    fn look(&mut self) -> Result<(), Error> {
        let selector = format!("jobset.sigs.k8s.io/jobset-name={}", self.job);
        let list = self.scene.get(&["pods", "--namespace", NAMESPACE, "--selector", &selector])?;
        for pod in list["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let state = state(pod);
            let seen = self.pods.entry(name.to_owned()).or_default();
            if seen.state != state {
                say(format_args!("    {name}: {state}"));
                seen.state.clone_from(&state);
            }
            let restarts = restarts(pod);
            if restarts > seen.restarts {
                say(format_args!("    {name}: restarted"));
                (seen.restarts, seen.log) = (restarts, String::new());
            }
            let arguments = ["logs", name, "--namespace", NAMESPACE, "--all-containers"];
            // A pod whose containers have not started has none, and one may go between the two requests.
            let Ok(output) = command::run(&mut self.scene.kubectl(&arguments)) else { continue };
            let log = String::from_utf8_lossy(&output.stdout).into_owned();
            for line in log.lines().skip(seen.log.lines().count()) {
                say(format_args!("    {name} | {line}"));
            }
            if log.len() > seen.log.len() {
                seen.log = log;
            }
        }
        Ok(())
    }
}

/// How a TrainJob ended, `None` where it has not.
pub(super) fn ended(job: &Value) -> Option<Result<(), String>> {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|condition| condition["status"] == "True").find_map(|condition| match condition["type"]
        .as_str()
    {
        Some("Complete") => Some(Ok(())),
        Some("Failed") => Some(Err(condition["message"].as_str().unwrap_or_default().to_owned())),
        _ => None,
    })
}

/// A pod's phase, and why a container of it waits.
fn state(pod: &Value) -> String {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let mut containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let waits = containers.find_map(|container| container["state"]["waiting"]["reason"].as_str());
    match waits {
        Some(reason) if phase == "Pending" => format!("{phase} ({reason})"),
        _ => phase.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_has_ended_when_a_condition_says_so() {
        let job = |kind: &str, status: &str| {
            json!({"status": {"conditions": [
                {"type": "Suspended", "status": "False"},
                {"type": kind, "status": status, "message": "why"},
            ]}})
        };
        assert_eq!(ended(&job("Complete", "True")), Some(Ok(())));
        assert_eq!(ended(&job("Failed", "True")), Some(Err("why".to_owned())));
        assert_eq!(ended(&job("Complete", "False")), None);
        assert_eq!(ended(&json!({})), None);
    }
}
