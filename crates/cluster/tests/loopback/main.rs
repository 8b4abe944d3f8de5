//! The connection against a server that misbehaves on purpose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers included")]

mod connect;
mod events;
mod faults;
mod lease;
mod permissions;
mod server;
mod verbs;
mod watch;
