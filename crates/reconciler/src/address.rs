//! Addresses as Go's net package writes them: `:8081`, `localhost:8081`, `10.0.0.1:8081`, `[::1]:8081`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("failed to use {address:?} as an address to listen on")]
pub struct AddressError {
    /// As it was given.
    pub address: String,
    /// What is wrong with it.
    #[source]
    pub source: io::Error,
}

/// Finds where to listen. Without a host it is every address of this machine, of both families where it has both.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, AddressError> {
    let failed = |source| AddressError { address: address.to_owned(), source };
    let bad = || failed(io::Error::new(io::ErrorKind::InvalidInput, "host:port is expected"));
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    if host.is_empty() {
        return Ok(any_address(port));
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
    found.next().ok_or_else(bad)
}

fn any_address(port: u16) -> SocketAddr {
    // A kernel without IPv6 refuses such a socket.
    let has_ipv6 = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    if has_ipv6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_are_optional() {
        for (text, expected) in
            [("127.0.0.1:8081", "127.0.0.1:8081"), ("[::1]:1", "[::1]:1"), ("::1:1", "[::1]:1")]
        {
            assert_eq!(resolve(text).await.unwrap().to_string(), expected);
        }
        let any = resolve(":8443").await.unwrap();
        assert!(any.ip().is_unspecified() && any.port() == 8443);
        for bad in ["", "8081", "host:", "127.0.0.1:70000", "127.0.0.1:x"] {
            assert!(resolve(bad).await.is_err(), "{bad}");
        }
    }
}
