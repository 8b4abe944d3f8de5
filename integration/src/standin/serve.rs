//! A webhook server's port.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Error, review};

/// Listens on a port of the pods.
pub(super) async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind((address, port)).await.map_err(|source| Error::Listen { address, port, source })
}

/// Answers reviews for ever.
pub(super) async fn serve(listener: TcpListener, config: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(config);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve_connection(stream, acceptor.clone()))),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    // One answer a connection: the API server dials again, and so meets endpoints as they are now, as it would
    // if pods, and their connections with them, came and went.
    let connection =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service_fn(answer));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a conversation ended early");
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply = match request.into_body().collect().await {
        Ok(body) => serde_json::from_slice(&body.to_bytes()).ok().and_then(|review| review::answer(&review)),
        Err(_) => None,
    };
    let mut response = Response::new(Full::default());
    match reply {
        Some(reply) => {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
            *response.body_mut() = Full::new(Bytes::from(reply.to_string()));
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}
