//! Where probes and metrics are served: they ask nobody who he is.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use trainerd_serve::listen::{ListenError, Tcp, tcp};

/// Port of probes and metrics.
pub(super) const PORT: u16 = 38991;

/// Whether this process runs in a pod, as kube's client tells, too.
pub(super) fn is_in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Listens where probes and metrics are to be asked for, and says where that is.
pub(super) async fn listen(
    asked: Option<SocketAddr>,
    in_pod: bool,
) -> Result<(Tcp, SocketAddr), ListenError> {
    let (first, fallback) = addresses(asked, in_pod);
    match (tcp(first).await, fallback) {
        (Ok(listener), _) => Ok((listener, first)),
        (Err(_), Some(second)) => Ok((tcp(second).await?, second)),
        (Err(error), None) => Err(error),
    }
}

/// The address, and another where that one cannot be listened at: what was asked for; in a pod every address, for the kubelet
/// comes by the pod's, which may be of either family; elsewhere loopback.
fn addresses(asked: Option<SocketAddr>, in_pod: bool) -> (SocketAddr, Option<SocketAddr>) {
    match asked {
        Some(address) => (address, None),
        // With IPv4, too, unless the system says otherwise; the other is for one without IPv6.
        None if in_pod => ((Ipv6Addr::UNSPECIFIED, PORT).into(), Some((Ipv4Addr::UNSPECIFIED, PORT).into())),
        None => ((Ipv4Addr::LOCALHOST, PORT).into(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_server_is_local_unless_in_a_pod_or_configured() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (asked, in_pod, first, fallback) in [
            (None, false, "127.0.0.1:38991", None),
            (None, true, "[::]:38991", Some("0.0.0.0:38991")),
            (Some("0.0.0.0:1"), false, "0.0.0.0:1", None),
            (Some("127.0.0.1:1"), true, "127.0.0.1:1", None),
        ] {
            let found = addresses(asked.map(address), in_pod);
            assert_eq!(found, (address(first), fallback.map(address)), "{asked:?}, in a pod: {in_pod}");
        }
    }

    #[tokio::test]
    async fn the_configured_address_is_used() {
        let asked: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (listener, address) = listen(Some(asked), true).await.unwrap();
        assert_eq!(address, asked);
        assert!(axum::serve::Listener::local_addr(&listener).unwrap().ip().is_loopback());
    }
}
