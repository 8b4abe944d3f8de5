//! Juju as a charm sees it: hook tools, Pebble, relation databags, and the charm file.
//!
//! What can be decided is pure ([`environment`], [`hook`], [`databag`], [`pebble::layer`]); around it are thin
//! clients, each call bounded in time and its failure a type ([`tools`], [`http`], [`pebble`]). What the daemon and the
//! charm say to each other is here, too ([`status`], [`desired`]): neither knows the other.

pub mod databag;
pub mod desired;
pub mod environment;
pub mod hook;
pub mod http;
pub mod pack;
pub mod paths;
pub mod pebble;
pub mod status;
pub mod tools;
