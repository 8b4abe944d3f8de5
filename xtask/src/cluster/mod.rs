//! Real clusters on this machine: a control plane alone, or a whole node.
//!
//! A cluster is a folder under the cache root. Every process that runs for it has a pid file there with the
//! process's start time, and carries the folder's path in its environment, so that a later run finds even
//! what a killed run left behind, and never signals anything else.
//!
//! Locks: one a cluster for [`up`] and [`down`], one for the machine while ports and addresses are chosen.

pub mod cli;

mod certificates;
mod control_plane;
mod error;
mod folder;
mod kubeconfig;
mod name;
mod network;
mod node;
pub mod parts;
mod probe;
mod process;
mod state;
mod status;
mod stop;
mod wait;

pub use error::Error;
pub use folder::Folder;
pub use name::Name;
pub use parts::{Part, Parts};
pub use state::{Network, Profile, State};
pub use status::Status;

use std::path::Path;
use std::time::Instant;

use crate::files::Lock;
use crate::home::Home;
use crate::image::catalog::Entry;
use crate::terminal::say;

/// What a new cluster shall be.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its name on this machine.
    pub name: Name,
    /// What runs in it.
    pub profile: Profile,
    /// Run a control plane in a network namespace of its own, where webhooks can be reached on
    /// [`Network::host_address`]. A node always has one.
    pub own_network: bool,
}

/// Starts a cluster and waits until it serves; one that runs already is left as it is.
///
/// Parts that are not built yet are built first. What a killed run left of this cluster is cleared first,
/// and a start that fails clears up after itself (its logs are named in the error and kept).
pub fn up(home: &Home, request: &Request) -> Result<Status, Error> {
    let folder = Folder::of(home, &request.name);
    let _lock = take_lock(&folder)?;
    wait::watch_signals()?;

    if let Some(state) = state::load(&folder)? {
        let status = Status::of(&folder, &state);
        if state.ready && status.is_whole() {
            if state.profile != request.profile || state.network.is_some() != request.own_network {
                let (name, own_network) = (request.name.clone(), state.network.is_some());
                return Err(Error::OtherProfile { name, found: state.profile, own_network });
            }
            say(format_args!("cluster {} is already running", request.name));
            return Ok(status);
        }
    }
    if stop::clear(&folder)? {
        say(format_args!("removed leftovers of an earlier cluster {}", request.name));
    }

    match start(home, &folder, request) {
        Ok(state) => Ok(Status::of(&folder, &state)),
        Err(error) => {
            folder.keep_logs();
            if let Err(second) = stop::clear(&folder) {
                say(format_args!("failed to clear up after the failed start: {second}"));
            }
            Err(error)
        }
    }
}

fn start(home: &Home, folder: &Folder, request: &Request) -> Result<State, Error> {
    if request.own_network && !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot);
    }
    let parts = Parts::find(home)?;
    parts.prepare(request.profile)?;
    let node = match request.profile {
        Profile::Node => Some(node::prepare(folder, &parts)?),
        Profile::ControlPlane => None,
    };
    say(format_args!("starting cluster {} ({})", request.name, request.profile));
    let begin = Instant::now();
    let mut state = network::reserve(home, folder, request)?;
    let keys = certificates::make(folder, &state)?;
    control_plane::start(folder, &mut state, &parts, &keys)?;
    if let Some(node) = &node {
        node::start(folder, &mut state, &parts, &keys, node)?;
    }
    state.ready = true;
    state::save(folder, &state)?;
    say(format_args!("cluster {} is ready after {:.1} s", request.name, begin.elapsed().as_secs_f32()));
    Ok(state)
}

/// Stops a cluster and removes all of it: processes, mounts, namespace, folder. No such cluster is fine.
///
/// Returns whether there was anything to remove.
pub fn down(home: &Home, name: &Name) -> Result<bool, Error> {
    let folder = Folder::of(home, name);
    let _lock = take_lock(&folder)?;
    crate::files::remove_folder(&folder.kept_logs())?;
    stop::clear(&folder)
}

/// Kills a cluster's API server and starts it again; whether there is such a cluster.
pub fn restart(home: &Home, name: &Name) -> Result<bool, Error> {
    let folder = Folder::of(home, name);
    let _lock = take_lock(&folder)?;
    wait::watch_signals()?;
    let Some(state) = state::load(&folder)? else { return Ok(false) };
    control_plane::restart_api_server(&folder, &state, &Parts::find(home)?)?;
    Ok(true)
}

/// Stops the kubelet of a node; its pods continue. Whether there is such a cluster.
pub fn stop_kubelet(home: &Home, name: &Name) -> Result<bool, Error> {
    on_node(home, name, |folder, _, _| node::stop_kubelet(folder))
}

/// Starts the kubelet of a node that was stopped; whether there is such a cluster.
pub fn start_kubelet(home: &Home, name: &Name) -> Result<bool, Error> {
    on_node(home, name, node::start_kubelet)
}

/// Restarts a node as its machine would without its power: every pod of it ends at once, and is started again. The control
/// plane continues. Whether there is such a cluster.
pub fn reboot(home: &Home, name: &Name) -> Result<bool, Error> {
    on_node(home, name, node::reboot)
}

fn on_node(
    home: &Home,
    name: &Name,
    act: impl FnOnce(&Folder, &State, &Parts) -> Result<(), Error>,
) -> Result<bool, Error> {
    let folder = Folder::of(home, name);
    let _lock = take_lock(&folder)?;
    wait::watch_signals()?;
    let Some(state) = state::load(&folder)? else { return Ok(false) };
    if state.profile != Profile::Node {
        return Err(Error::NoNode { name: name.clone() });
    }
    act(&folder, &state, &Parts::find(home)?)?;
    Ok(true)
}

/// What is known of a cluster, without waiting for one that is being started; `None` when there is none.
pub fn find(home: &Home, name: &Name) -> Result<Option<Status>, Error> {
    let folder = Folder::of(home, name);
    Ok(state::load(&folder)?.map(|state| Status::of(&folder, &state)))
}

/// Loads one more image into the node of a running cluster: an archive, imported under its own references.
pub fn load(home: &Home, name: &Name, archive: &Path) -> Result<(), Error> {
    node::import(&Folder::of(home, name), archive)
}

/// Imports the image of a part into a node that runs; built where it is not there.
pub fn load_part(home: &Home, name: &Name, entry: &'static Entry) -> Result<(), Error> {
    node::import_part(&Folder::of(home, name), &Parts::find(home)?, entry)
}

fn take_lock(folder: &Folder) -> Result<Lock, Error> {
    let waiting = || say("waiting for another process that is using this cluster");
    Ok(Lock::take(&folder.lock(), waiting)?)
}
