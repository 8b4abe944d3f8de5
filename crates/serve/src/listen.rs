//! Places to be reached at: a unix socket, a TCP port, a TLS port.
//!
//! All three are axum [`Listener`](axum::serve::Listener)s whose `accept` may be dropped while it waits. An accept
//! that fails for want of something (file descriptors, memory) is reported and tried again a second later.

mod tcp;
mod tls;
mod unix;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use tcp::{Tcp, tcp};
pub use tls::{Tls, tls, tls_with};
pub use unix::{Unix, unix};

/// Why nobody can reach us.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("failed to listen on {addr}")]
    Tcp {
        /// What was asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("failed to set up TLS on {addr}")]
    Tls {
        /// What was asked for.
        addr: SocketAddr,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// The socket cannot be made.
    #[error("failed to listen on {}", .path.display())]
    Unix {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A live process answers on the socket.
    #[error("failed to listen on {}: a live process answers there", .path.display())]
    InUse {
        /// What was asked for.
        path: PathBuf,
    },
    /// Something else than a socket is at the path; it is left alone.
    #[error("failed to listen on {}: it exists and is no socket", .path.display())]
    NotASocket {
        /// What was asked for.
        path: PathBuf,
    },
    /// Somebody holds a lock on the socket's directory, and has for a second.
    #[error("failed to listen on {}: its directory is locked", .path.display())]
    Locked {
        /// What was asked for.
        path: PathBuf,
    },
}

/// After an accept that failed: at once where only that connection is lost, else a second later.
async fn pause(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "failed to accept a connection");
    tokio::time::sleep(Duration::from_secs(1)).await;
}
