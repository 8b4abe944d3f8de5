//! The ports of a manager.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::Listener as _;
use tokio::sync::watch;
use trainerd_serve::listen::{self, ListenError};
use trainerd_serve::{Certificates, Limits, ServeError, TlsSettings};

/// Why a port does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// It cannot be listened on.
    #[error("failed to open the {port} port")]
    Listen {
        /// Which.
        port: &'static str,
        /// Why.
        #[source]
        source: ListenError,
    },
    /// It ended.
    #[error("failed to serve the {port} port")]
    Serve {
        /// Which.
        port: &'static str,
        /// Why.
        #[source]
        source: ServeError,
    },
}

/// When to end.
pub(crate) type Stop = watch::Receiver<bool>;

/// Done when it is time to end, also when whoever says so is gone.
pub(crate) async fn stopped(mut stop: Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A port, and what is behind it.
pub(crate) struct Port {
    /// For people.
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<(Certificates, TlsSettings)>,
}

impl Port {
    /// Answers until it is time to end. `opened` hears of the address that is listened on.
    pub(crate) async fn serve(self, stop: Stop, opened: impl FnOnce(SocketAddr)) -> Result<(), PortError> {
        let Self { name: port, address, router, limits, tls } = self;
        let listen = |source| PortError::Listen { port, source };
        let serve = |source| PortError::Serve { port, source };
        tracing::info!(port, %address, tls = tls.is_some(), "opening a port");
        if let Some((certificates, settings)) = tls {
            let listener = listen::tls_with(address, certificates, &settings).await.map_err(listen)?;
            opened(listener.local_addr().unwrap_or(address));
            trainerd_serve::serve_within(&limits, listener, router, stopped(stop)).await.map_err(serve)
        } else {
            let listener = listen::tcp(address).await.map_err(listen)?;
            opened(listener.local_addr().unwrap_or(address));
            trainerd_serve::serve_within(&limits, listener, router, stopped(stop)).await.map_err(serve)
        }
    }
}
