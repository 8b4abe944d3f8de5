//! trainerd against a real control plane.
//!
//! * [`standin`] is a kubelet and the controllers' webhook servers for a cluster without a node.
//! * [`proxy`] counts the requests of a process and lets a chosen one go wrong.
//! * [`cluster`] is the cluster that a test runs against, emptied; its state can be kept and put back.
//! * [`product`] runs the binary under test.

pub mod cluster;
mod error;
pub mod product;
pub mod proxy;
pub mod standin;

pub use cluster::TestCluster;
pub use error::Error;
