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
        self.ask(path).is_ok_and(|answer| body(&answer).is_some())
    }

    /// The object at `path`; `None` when it is not there, or the server does not answer.
    pub(super) fn get(&self, path: &str) -> Option<serde_json::Value> {
        serde_json::from_slice(body(&self.ask(path).ok()?)?).ok()
    }

    /// The whole answer to `GET path`. HTTP/1.0: the answer ends with the connection, without chunks.
    fn ask(&self, path: &str) -> std::io::Result<Vec<u8>> {
        let socket = TcpStream::connect_timeout(&self.server, BOUND)?;
        socket.set_read_timeout(Some(BOUND))?;
        socket.set_write_timeout(Some(BOUND))?;
        let name = ServerName::IpAddress(self.server.ip().into());
        let connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        let agent = concat!("trainerd-xtask/", env!("CARGO_PKG_VERSION"), " (cluster)");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nUser-Agent: {agent}\r\n\r\n", self.server)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// The body of an answer with status 200.
fn body(answer: &[u8]) -> Option<&[u8]> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
    let ok = answer.starts_with(b"HTTP/1.0 200 ") || answer.starts_with(b"HTTP/1.1 200 ");
    ok.then(|| &answer[end + END_OF_HEAD.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_with_status_200_has_a_body() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nAudit-Id: x\r\n\r\nok"), Some(&b"ok"[..]));
        assert_eq!(body(b"HTTP/1.0 200 OK\r\n\r\n"), Some(&b""[..]));
        assert_eq!(body(b"HTTP/1.0 500 Internal Server Error\r\n\r\nno"), None);
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nAudit-"), None);
        assert_eq!(body(b""), None);
    }
}
