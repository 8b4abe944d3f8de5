//! trainerd against a real control plane.
//!
//! * [`standin`] is a kubelet and the controllers' webhook servers for a cluster without a node.
//! * [`proxy`] counts the requests of a process and lets a chosen one go wrong.
//! * [`cluster`] is the cluster that a test runs against, emptied; its state can be kept and put back.
//! * [`product`] runs the binary under test, [`stack`] knows what it installs.
//! * [`daemon`] runs it as a daemon, [`managed`] is an installation that one reconciles.
//! * [`reconciler`] runs it as the Trainer controller.
//! * [`service_account`] is what a service account can do: its token, its kubeconfig, and the daemon's API over TLS.
//! * [`charm`] is a unit of the charm as Juju runs it: hook tools, Pebble, dispatch; its scenarios are text files.
//! * [`torture`] kills it at every request boundary.

pub mod admission_load;
pub mod charm;
pub mod cluster;
pub mod daemon;
mod error;
pub mod managed;
pub mod product;
pub mod proxy;
pub mod reconciler;
pub mod service_account;
pub mod stack;
pub mod standin;
pub mod torture;

pub use cluster::TestCluster;
pub use error::Error;
