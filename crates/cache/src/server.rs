//! The Flight port: plain or with TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use axum::serve::Listener;
use futures::stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::server::Connected;
use trainerd_serve::listen::{self, ListenError};

use crate::access::Access;
use crate::flight::{Role, Service};
use crate::tls::{self, Tls};

/// A port that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no address.
    #[error("failed to find the address of {host:?}")]
    Host {
        /// As it was given.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The address cannot be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The server ended.
    #[error("failed to serve")]
    Serve(#[from] tonic::transport::Error),
    /// The port's number is not known.
    #[error("failed to look at the port")]
    Address(#[from] std::io::Error),
}

/// A port that is listened at.
#[derive(Debug)]
pub enum Port {
    /// Without TLS.
    Plain(listen::Tcp),
    /// With TLS.
    Tls(Box<listen::Tls>),
}

impl Port {
    /// Listens at the first address of a host.
    pub async fn open(host: &str, port: u16, tls: Option<&Tls>) -> Result<Self, Error> {
        let failed = |source| Error::Host { host: host.to_owned(), source };
        let mut found = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
        let address = found.next().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        Ok(match tls {
            None => Self::Plain(listen::tcp(address).await?),
            Some(tls) => {
                Self::Tls(Box::new(listen::tls_with(address, tls.certificates(), &tls.settings()?).await?))
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        Ok(match self {
            Self::Plain(listener) => listener.local_addr()?,
            Self::Tls(listener) => listener.local_addr()?,
        })
    }

    /// Serves until it is stopped; streams that are open then are served to their end.
    pub async fn serve<R: Role>(
        self,
        role: Arc<R>,
        access: Access,
        stopped: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        match self {
            Self::Plain(listener) => serve(listener, role, access, stopped).await,
            Self::Tls(listener) => serve(*listener, role, access, stopped).await,
        }
    }
}

async fn serve<L, R: Role>(
    listener: L,
    role: Arc<R>,
    access: Access,
    stopped: impl Future<Output = ()> + Send,
) -> Result<(), Error>
where
    L: Listener,
    L::Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let connections = stream::unfold(listener, |mut listener| async move {
        let (connection, _) = listener.accept().await;
        Some((Ok::<_, std::io::Error>(connection), listener))
    });
    let service =
        FlightServiceServer::with_interceptor(Service::new(role), move |request| access.check(request));
    let server = tonic::transport::Server::builder().add_service(service);
    Ok(server.serve_with_incoming_shutdown(connections, stopped).await?)
}
