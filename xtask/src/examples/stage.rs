//! Where the examples run: an own cluster with the stack and the images they need, or the cluster of `KUBECONFIG`.

use std::ffi::OsString;
use std::path::PathBuf;

use super::run::NAMESPACE;
use super::table::Example;
use super::{Controller, Error, volume};
use crate::cluster::{self, Folder, Name, Profile, Request};
use crate::demo::{self, Scene};
use crate::home::Home;
use crate::image::{product, training};
use crate::terminal::say;
use crate::{cargo, files};

/// Bound of an installation.
pub(super) const TIMEOUT: &str = "10m";

/// The cluster that somebody keeps; not the own one, whose KUBECONFIG people export to look around.
pub(super) fn given(home: &Home, name: &Name) -> Option<OsString> {
    let own = Folder::of(home, name).kubeconfig();
    std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty() && *value != own)
}

/// The cluster of `KUBECONFIG`, which must have an installation.
pub(super) fn open_given(home: &Home, kubeconfig: OsString) -> Result<Scene, Error> {
    let scene = Scene::on_given(kubeconfig, trainerd(home)?, demo::kubectl(home)?);
    if scene.succeeds(&["history"])? { Ok(scene) } else { Err(Error::NotInstalled) }
}

/// The own cluster, started where it does not run.
pub(super) fn open(home: &Home, name: &Name) -> Result<Scene, Error> {
    let trainerd = trainerd(home)?;
    let request = Request { name: name.clone(), profile: Profile::Node, own_network: true };
    let status = cluster::up(home, &request)?;
    Ok(Scene::on_own(&status, trainerd, demo::kubectl(home)?))
}

fn trainerd(home: &Home) -> Result<PathBuf, Error> {
    Ok(match std::env::var_os("TRAINERD_BIN") {
        Some(path) => path.into(),
        None => cargo::build_trainerd(home)?,
    })
}

/// Installs the stack with that controller, and runtimes that run on images of this checkout.
pub(super) fn install(
    home: &Home,
    scene: &Scene,
    controller: Controller,
    chosen: &[&Example],
) -> Result<(), Error> {
    install_version(home, scene, controller, chosen, None)
}

/// As [`install`], with that version of the Trainer, or the newest.
pub(super) fn install_version(
    home: &Home,
    scene: &Scene,
    controller: Controller,
    chosen: &[&Example],
    version: Option<&str>,
) -> Result<(), Error> {
    let runtimes: Vec<&str> = chosen.iter().filter_map(|example| example.runtime).collect();
    let runtimes = if runtimes.is_empty() { "none".to_owned() } else { runtimes.join(",") };
    let mut images = Vec::new();
    for name in training::names(home)? {
        let recipe = training::recipe(home, &name)?;
        images.extend(recipe.runtimes().iter().map(|runtime| format!("{runtime}={}", recipe.reference())));
    }
    // Whoever needs an image of ours runs on nodes that have it, and no other.
    let native = |name: &str| {
        let is_needed =
            chosen.iter().flat_map(|example| example.programs).any(|program| program.contains(name));
        if is_needed { "native" } else { "upstream" }
    };
    let mut options = vec![
        format!("data-cache={}", native("data-cache") == "native"),
        format!("data-cache-server={}", native("data-cache")),
        format!("initializers={}", native("initializer")),
        "small-footprint=true".to_owned(),
        "settle=0".to_owned(),
        format!("reconciler={}", controller.option()),
        format!("runtimes={runtimes}"),
        format!("runtime-images={}", images.join(",")),
    ];
    options.extend(version.map(|version| format!("trainer-version={version}")));
    let mut arguments = vec!["up", "--yes", "--timeout", TIMEOUT];
    for option in &options {
        arguments.extend(["--set", option]);
    }
    Ok(scene.run(&arguments)?)
}

/// Loads what an example runs on into the own node; the image's name and size.
pub(super) fn load(
    home: &Home,
    scene: &Scene,
    name: &Name,
    example: &Example,
) -> Result<Option<String>, Error> {
    let recipe = training::recipe(home, example.image)?;
    if let Some(difference) = recipe.difference() {
        say(format_args!("    image {recipe}: {difference}"));
    }
    // Written for this, and removed: the cache keeps its layers, and the node its own copy.
    let archive = Folder::of(home, name).image_archive();
    for program in product::ALL.into_iter().filter(|product| example.programs.contains(&product.name)) {
        // A training waits for its cache: only that is worth an optimised build.
        let serves = program.name == "data-cache";
        let profile = if serves { product::Profile::Release } else { product::Profile::Dev };
        product::make_of(home, program, profile, program.reference, Some(&archive))?;
        let loaded = cluster::load(home, name, &archive);
        files::remove(&archive)?;
        loaded?;
    }
    for server in example.servers {
        cluster::load_part(home, name, server)?;
    }
    if let Some(claim) = example.claim {
        volume::provide(scene, &Folder::of(home, name), claim)?;
    }
    let made = training::make(home, &recipe, None, Some(&archive))?;
    let loaded = cluster::load(home, name, &archive);
    files::remove(&archive)?;
    loaded?;
    Ok(Some(format!("{}, {} MB", recipe.reference(), made.unpacked / 1_000_000)))
}

/// The image of the runtime that an example runs on; `None` where that is not installed.
pub(super) fn image_of(scene: &Scene, example: &Example) -> Result<Option<String>, Error> {
    let Some(runtime) = example.runtime else { return Ok(Some("its own".to_owned())) };
    let found = scene.get(&["clustertrainingruntimes"])?;
    let mut items = found["items"].as_array().into_iter().flatten();
    let Some(found) = items.find(|item| item["metadata"]["name"] == runtime) else { return Ok(None) };
    let jobs = found["spec"]["template"]["spec"]["replicatedJobs"].as_array().into_iter().flatten();
    let image = jobs.filter(|job| job["name"] == "node").find_map(|job| {
        job["template"]["spec"]["template"]["spec"]["containers"][0]["image"].as_str().map(str::to_owned)
    });
    Ok(Some(image.unwrap_or_default()))
}

/// Which controller an installation has.
pub(super) fn controller_of(scene: &Scene) -> Result<String, Error> {
    let list = scene.get(&["deployments", "--all-namespaces", "--selector", "trainerd.dev/installation"])?;
    let images = list["items"].as_array().into_iter().flatten().filter_map(|item| {
        item["spec"]["template"]["spec"]["containers"][0]["image"].as_str().map(str::to_owned)
    });
    let is_upstream = images.into_iter().any(|image| image.contains("trainer-controller-manager"));
    Ok(if is_upstream { Controller::Upstream } else { Controller::Native }.option().to_owned())
}

/// Makes the examples' namespace, where it is not there.
pub(super) fn make_namespace(scene: &Scene) -> Result<(), Error> {
    let found = scene.get(&["namespaces", "--field-selector", &format!("metadata.name={NAMESPACE}")])?;
    if found["items"].as_array().is_some_and(Vec::is_empty) {
        scene.kubectl_run(&["create", "namespace", NAMESPACE])?;
    }
    Ok(())
}

/// Loads trainerd's own image into the own node, for the native controller.
pub(super) fn load_trainerd(home: &Home, name: &Name) -> Result<(), Error> {
    let (image, _) = product::make(home, product::Profile::Dev, product::REFERENCE, None)?;
    Ok(cluster::load(home, name, &image)?)
}
