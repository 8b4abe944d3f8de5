//! The node: what runs pods, next to a control plane.
//!
//! Root only, Linux only. Everything it makes carries the cluster's name or lies in its folder: the network
//! namespace, the control groups, mounts, sockets. [`clear`] finds them by that, whatever became of the
//! processes.

mod cgroup;
mod clear;
mod host;
mod kubelet;
mod name_service;
mod proxy;
mod runtime;

use std::path::PathBuf;
use std::time::Duration;

pub(super) use clear::{clear, end_pods, is_shim};

use super::certificates::Keys;
use super::control_plane::launch;
use super::parts::{KUBE_SCHEDULER, KUBECTL};
use super::probe::Probe;
use super::{Error, Folder, Parts, State, wait};
use crate::image::{self, catalog, oci};

/// Bounds for a machine that is busy with other things.
const NODE_BOUND: Duration = Duration::from_mins(2);
const NAME_SERVICE_BOUND: Duration = Duration::from_mins(2);

/// What can be done before anything is started: packages, programs, image archives.
pub(super) struct Prepared {
    host: host::Host,
    /// Image archives.
    archives: Vec<PathBuf>,
}

/// Installs what the machine lacks, builds what is not built, packs what is not packed.
pub(super) fn prepare(folder: &Folder, parts: &Parts) -> Result<Prepared, Error> {
    runtime::check_length(folder)?;
    let host = host::prepare()?;
    let archives = catalog::ALL.into_iter().map(|entry| archive(parts, entry)).collect::<Result<_, _>>()?;
    Ok(Prepared { host, archives })
}

/// Imports one more image into a node that runs, under its own references.
pub(super) fn import(folder: &Folder, archive: &std::path::Path) -> Result<(), Error> {
    runtime::import(folder, &host::prepare()?, &[archive.to_owned()])
}

/// As [`import`], of a part.
pub(super) fn import_part(
    folder: &Folder,
    parts: &Parts,
    entry: &'static catalog::Entry,
) -> Result<(), Error> {
    import(folder, &archive(parts, entry)?)
}

/// The archive of an image, from the cache where it was packed before.
fn archive(parts: &Parts, entry: &'static catalog::Entry) -> Result<PathBuf, Error> {
    let program = parts.path(entry.part)?;
    let path = parts.archives().join(format!("{}.tar", entry.key(&program)));
    if !path.is_file() {
        let image = oci::Image {
            references: entry.references,
            programs: vec![(entry.program, program)],
            entrypoint: &[entry.program],
        };
        image::oci::write(&image, &path)?;
    }
    Ok(path)
}

/// Starts the node and waits until it is Ready and names are resolved in it.
pub(super) fn start(
    folder: &Folder,
    state: &mut State,
    parts: &Parts,
    keys: &Keys,
    prepared: &Prepared,
) -> Result<(), Error> {
    let probe = Probe::new(state, keys)?;
    cgroup::make(&state.name)?;
    runtime::start(folder, state, &prepared.host)?;
    // The sandbox's image must be there before the first pod; the others only before theirs. All of them
    // now: a pod that finds no image would try to pull it, and wait ever longer between its tries.
    runtime::import(folder, &prepared.host, &prepared.archives)?;

    launch(folder, state, parts, &KUBE_SCHEDULER, scheduler_arguments(folder))?;
    proxy::start(folder, state, parts, &prepared.host)?;
    let kubelet = kubelet::start(folder, state, parts, &prepared.host)?;
    name_service::apply(folder, &parts.path(&KUBECTL)?)?;

    let node = format!("/api/v1/nodes/{}", state.name);
    wait::until(folder, &kubelet, "the node to be Ready", NODE_BOUND, || {
        probe.get(&node).is_some_and(|node| condition(&node, "Ready"))
    })?;
    wait::until(folder, &kubelet, "the name service to be Available", NAME_SERVICE_BOUND, || {
        probe.get(name_service::DEPLOYMENT).is_some_and(|deployment| condition(&deployment, "Available"))
    })
}

/// Stops the kubelet of a node that runs: its pods continue, and the cluster takes the node for lost a minute later.
pub(super) fn stop_kubelet(folder: &Folder) -> Result<(), Error> {
    kubelet::stop(folder)
}

/// Starts the kubelet of a node that had one.
pub(super) fn start_kubelet(folder: &Folder, state: &State, parts: &Parts) -> Result<(), Error> {
    kubelet::start_again(folder, state, parts, &host::prepare()?)
}

/// Restarts the node as its machine would without its power: every pod of it ends at once, and is started again.
pub(super) fn reboot(folder: &Folder, state: &State, parts: &Parts) -> Result<(), Error> {
    let host = host::prepare()?;
    kubelet::stop(folder)?;
    runtime::stop(folder)?;
    clear::lose_pods(folder, &state.name)?;
    runtime::start_again(folder, state, &host)?;
    kubelet::start_again(folder, state, parts, &host)
}

fn scheduler_arguments(folder: &Folder) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", folder.join("pki/scheduler.conf").display()),
        "--leader-elect=false".into(),
        "--bind-address=127.0.0.1".into(),
        "--secure-port=0".into(),
    ]
}

/// Whether an object's status has the condition with status True.
fn condition(object: &serde_json::Value, kind: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == "True"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_count_only_when_true() {
        let node = |status| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert!(condition(&node("True"), "Ready"));
        assert!(!condition(&node("Unknown"), "Ready"));
        assert!(!condition(&node("True"), "Available"));
        assert!(!condition(&json!({}), "Ready"));
    }
}
