//! The connection against a server that misbehaves on purpose.

mod connect;
mod faults;
mod lease;
mod permissions;
mod server;
mod verbs;
mod watch;
