//! Trainings that are interrupted, by what happens in a cluster and by what people do to the stack: `trainerd status` must
//! say what it is, and each ends Complete.

mod preemption;
mod training;

use super::run::{NAMESPACE, apply};
use super::{Controller, Error, stage};
use crate::cluster::{self, Name};
use crate::demo::Scene;
use crate::home::Home;
use crate::terminal::say;
use training::Training;

/// Name of the folder in examples/.
pub(super) const FOLDER: &str = "interruptions";
/// The version that is upgraded, and the one it is upgraded to.
const VERSIONS: [&str; 2] = ["2.2.1", "2.3.0"];

/// Interrupts trainings on the own cluster; what was seen.
pub(super) fn run(home: &Home, scene: &Scene, name: &Name, controller: Controller) -> Result<String, Error> {
    say("\n==> trainings that are interrupted");
    stage::load(home, scene, name, super::table::plain())?;
    prepare(home, scene)?;
    let mut seen = vec![without_kubelet(home, scene, name)?, rebooted(home, scene, name)?, preempted(scene)?];
    // What people do to the stack is the same whichever controller comes after it.
    if controller == Controller::Upstream {
        seen.push(upgraded(home, scene)?);
        stage::load_trainerd(home, name)?;
        seen.push(switched(home, scene, Controller::Native)?);
        seen.push(switched(home, scene, Controller::Upstream)?);
    }
    scene.kubectl_run(&[
        "delete",
        "--ignore-not-found",
        "--kustomize",
        &folder(home),
        "--namespace",
        NAMESPACE,
    ])?;
    Ok(seen.join("; "))
}

fn folder(home: &Home) -> String {
    home.checkout().join("examples").join(FOLDER).display().to_string()
}

/// The namespace, and the training runtime in it.
fn prepare(home: &Home, scene: &Scene) -> Result<(), Error> {
    stage::make_namespace(scene)?;
    apply(scene, &["apply", "--kustomize", &folder(home), "--namespace", NAMESPACE])
}

/// The stack is upgraded meanwhile: the pod continues.
fn upgraded(home: &Home, scene: &Scene) -> Result<String, Error> {
    let [from, to] = VERSIONS;
    scene.kubectl_run(&["delete", "namespace", NAMESPACE, "--ignore-not-found"])?;
    scene.run(&["remove", "--purge", "--yes", "--timeout", stage::TIMEOUT])?;
    // It ends by itself, and nothing can be installed into it until then.
    scene.kubectl_run(&["wait", "--for", "delete", "namespace/kubeflow-system", "--timeout", "2m"])?;
    stage::install_version(home, scene, Controller::Upstream, &[], Some(from))?;
    prepare(home, scene)?;
    let training = Training::begin(scene, "upgraded-example", 60, &[])?;
    let before = training.pods()?;
    scene.run(&["upgrade", "--to", &format!("trainer={to}"), "--yes", "--timeout", stage::TIMEOUT])?;
    training.went_on(&before)?;
    training.until_complete("epoch=60 ")?;
    Ok(format!("upgrade {from} to {to}: its pod went on"))
}

/// Another controller takes over meanwhile: the pod continues.
fn switched(home: &Home, scene: &Scene, to: Controller) -> Result<String, Error> {
    let name = if to == Controller::Native { "to-native-example" } else { "to-upstream-example" };
    let training = Training::begin(scene, name, 45, &[])?;
    let before = training.pods()?;
    stage::install(home, scene, to, &[])?;
    training.went_on(&before)?;
    training.until_complete("epoch=45 ")?;
    Ok(format!("switch to {}: its pod went on", to.option()))
}

/// The kubelet is stopped until the node counts as lost, and started again: the pod continued all the time.
fn without_kubelet(home: &Home, scene: &Scene, name: &Name) -> Result<String, Error> {
    let training = Training::begin(scene, "kubelet-example", 30, &[])?;
    let before = training.pods()?;
    cluster::stop_kubelet(home, name)?;
    let told = training.until_told("is not ready: Kubelet stopped posting node status");
    // A cluster without it is none that anybody could continue with.
    cluster::start_kubelet(home, name)?;
    told?;
    training.went_on(&before)?;
    let took = training.until_complete("epoch=30 ")?;
    Ok(format!(
        "kubelet stopped: its pod went on, Complete {:.0} s after the kubelet was back",
        took.as_secs_f32()
    ))
}

/// The node is restarted: the container is started again in the same pod, and continues from its checkpoint.
fn rebooted(home: &Home, scene: &Scene, name: &Name) -> Result<String, Error> {
    let training = Training::begin(scene, "rebooted-example", 30, &[])?;
    cluster::reboot(home, name)?;
    training.until_told("running, 1 of 1 pods, 1 restarts")?;
    let took = training.until_complete("resumed=")?;
    Ok(format!("node restarted: resumed from its checkpoint, Complete {:.0} s later", took.as_secs_f32()))
}

/// A pod of a higher priority needs the room: another comes in the place of the preempted one once that has ended.
fn preempted(scene: &Scene) -> Result<String, Error> {
    // More than half of what is free: both do not fit.
    let asked = preemption::free(scene)? * 6 / 10;
    let resources = format!("cpu={asked}m");
    let training = Training::begin(scene, "preempted-example", 20, &["--resources", &resources])?;
    let before = training.pods()?;
    preemption::urgent(scene, asked, 20)?;
    training.until_told("PreemptionByScheduler")?;
    training.until_told("Insufficient cpu")?;
    if training.went_on(&before).is_ok() {
        return Err(Error::NotSeen("another pod in the place of the preempted one".to_owned()));
    }
    training.until_complete("epoch=20 ")?;
    preemption::clear(scene)?;
    Ok("pod preempted: another came in its place, Complete".to_owned())
}
