//! Asking the API server whether it serves, over TLS with the administrator's certificate.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::certificates::Keys;
use super::{Error, State};

/// A look that takes longer counts as "not yet".
const BOUND: Duration = Duration::from_secs(2);

/// A client of one API server that only tells statuses.
pub(super) struct Probe {
    config: Arc<ClientConfig>,
    server: SocketAddr,
}

impl Probe {
    /// A client with the administrator's rights.
    pub(super) fn new(state: &State, keys: &Keys) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(keys.ca.as_bytes())?)?;
        let chain = vec![CertificateDer::from_pem_slice(keys.admin.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(keys.admin.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let server = SocketAddr::new(IpAddr::from(state.address()), state.ports.api_server);
        Ok(Self { config: Arc::new(config), server })
    }

    /// Whether `GET path` is answered with 200.
    pub(super) fn is_ok(&self, path: &str) -> bool {
        self.status(path).is_ok_and(|status| status == 200)
    }

    fn status(&self, path: &str) -> std::io::Result<u16> {
        let socket = TcpStream::connect_timeout(&self.server, BOUND)?;
        socket.set_read_timeout(Some(BOUND))?;
        socket.set_write_timeout(Some(BOUND))?;
        let name = ServerName::IpAddress(self.server.ip().into());
        let connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        let agent = concat!("trainerd-xtask/", env!("CARGO_PKG_VERSION"), " (cluster)");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n",
            self.server
        )?;
        let mut head = [0; 64];
        let mut length = 0;
        while length < head.len() && !head[..length].contains(&b'\n') {
            match stream.read(&mut head[length..])? {
                0 => break,
                count => length += count,
            }
        }
        status_of(&head[..length]).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))
    }
}

/// The status of an HTTP/1.1 status line.
fn status_of(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    line.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_read() {
        assert_eq!(status_of(b"HTTP/1.1 200 OK\r\nAudit-Id: x"), Some(200));
        assert_eq!(status_of(b"HTTP/1.1 500 Internal Server Error\r\n"), Some(500));
        assert_eq!(status_of(b"HTTP/1.1 200"), Some(200));
        assert_eq!(status_of(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(status_of(b""), None);
    }
}
