//! TrainJobs that do not run: `trainerd status` must say of each why.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Error;
use super::run::{NAMESPACE, apply};
use crate::demo::Scene;
use crate::foreground::check_interrupted;
use crate::terminal::say;

/// Name of the folder in examples/.
pub(super) const FOLDER: &str = "troubles";
/// How long it may take until all is told: a container has to run out of memory, an image has to be missed.
const BOUND: Duration = Duration::from_mins(2);
const INTERVAL: Duration = Duration::from_secs(1);

/// The TrainJobs, and what must be said of each.
const TROUBLES: [(&str, &str); 4] = [
    ("typo-example", "exec: \"pyhton3\": executable file not found"),
    ("no-image-example", "localhost/trainer/nobody-made-this:v1"),
    ("too-large-example", "Insufficient cpu"),
    ("out-of-memory-example", "OOMKilled (exit code 137)"),
];

/// Makes them, waits until `trainerd status` has said of each why it does not run, and takes them away again.
pub(super) fn run(scene: &Scene, folder: &Path) -> Result<String, Error> {
    say("\n==> TrainJobs that do not run");
    let folder = folder.join(FOLDER).display().to_string();
    let on = ["--namespace", NAMESPACE];
    apply(scene, &[&["apply", "--kustomize", &folder][..], &on].concat())?;
    let start = Instant::now();
    let mut left = TROUBLES.to_vec();
    let mut last = Value::Null;
    while !left.is_empty() {
        check_interrupted()?;
        if start.elapsed() > BOUND {
            let (name, what) = left[0];
            return Err(Error::NotSeen(format!("`trainerd status` say of {name}: {what}; it says {last}")));
        }
        sleep(INTERVAL);
        last = scene.ask(&["status"])?["trainJobs"]["unfinished"].take();
        // A container that is started again is said to start for a moment: said once is enough.
        left.retain(|(name, what)| match why(&last, name) {
            Some(why) if why.contains(what) => {
                say(format_args!("    {name}: {why}"));
                false
            }
            _ => true,
        });
    }
    scene.kubectl_run(&[&["delete", "--ignore-not-found", "--kustomize", &folder][..], &on].concat())?;
    Ok(format!("status says why {} TrainJobs do not run", TROUBLES.len()))
}

/// What is said of a TrainJob of the examples' namespace.
fn why<'a>(jobs: &'a Value, name: &str) -> Option<&'a str> {
    let mut jobs = jobs.as_array()?.iter();
    jobs.find(|job| job["namespace"] == NAMESPACE && job["name"] == name)?["why"].as_str()
}
