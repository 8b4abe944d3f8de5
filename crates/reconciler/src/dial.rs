//! Whether a TLS port of ours answers: for the probes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use trainerd_serve::certificates::judged;

/// Time limit of a handshake.
const LIMIT: Duration = Duration::from_secs(10);

/// Shakes hands with the TLS port at that address, whatever certificate it shows: it is ours.
pub(crate) async fn dial(address: SocketAddr) -> Result<(), String> {
    let address = reachable(address);
    let dialled = timeout(LIMIT, async {
        let config = judged::client(|_| Ok(())).map_err(|error| error.to_string())?.with_no_client_auth();
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let name = ServerName::IpAddress(address.ip().into());
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map(drop).map_err(|error| error.to_string())
    });
    match dialled.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{address} is not reachable: {error}")),
        Err(_) => Err(format!("{address} is not reachable within {LIMIT:?}")),
    }
}

/// Where a port that listens on every address is reached.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
