//! trainerd against a real control plane.
//!
//! [`standin`] is a kubelet and the controllers' webhook servers for a cluster without a node;
//! [`proxy`] counts the requests of a process and breaks them at a chosen one.

pub mod proxy;
pub mod standin;
