//! The one way to be talked to.
//!
//! [`listen`] opens a unix socket, a TCP port or a TLS port; [`serve`] answers on it with an axum router until it is
//! told to stop, within bounds: of header and body time, of body size, of connections, and of the time that open
//! requests get at the end. [`Certificates`] are self-signed or come from files, and renew themselves while
//! connections keep coming. What a router is made of: [`Probes`], [`Metrics`], [`events`] to follow, [`auth`] in
//! front, and [`Problem`] as the body of every refusal.
//!
//! Nothing here wakes up by itself while nobody connects: certificates are looked at on a handshake, caches on a
//! lookup, and computed metrics on a scrape.

pub mod auth;
pub mod certificates;
pub mod events;
pub mod listen;
pub mod metrics;
pub mod probes;
pub mod problem;
pub mod server;

pub use certificates::{Certificates, TlsSettings};
pub use events::Event;
pub use metrics::Metrics;
pub use probes::Probes;
pub use problem::Problem;
pub use server::{Limits, ServeError, serve, serve_within};
