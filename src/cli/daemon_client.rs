//! The way to a daemon's API: a unix socket on this machine, or a port of its pod.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use trainerd_catalog::{DAEMON_OPTIONS, DAEMON_VIEWER, daemon_audience};
use trainerd_causes::one_line;
use trainerd_cluster::Cluster;
use trainerd_plan::desired::Installation;

use crate::problem::Exit;
use crate::problem::Problem;

mod pod;
mod trust;

/// Where the daemon in a pod listens, as its template has it.
const PORT: u16 = 8443;
/// Seconds for which a token is good: the least that an API server gives.
const TOKEN_SECONDS: u32 = 600;
/// After how long another one is asked for.
const TOKEN_AGE: Duration = Duration::from_mins(8);
/// Longest answer that is read: a view of the stack has 100 kB.
const LONGEST: usize = 16 << 20;

/// Why the daemon cannot be asked.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The way to a daemon.
#[derive(Clone)]
pub(crate) enum DaemonClient {
    /// A unix socket, open to its user.
    Socket(PathBuf),
    /// A pod, reached through the API server.
    Pod(Arc<Pod>),
}

/// A pod in which a daemon runs.
pub(crate) struct Pod {
    cluster: Cluster,
    namespace: String,
    name: String,
    /// For whom tokens are asked for.
    audience: String,
    tls: TlsConnector,
    token: Mutex<Option<(HeaderValue, Instant)>>,
}

/// The name of the source of a daemon that `bootstrap` put into the cluster.
pub(crate) fn source_in_cluster(namespace: &str) -> String {
    format!("ConfigMap {namespace}/{DAEMON_OPTIONS}")
}

impl DaemonClient {
    /// The way to the daemon in the cluster; `None` where none was put there.
    pub(crate) async fn into_cluster(
        cluster: &Cluster,
        keeps: &Installation,
    ) -> Result<Option<Self>, Failure> {
        let Some(trusted) = pod::trusted(cluster, keeps).await? else { return Ok(None) };
        let (cluster, namespace) = (cluster.clone(), keeps.namespace.clone());
        let (tls, token) = (trust::connector(trusted.fingerprint)?, Mutex::default());
        let pod =
            Pod { cluster, namespace, name: trusted.name, audience: daemon_audience(keeps), tls, token };
        Ok(Some(Self::Pod(Arc::new(pod))))
    }

    /// The note that the daemon did not answer.
    pub(crate) fn failed(&self, error: &(dyn Error + 'static)) -> Problem {
        let (what, hint) = match self {
            Self::Socket(path) => (
                format!("failed to reach the daemon at {}", path.display()),
                "start it with `trainerd daemon --socket PATH`, and pass the same path",
            ),
            Self::Pod(pod) => (
                format!("failed to reach the daemon in pod {}/{}", pod.namespace, pod.name),
                "this needs permission to create pods/portforward and serviceaccounts/token there; `trainerd status` without --web does not need the daemon",
            ),
        };
        Problem::new(Exit::Failed, "daemon-unreachable", what).because(one_line(error)).hint(hint)
    }

    /// Sends a request, and returns the answer with its body still to come.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        match self {
            Self::Socket(path) => exchange(UnixStream::connect(path).await?, request).await,
            Self::Pod(pod) => {
                request.headers_mut().insert(header::AUTHORIZATION, pod.token().await?);
                exchange(pod.open().await?, request).await
            }
        }
    }

    /// What the daemon knows: its view.
    pub(crate) async fn view(&self) -> Result<Value, Failure> {
        let request = Request::get("/v1/installation").header(header::HOST, "localhost");
        let answer = self.send(request.body(Body::empty())?).await?;
        let code = answer.status();
        let body = axum::body::to_bytes(Body::new(answer.into_body()), LONGEST).await?;
        let value: Value = serde_json::from_slice(&body)?;
        if code.is_success() {
            Ok(value)
        } else {
            Err(format!(
                "it responded with {}: {}",
                code.as_u16(),
                value["message"].as_str().unwrap_or_default()
            )
            .into())
        }
    }
}

impl Pod {
    async fn open(&self) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Failure> {
        let stream = self.cluster.forward(&self.namespace, &self.name, PORT).await?;
        Ok(self.tls.connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// A token, renewed before it expires.
    async fn token(&self) -> Result<HeaderValue, Failure> {
        let mut known = self.token.lock().await;
        if let Some((token, since)) = &*known
            && since.elapsed() < TOKEN_AGE
        {
            return Ok(token.clone());
        }
        let audience = Some(self.audience.as_str());
        let token = self.cluster.token(&self.namespace, DAEMON_VIEWER, audience, TOKEN_SECONDS).await?;
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))?;
        header.set_sensitive(true);
        *known = Some((header.clone(), Instant::now()));
        Ok(header)
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Result<Response<Incoming>, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the body of the response, or when its reader is dropped.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
