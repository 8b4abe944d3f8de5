//! Connections of the head to a worker, plain or with TLS.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;
use trainerd_causes::one_line;

use super::Address;

/// Time between two signs of life on a connection, and how long one is waited for: a pod that is gone closes nothing.
const ALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// A client that connects with its first question, and again after a cut.
pub(super) fn connect(
    address: &Address,
    timeout: Duration,
    tls: Option<TlsConnector>,
) -> Result<FlightServiceClient<Channel>, String> {
    // The library would set TLS up by itself for the scheme https; it is the connector's.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| one_line(&error))?;
    let endpoint = endpoint
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ALIVE.0)
        .keep_alive_timeout(ALIVE.1)
        .keep_alive_while_idle(true);
    let channel = match tls {
        None => endpoint.connect_lazy(),
        Some(connector) => {
            endpoint.connect_with_connector_lazy(Connector { connector, address: Arc::new(address.clone()) })
        }
    };
    Ok(FlightServiceClient::new(channel))
}

/// Connects with TLS.
#[derive(Clone)]
struct Connector {
    connector: TlsConnector,
    address: Arc<Address>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { connector, address } = self.clone();
        let shake = async move {
            let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(connector.connect(name, stream).await?))
        };
        shake.boxed()
    }
}
