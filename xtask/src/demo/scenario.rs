//! What the demo shows, step by step, each held against what the cluster itself says.

use std::time::Duration;

use super::Error;
use super::daemon;
use super::job::{Job, NAMESPACE};
use super::look::{self, Progress};
use super::scene::Scene;
use crate::steps::Steps;

/// Namespace of the installation, trainerd's default.
pub(super) const INSTALLATION: &str = "kubeflow-system";
/// Bound of one command of trainerd.
pub(super) const TIMEOUT: &str = "15m";
/// Time of the first TrainJob.
const SHORT: Duration = Duration::from_secs(3);
/// Time of the second TrainJob: an upgrade takes about 20 s, and more on a busy machine.
const LONG: Duration = Duration::from_secs(75);
/// The same where the new images have to be fetched first.
const LONG_ELSEWHERE: Duration = Duration::from_mins(4);

const FROM: &str = "2.2.1";
const TO: &str = "2.3.0";

/// Runs the whole scenario on a cluster that has nothing of it yet.
pub(crate) fn play(scene: &Scene, steps: &mut Steps) -> Result<(), Error> {
    steps.take(&format!("install the stack with Trainer {FROM}"), || {
        let version = format!("trainer-version={FROM}");
        let options = ["--set", "small-footprint=true", "--set", &version];
        scene.run(&[&["up", "--yes", "--timeout", TIMEOUT][..], &options].concat())?;
        Ok::<_, Error>(((), ready(scene, 1, FROM)?))
    })?;

    steps.take("run a TrainJob", || {
        scene.kubectl_run(&["create", "namespace", NAMESPACE])?;
        Job::submit(scene, "first", SHORT)?.until_complete()?;
        Ok::<_, Error>(((), "TrainJob first is Complete".to_owned()))
    })?;

    let time = if scene.own { LONG } else { LONG_ELSEWHERE };
    let (job, before) = steps.take(&format!("start a TrainJob of {} s", time.as_secs()), || {
        let job = Job::submit(scene, "second", time)?;
        let pod = job.until_running()?;
        let note = format!("TrainJob second is running in pod {}", pod.name);
        Ok::<_, Error>(((job, pod), note))
    })?;

    steps.take(&format!("upgrade to Trainer {TO} while it runs"), || {
        let to = format!("trainer={TO}");
        scene.run(&["upgrade", "--to", &to, "--yes", "--timeout", TIMEOUT])?;
        Ok::<_, Error>(((), ready(scene, 2, TO)?))
    })?;

    steps.take("check the TrainJob after the upgrade", || {
        let went_on = |when: &str| match job.pods()?.as_slice() {
            [now] if before.is_unchanged_from(now) => Ok(now.phase.clone()),
            pods => Err(Error::Broken(format!("{when}, pod {before:?} had become {pods:?}"))),
        };
        let phase = went_on("after the upgrade")?;
        job.until_complete()?;
        went_on("at the end")?;
        let saw = if phase == "Running" { "ran through the upgrade" } else { "ended during the upgrade" };
        let note = format!("{} {saw} (same uid, no restart); TrainJob second is Complete", before.name);
        Ok::<_, Error>(((), note))
    })?;

    steps.take("roll back to revision 1", || {
        scene.run(&["rollback", "1", "--allow", "lossy", "--yes", "--timeout", TIMEOUT])?;
        let note = ready(scene, 3, FROM)?;
        if job.progress()? != Progress::Complete {
            return Err(Error::Broken("TrainJob second is no longer Complete".to_owned()));
        }
        Ok(((), note))
    })?;

    steps.take("show the history and the status", || {
        scene.run(&["history"])?;
        scene.run(&["status"])?;
        let found = look::revisions(&scene.ask(&["history"])?);
        let told = ["1 install deployed", "2 upgrade deployed", "3 rollback deployed"];
        if found != told {
            return Err(Error::Broken(format!("revisions {found:?}, not {told:?}")));
        }
        Ok(((), found.join(", ")))
    })?;

    // Nodes that are not ours do not have the daemon's image.
    if scene.own { daemon::play(scene, 3, steps) } else { Ok(()) }
}

/// Holds trainerd's word against the Deployments themselves, and says what they run.
pub(crate) fn ready(scene: &Scene, revision: u64, trainer: &str) -> Result<String, Error> {
    let status = scene.ask(&["status"])?;
    if status["ready"] != true || status["revision"] != revision {
        let (found, ready) = (&status["revision"], &status["ready"]);
        return Err(Error::Broken(format!(
            "revision {found} with ready {ready}, not revision {revision} ready"
        )));
    }
    let selector = ["--selector", "trainerd.dev/installation"];
    let list = scene.get(&[&["deployments", "--namespace", INSTALLATION][..], &selector].concat())?;
    let controllers = look::controllers(&list);
    let wanted = format!("trainer-controller-manager:v{trainer}");
    if controllers.iter().any(|controller| !controller.is_available)
        || !controllers.iter().any(|controller| controller.image == wanted)
    {
        return Err(Error::Broken(format!("{controllers:?}, not {wanted} and all available")));
    }
    let images: Vec<_> = controllers.iter().map(|controller| controller.image.as_str()).collect();
    Ok(format!("revision {revision} is ready: {}", images.join(" ")))
}

/// Fails where the cluster has something that the scenario would create.
pub(crate) fn check_nothing_is_there(scene: &Scene) -> Result<(), Error> {
    if scene.succeeds(&["history"])? {
        return Err(Error::InTheWay("an installation of trainerd"));
    }
    let found = scene.get(&["namespaces", "--field-selector", &format!("metadata.name={NAMESPACE}")])?;
    if found["items"].as_array().is_none_or(|items| !items.is_empty()) {
        return Err(Error::InTheWay("a namespace trainerd-demo"));
    }
    Ok(())
}

/// Deletes what the scenario left, on a cluster that somebody keeps. Other people's jobs stay.
pub(crate) fn clear(scene: &Scene) -> Result<(), Error> {
    scene.kubectl_run(&["delete", "namespace", NAMESPACE, "--ignore-not-found"])?;
    scene.run(&["remove", "--purge", "--yes", "--timeout", TIMEOUT])
}
