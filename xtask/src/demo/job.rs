//! The demo's TrainJobs.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Error;
use super::look::{self, Pod, Progress};
use super::scene::Scene;
use crate::foreground::check_interrupted;

/// Namespace of the TrainJobs, made by the demo.
pub(super) const NAMESPACE: &str = "trainerd-demo";

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a pod may take to run, or a job to be told complete after its time: on a cluster that somebody
/// keeps an image may have to be fetched.
const BOUND: Duration = Duration::from_mins(5);

/// A TrainJob of one pod that runs for a time and then ends well.
#[derive(Debug)]
pub(super) struct Job<'a> {
    scene: &'a Scene,
    name: &'static str,
    time: Duration,
}

impl<'a> Job<'a> {
    /// Creates it.
    pub(super) fn submit(scene: &'a Scene, name: &'static str, time: Duration) -> Result<Self, Error> {
        let manifest = manifest(name, time.as_secs(), scene.own);
        scene.kubectl_with(&["create", "--filename", "-"], &manifest.to_string())?;
        Ok(Self { scene, name, time })
    }

    /// Waits until its one pod runs, and returns that.
    pub(super) fn until_running(&self) -> Result<Pod, Error> {
        self.until("run", BOUND, || {
            let pods = self.pods()?;
            Ok(pods.into_iter().find(|pod| pod.phase == "Running"))
        })
    }

    /// Waits until it is complete.
    pub(super) fn until_complete(&self) -> Result<(), Error> {
        self.until("complete", BOUND + self.time, || match self.progress()? {
            Progress::Complete => Ok(Some(())),
            Progress::UnderWay => Ok(None),
            Progress::Failed(why) => Err(Error::JobFailed { name: self.name.to_owned(), why }),
        })
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Result<Progress, Error> {
        Ok(look::progress(&self.scene.get(&["trainjob", self.name, "--namespace", NAMESPACE])?))
    }

    /// Its pods.
    pub(super) fn pods(&self) -> Result<Vec<Pod>, Error> {
        let selector = format!("jobset.sigs.k8s.io/jobset-name={}", self.name);
        Ok(look::pods(&self.scene.get(&["pods", "--namespace", NAMESPACE, "--selector", &selector])?))
    }

    fn until<T>(
        &self,
        what: &'static str,
        bound: Duration,
        mut done: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        loop {
            if let Some(value) = done()? {
                return Ok(value);
            }
            check_interrupted()?;
            if start.elapsed() > bound {
                let told = |pod: &Pod| format!("{} {}", pod.name, pod.phase);
                let pods: Vec<_> = self.pods()?.iter().map(told).collect();
                let pods = if pods.is_empty() { "none".to_owned() } else { pods.join(", ") };
                let name = self.name.to_owned();
                return Err(Error::TimedOut { name, what, seconds: bound.as_secs(), pods });
            }
            sleep(INTERVAL);
        }
    }
}

/// On the demo's own node the runtimes' training image holds one program, which sleeps. Elsewhere the real one
/// would be gigabytes to fetch: a small image sleeps there.
fn manifest(name: &str, seconds: u64, own: bool) -> Value {
    let trainer = if own {
        json!({"numNodes": 1, "command": ["/sleep-train"], "args": [seconds.to_string()]})
    } else {
        let image = "docker.io/library/busybox:1.37";
        json!({"numNodes": 1, "image": image, "command": ["sleep"], "args": [seconds.to_string()]})
    };
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"runtimeRef": {"name": "torch-distributed"}, "trainer": trainer},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_exists_in_the_image() {
        let own = &manifest("a", 3, true)["spec"]["trainer"];
        assert_eq!(own["command"], json!(["/sleep-train"]));
        assert_eq!(own["args"], json!(["3"]));
        assert!(own.get("image").is_none(), "the runtime's own image is used");
        let given = &manifest("a", 3, false)["spec"]["trainer"];
        assert_eq!((&given["command"], &given["args"]), (&json!(["sleep"]), &json!(["3"])));
        assert!(given["image"].is_string());
    }
}
