//! The clusters of a test run: started where none is given, and taken away in every case.

use std::fs;
use std::path::Path;

use super::Error;
use crate::cluster::{self, Name, Part, Parts, Profile, Request, Status, parts};
use crate::demo;
use crate::examples;
use crate::home::Home;
use crate::image::{catalog, product};
use crate::terminal::say;

/// Name of the control plane for tests against a real API server.
pub(super) const API_SERVER: &str = "ci-api-server";
/// Name of the node for the demo as a test.
pub(super) const NODE: &str = "ci-demo";
/// Name that the integration tests give their cluster, which they leave running for the next ones. Those that run at
/// the same time have one each, whose names begin so.
pub(crate) const INTEGRATION: &str = "integration";

/// Builds the programs that clusters run, once a machine, and the images that a node runs: so the times of stages are
/// those of tests.
pub(super) fn build_parts(home: &Home, with_node: bool) -> Result<String, Error> {
    let found = Parts::find(home)?;
    let control_plane: [&Part; 4] =
        [&parts::ETCD, &parts::KUBE_APISERVER, &parts::KUBE_CONTROLLER_MANAGER, &parts::KUBECTL];
    let node: [&Part; 3] = [&parts::KUBE_SCHEDULER, &parts::KUBELET, &parts::KUBE_PROXY];
    let mut wanted = control_plane.to_vec();
    if with_node {
        wanted.extend(node);
        wanted.extend(catalog::ALL.map(|entry| entry.part));
    }
    for part in &wanted {
        found.path(part)?;
    }
    if with_node {
        product::make(home, product::Profile::Dev, product::REFERENCE, None).map_err(demo::Error::from)?;
        examples::prepare(home)?;
    }
    Ok(format!("{} programs", wanted.len()))
}

/// Does something with a control plane of that name, which is taken away afterwards.
pub(super) fn with_control_plane<T>(
    home: &Home,
    name: &'static str,
    act: impl FnOnce(&Status) -> Result<T, Error>,
) -> Result<T, Error> {
    let name = parse(name)?;
    let request = Request { name: name.clone(), profile: Profile::ControlPlane, own_network: false };
    let result = cluster::up(home, &request).map_err(Error::from).and_then(|status| act(&status));
    stop_cluster(home, &name);
    result
}

/// Does something that may start the cluster of that name. If it did, the cluster is taken away afterwards;
/// one that was there before stays.
pub(crate) fn cleared_after<T>(home: &Home, name: &str, act: impl FnOnce() -> T) -> T {
    let Ok(name) = parse_any(name) else { return act() };
    let was_there = cluster::find(home, &name).is_ok_and(|found| found.is_some());
    let result = act();
    if !was_there {
        stop_cluster(home, &name);
    }
    result
}

/// Takes away clusters of this command's own tests whose test program is gone: one that was killed could not
/// do it. Their names end with its process id.
pub(super) fn clear_orphans(home: &Home) {
    let folders = fs::read_dir(home.clusters()).into_iter().flatten().flatten();
    let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
    for name in names.filter(|name| is_orphan(name, |pid| Path::new("/proc").join(pid).exists())) {
        if let Ok(name) = parse_any(&name) {
            stop_cluster(home, &name);
        }
    }
}

fn is_orphan(name: &str, runs: impl FnOnce(&str) -> bool) -> bool {
    let pid = name.strip_prefix("xtask-").and_then(|rest| rest.rsplit_once('-')).map(|(_, pid)| pid);
    pid.is_some_and(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && !runs(pid))
}

/// Stops a cluster. What fails is said and no more: the tests' own result counts.
pub(crate) fn stop_cluster(home: &Home, name: &Name) {
    match cluster::down(home, name) {
        Ok(true) => say(format_args!("    stopped cluster {name}")),
        Ok(false) => {}
        Err(error) => say(format_args!("failed to stop cluster {name}: {error}")),
    }
}

pub(super) fn parse(name: &'static str) -> Result<Name, Error> {
    parse_any(name)
}

fn parse_any(name: &str) -> Result<Name, Error> {
    name.parse().map_err(|_| Error::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_are_validated() {
        for name in [API_SERVER, NODE, INTEGRATION] {
            assert_eq!(parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn only_clusters_of_dead_test_programs_are_orphans() {
        let runs = |pid: &str| pid == "12";
        for (name, orphan) in [
            ("xtask-life-13", true),
            ("xtask-life-12", false),
            ("xtask-life", false),
            ("xtask-", false),
            ("integration", false),
            ("lead-13", false),
        ] {
            assert_eq!(is_orphan(name, runs), orphan, "{name}");
        }
    }
}
