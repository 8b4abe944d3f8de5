//! Ports and namespaces: what clusters side by side must not share.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::state::{self, Network, Ports};
use super::{Error, Folder, Name, Profile, Request, State};
use crate::command::run;
use crate::files::{self, Lock};
use crate::home::Home;

/// Ports are sought from here up to 32767, below the range from which Linux takes the local ports of
/// connections, so that no connection takes one between two runs.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_767;

/// Ports where nobody else listens: in a namespace of its own.
const USUAL_PORTS: Ports = Ports { etcd: 2379, etcd_peer: 2380, api_server: 6443 };

/// Subnets of four addresses in 10.99.0.0/16.
const SUBNETS: u16 = 1 << 14;

/// Chooses ports or a namespace for a new cluster, makes the namespace, and writes the cluster's state.
pub(super) fn reserve(home: &Home, folder: &Folder, request: &Request) -> Result<State, Error> {
    let _lock = Lock::take(&home.clusters().join(".machine.lock"), || ())?;
    let others = others(home);
    let (ports, network) = if request.own_network {
        (USUAL_PORTS, Some(choose_network(&request.name, &others)?))
    } else {
        let taken = others.iter().filter(|state| state.network.is_none()).map(|state| state.ports);
        (choose_ports(&taken.collect::<Vec<_>>())?, None)
    };
    let state = State {
        name: request.name.to_string(),
        profile: request.profile,
        ports,
        network,
        processes: Vec::new(),
        ready: false,
    };
    state::save(folder, &state)?;
    if let Some(network) = &state.network {
        make(network, request.profile)?;
    }
    Ok(state)
}

/// The states of all clusters of this cache.
fn others(home: &Home) -> Vec<State> {
    let Ok(entries) = std::fs::read_dir(home.clusters()) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let text = files::read(&entry.ok()?.path().join("cluster.json")).ok()?;
            serde_json::from_str(&text).ok()
        })
        .collect()
}

fn choose_ports(taken: &[Ports]) -> Result<Ports, Error> {
    let taken: HashSet<u16> =
        taken.iter().flat_map(|ports| [ports.etcd, ports.etcd_peer, ports.api_server]).collect();
    let mut free = (FIRST_PORT..=LAST_PORT)
        .filter(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let mut next = || free.next().ok_or(Error::NoFreePort);
    Ok(Ports { etcd: next()?, etcd_peer: next()?, api_server: next()? })
}

/// The name of a cluster's network namespace and of its control groups.
pub(super) fn namespace(name: &str) -> String {
    format!("trainerd-{name}")
}

fn choose_network(name: &Name, others: &[State]) -> Result<Network, Error> {
    let mut taken: HashSet<Ipv4Addr> = others
        .iter()
        .filter_map(|state| state.network.as_ref())
        .map(|network| network.host_address)
        .collect();
    // Clusters of other caches, and whatever else has such an address.
    let output = run(Command::new("ip").args(["-o", "-4", "address", "show"]))?;
    taken.extend(addresses(&String::from_utf8_lossy(&output.stdout)));
    (0..SUBNETS)
        .map(|subnet| network(name.as_str(), subnet))
        .find(|network| !taken.contains(&network.host_address))
        .ok_or(Error::NoFreeSubnet)
}

fn network(name: &str, subnet: u16) -> Network {
    let [high, low] = (subnet << 2).to_be_bytes();
    Network {
        namespace: namespace(name),
        subnet,
        host_address: Ipv4Addr::new(10, 99, high, low | 1),
        node_address: Ipv4Addr::new(10, 99, high, low | 2),
    }
}

/// The addresses in the output of `ip -o -4 address show`.
fn addresses(output: &str) -> impl Iterator<Item = Ipv4Addr> {
    output.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "inet").skip(1);
        words.next()?.split('/').next()?.parse().ok()
    })
}

/// Makes the namespace and the pair of interfaces between it and the host.
///
/// Its default route leads to the host's end, which forwards nothing: nothing leaves the machine.
fn make(network: &Network, profile: Profile) -> Result<(), Error> {
    let Network { namespace, subnet, node_address, host_address } = network;
    let ip = |line: String| run(Command::new("ip").args(line.split(' ')));
    let outside = interface(*subnet);
    ip(format!("netns add {namespace}"))?;
    ip(format!("-n {namespace} link set lo up"))?;
    ip(format!("link add {outside} type veth peer name uplink netns {namespace}"))?;
    ip(format!("address add {host_address}/30 dev {outside}"))?;
    ip(format!("link set {outside} up"))?;
    ip(format!("-n {namespace} address add {node_address}/30 dev uplink"))?;
    ip(format!("-n {namespace} link set uplink up"))?;
    if profile == Profile::Node {
        ip(format!("-n {namespace} route add default via {host_address}"))?;
    }
    Ok(())
}

/// The host's end of the pair; at most 15 bytes, as the kernel wants it.
fn interface(subnet: u16) -> String {
    format!("trainerd{subnet}")
}

/// Removes a cluster's namespace; its interfaces go with it. Returns whether there was one.
pub(super) fn remove(name: &str) -> Result<bool, Error> {
    let namespace = namespace(name);
    if !Path::new("/run/netns").join(&namespace).exists() {
        return Ok(false);
    }
    run(Command::new("ip").args(["netns", "delete", &namespace]))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_disjoint_and_stay_in_their_range() {
        let first = network("a", 0);
        assert_eq!(first.host_address, Ipv4Addr::new(10, 99, 0, 1));
        assert_eq!(first.node_address, Ipv4Addr::new(10, 99, 0, 2));
        assert_eq!(network("a", 1).host_address, Ipv4Addr::new(10, 99, 0, 5));
        let last = network("a", SUBNETS - 1);
        assert_eq!(last.node_address, Ipv4Addr::new(10, 99, 255, 254));
        assert!(interface(SUBNETS).len() <= 15);
    }

    #[test]
    fn addresses_are_read_from_what_ip_prints() {
        let output = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n\
                      7: trainerd0    inet 10.99.0.1/30 scope global trainerd0\\   valid_lft\n\nodd line\n";
        let expected = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 99, 0, 1)];
        assert_eq!(addresses(output).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn chosen_ports_are_free() {
        let first = choose_ports(&[]).unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first.etcd)).unwrap();
        let second = choose_ports(&[Ports { etcd: 1, ..first }]).unwrap();
        drop(held);
        let all = [first.etcd, first.etcd_peer, first.api_server];
        for port in [second.etcd, second.etcd_peer, second.api_server] {
            assert!(!all.contains(&port), "{port} is taken");
        }
    }
}
