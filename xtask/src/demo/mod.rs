//! `cargo xtask demo`: everything that trainerd does, shown step by step on a real node.

mod daemon;
mod error;
mod job;
pub(crate) mod look;
mod scenario;
mod scene;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;

pub use error::Error;
pub(crate) use scenario::{check_nothing_is_there, clear, play, ready};
pub(crate) use scene::Scene;

use crate::cargo;
use crate::cli::Failure;
use crate::cluster::{self, Folder, Name, Parts, Profile, Request, parts};
use crate::foreground::watch_signals;
use crate::home::Home;
use crate::image::product;
use crate::steps::Steps;
use crate::terminal::{print, say};

/// Commands that remove the demo from a cluster that is kept.
const CLEARING: [&str; 2] = ["`kubectl delete namespace trainerd-demo`", "`trainerd remove --purge`"];

/// The arguments of `cargo xtask demo`.
#[derive(Args)]
pub struct Arguments {
    /// Name of the demo's own cluster, which is created again
    ///
    /// With TRAINERD_BIN in the environment the demo shows that program instead of building one.
    #[arg(long, value_name = "NAME", default_value = "demo")]
    cluster: Name,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    watch_signals().map_err(Failure::of)?;
    let name = &arguments.cluster;
    // After a demo people export the KUBECONFIG of its own cluster: that is no other one.
    let own = Folder::of(&home, name).kubeconfig();
    let given = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty() && *value != own);
    announce(name, given.as_deref());

    let mut steps = Steps::default();
    let scene = match prepare(&home, name, given, &mut steps) {
        Ok(scene) => scene,
        Err(error) => {
            print(format_args!("\n{}", steps.table()));
            return Err(failure(error));
        }
    };
    let played = play(&scene, &mut steps);
    print(format_args!("\n{}", steps.table()));
    say(if played.is_ok() {
        "Everything passed. To look around:"
    } else {
        "The cluster was left as it was when the step failed. To look around:"
    });
    say(next_steps(&scene, name));
    played.map_err(failure)
}

fn failure(error: Error) -> Failure {
    Failure { hint: error.hint(), ..Failure::of(error) }
}

fn announce(cluster: &Name, given: Option<&OsStr>) {
    say("This demo");
    say("  * builds trainerd and kubectl, unless they are built already");
    match given {
        Some(kubeconfig) => say(format_args!(
            "  * uses the cluster of KUBECONFIG ({}), and stops if it already has an installation",
            kubeconfig.display()
        )),
        None => say(format_args!(
            "  * starts a one-node Kubernetes cluster, `{cluster}`, in its own network namespace. This needs root,\n    \
             installs missing Debian packages (containerd, runc, network plugins, iptables), and the first\n    \
             time builds Kubernetes and the controllers from source, which takes minutes"
        )),
    }
    say("  * installs the stack with Trainer 2.2.1 and runs a TrainJob");
    say("  * upgrades to Trainer 2.3.0 while a second TrainJob is running");
    say("  * rolls back and shows the history");
    if given.is_none() {
        say(
            "  * installs the daemon in the cluster, deletes a controller's Deployment, and waits until it is repaired",
        );
    }
}

fn prepare(home: &Home, name: &Name, given: Option<OsString>, steps: &mut Steps) -> Result<Scene, Error> {
    let trainerd = steps.take("build trainerd", || {
        let path = match std::env::var_os("TRAINERD_BIN") {
            Some(path) => path.into(),
            None => cargo::build_trainerd(home)?,
        };
        let note = path.display().to_string();
        Ok::<_, Error>((path, note))
    })?;
    match given {
        Some(kubeconfig) => steps.take("check the cluster of KUBECONFIG", || {
            let scene = Scene::on_given(kubeconfig, trainerd, kubectl(home)?);
            check_nothing_is_there(&scene)?;
            Ok((scene, "it has nothing that the demo creates".to_owned()))
        }),
        None => steps.take(&format!("start cluster {name}"), || {
            Ok((open(home, name, trainerd)?, "a node that runs pods".to_owned()))
        }),
    }
}

/// Starts a node that has nothing on it, in place of one that may be there from an earlier time.
pub(crate) fn open(home: &Home, name: &Name, trainerd: PathBuf) -> Result<Scene, Error> {
    if cluster::down(home, name)? {
        say(format_args!("removed an earlier cluster {name}"));
    }
    let request = Request { name: name.clone(), profile: Profile::Node, own_network: true };
    // Built first: what cannot be built is known before a cluster is there.
    let (image, _) = product::make(home, product::Profile::Dev, product::REFERENCE, None)?;
    let status = cluster::up(home, &request)?;
    cluster::load(home, name, &image)?;
    Ok(Scene::on_own(&status, trainerd, kubectl(home)?))
}

/// The path of kubectl, which is built first where that was not done yet.
pub(crate) fn kubectl(home: &Home) -> Result<PathBuf, cluster::Error> {
    Parts::find(home)?.path(&parts::KUBECTL)
}

fn next_steps(scene: &Scene, name: &Name) -> String {
    let (trainerd, kubectl) = (scene.trainerd.display(), scene.kubectl.display());
    let take_away =
        if scene.own { format!("`cargo xtask cluster down {name}`") } else { CLEARING.join(", ") };
    format!(
        "  export KUBECONFIG={}\n  {trainerd} status\n  {trainerd} diff 1 2\n  \
         {kubectl} get trainjobs,pods --all-namespaces\nTo clean up: {take_away}",
        scene.kubeconfig.display()
    )
}
