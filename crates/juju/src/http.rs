//! HTTP/1.1 client over a unix socket, for Pebble and the daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of a response body.
const MAX_BODY_LEN: usize = 64 << 20;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The socket does not exist: the server was never started.
    #[error("no socket {}", .0.display())]
    Absent(PathBuf),
    /// Nothing listens on the socket: the server is restarting.
    #[error("nobody listens on {}", .0.display())]
    Refused(PathBuf),
    /// The connection failed otherwise.
    #[error("failed to connect to {}", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer to {what} within {after:?}")]
    TimedOut {
        /// Method and path.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke off.
    #[error("failed to ask {what}")]
    Exchange {
        /// Method and path.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The response is not JSON of the expected shape.
    #[error("the answer to {what} makes no sense")]
    Json {
        /// Method and path.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Method and path that it answers.
    pub what: String,
    /// The code.
    pub code: u16,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Whether the status code is a success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The body, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body)
            .map_err(|source| HttpError::Json { what: self.what.clone(), source })
    }
}

/// A client of a unix socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of that socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and reads the whole response, within `time_limit` once connected.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        time_limit: Duration,
    ) -> Result<Response, HttpError> {
        let what = format!("{method} {path}");
        let stream = self.connect().await?;
        let exchange = exchange(stream, method, path, body);
        match timeout(time_limit, exchange).await {
            Ok(Ok((code, body))) => Ok(Response { what, code, body }),
            Ok(Err(source)) => Err(HttpError::Exchange { what, source }),
            Err(_) => Err(HttpError::TimedOut { what, after: time_limit }),
        }
    }

    async fn connect(&self) -> Result<UnixStream, HttpError> {
        let path = || self.socket.clone();
        match timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(HttpError::Absent(path())),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(HttpError::Refused(path()))
            }
            Ok(Err(source)) => Err(HttpError::Connect { path: path(), source }),
            Err(_) => Err(HttpError::TimedOut { what: "a connection".to_owned(), after: CONNECT_TIMEOUT }),
        }
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // The task ends with the connection.
    let connection = tokio::spawn(connection);
    let text = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(text)))?;
    let answer = sender.send_request(request).await?;
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_BODY_LEN).collect().await?.to_bytes();
    connection.abort();
    Ok((code, body))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn absent_refusing_and_slow_servers_are_distinguished() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let client = Client::new(&socket);
        let ask = || client.send(Method::GET, "/x", None, Duration::from_millis(50));
        assert!(matches!(ask().await, Err(HttpError::Absent(_))));
        let listener = UnixListener::bind(&socket).unwrap();
        // The system accepts the connection, and nothing answers.
        assert!(matches!(ask().await, Err(HttpError::TimedOut { .. })));
        drop(listener);
        assert!(matches!(ask().await, Err(HttpError::Refused(_))));
    }
}
