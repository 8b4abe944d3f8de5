//! Carries finished spans to their endpoint: an HTTP client of the parts that talk to Kubernetes too.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

/// Bytes of an answer that are read: it says little, and is somebody else's.
const LONGEST_ANSWER: usize = 64 * 1024;
/// How long the log is silent of an endpoint that still does not take what is sent.
const SAY_AGAIN: Duration = Duration::from_mins(10);

/// A client for an endpoint. Its requests run on `runtime`, whatever thread asks for them.
///
/// # Errors
/// With TLS: the system's certificates cannot be read.
pub(super) fn otlp_client(
    tls: bool,
    patience: Duration,
    runtime: Handle,
) -> Result<Arc<dyn HttpClient>, io::Error> {
    if !tls {
        return Ok(OtlpClient::shared(HttpConnector::new(), patience, runtime));
    }
    // The system's certificates take room: they are read only for whoever needs them.
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?
        .https_only()
        .enable_http1()
        .build();
    Ok(OtlpClient::shared(connector, patience, runtime))
}

/// What the log was told.
#[derive(Debug, Default)]
struct Exported {
    /// When it was last told of a failure.
    at: Option<Instant>,
    /// Whether that was the last that it was told.
    failing: bool,
}

#[derive(Debug)]
struct OtlpClient<C> {
    client: Client<C, Full<Bytes>>,
    patience: Duration,
    runtime: Handle,
    told: Mutex<Exported>,
}

impl<C: Connect + Clone + Debug + Send + Sync + 'static> OtlpClient<C> {
    fn shared(connector: C, patience: Duration, runtime: Handle) -> Arc<dyn HttpClient> {
        // Plans are hours apart: a connection that is kept would only be held for nothing.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Arc::new(Self { client, patience, runtime, told: Mutex::default() })
    }
}

#[async_trait]
impl<C: Connect + Clone + Debug + Send + Sync + 'static> HttpClient for OtlpClient<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let (client, patience) = (self.client.clone(), self.patience);
        // The thread that asks belongs to the SDK and has no reactor: the runtime that there is anyway sends.
        let sent =
            self.runtime.spawn(async move { tokio::time::timeout(patience, send(client, request)).await });
        let answer = match sent.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(late)) => Err(late.into()),
            // The runtime ended before the request did.
            Err(gone) => return Err(gone.into()),
        };
        self.tell(&host, &answer);
        answer
    }
}

async fn send<C: Connect + Clone + Send + Sync + 'static>(
    client: Client<C, Full<Bytes>>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
    let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

impl<C> OtlpClient<C> {
    /// Tells the log, once in a while: what is lost are traces, and nobody waits for them.
    fn tell(&self, host: &str, answer: &Result<Response<Bytes>, HttpError>) {
        let why = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(trainerd_causes::one_line(error.as_ref())),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            None if told.failing => {
                told.failing = false;
                tracing::info!(host, "the collector accepts traces again");
            }
            Some(why) if told.at.is_none_or(|at| at.elapsed() >= SAY_AGAIN) => {
                *told = Exported { at: Some(Instant::now()), failing: true };
                tracing::warn!(
                    host,
                    why,
                    "the collector does not accept traces; those that exceed the queue are dropped"
                );
            }
            _ => {}
        }
    }
}
