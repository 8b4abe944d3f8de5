//! TLS over TCP, with the handshake aside.

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ListenError, Tcp, tcp};
use crate::certificates::{Certificates, TlsSettings};

/// Time limit of a handshake: two round trips and an elliptic signature, with room for a bad network.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Handshakes in progress; further clients wait to be accepted.
const HANDSHAKES: usize = 128;

/// Connections to a TCP port whose TLS handshake is done.
#[derive(Debug)]
pub struct Tls {
    tcp: Tcp,
    acceptor: Acceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

/// Listens on a TCP port for TLS 1.2 and 1.3, with whatever certificate is current at each handshake.
///
/// Handshakes run beside each other, 5 s at most: a client that is slow, or never speaks, holds up nobody.
pub async fn tls(addr: SocketAddr, certificates: Certificates) -> Result<Tls, ListenError> {
    tls_with(addr, certificates, &TlsSettings::default()).await
}

/// [`tls`], offering something else.
pub async fn tls_with(
    addr: SocketAddr,
    certificates: Certificates,
    settings: &TlsSettings,
) -> Result<Tls, ListenError> {
    let config = certificates.server_config(settings).map_err(|source| ListenError::Tls { addr, source })?;
    let acceptor = Acceptor(TlsAcceptor::from(config));
    Ok(Tls { tcp: tcp(addr).await?, acceptor, handshakes: JoinSet::new() })
}

/// A [`TlsAcceptor`] that can be shown.
struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                Some(shaken) = self.handshakes.join_next() => match shaken {
                    Ok(Some(connection)) => return connection,
                    Ok(None) => {}
                    Err(error) => if let Ok(panic) = error.try_into_panic() { resume_unwind(panic) },
                },
                (stream, peer) = self.tcp.accept(), if self.handshakes.len() < HANDSHAKES => {
                    self.handshakes.spawn(shake_hands(self.acceptor.0.clone(), stream, peer));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
    match timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some((stream, peer)),
        // Port scans, and clients that do not trust us: theirs to complain about.
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "failed to shake hands");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "failed to shake hands in time");
            None
        }
    }
}
