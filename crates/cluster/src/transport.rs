//! One request and its answer.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{Method, Request};
use kube::client::{AuthError, Body};
use serde_json::Value;
use trainerd_causes::causes;

use crate::classify::{RequestInfo, classify};
use crate::cluster::Cluster;
use crate::credentials;
use crate::error::{RequestError, TransportFailure, Verb};

const JSON: &str = "application/json";

/// Bytes from which on a body is read aside: the CRDs of the stack, and little else.
const GREAT: usize = 256 * 1024;

/// A request before it is sent.
pub(crate) struct Call {
    pub(crate) info: RequestInfo,
    method: Method,
    accept: &'static str,
    content: Option<(&'static str, Vec<u8>)>,
}

impl Call {
    /// `path` holds the query.
    pub(crate) fn new(verb: Verb, method: Method, path: String) -> Self {
        let info = RequestInfo { verb, path, uid: false, resource_version: false };
        Self { info, method, accept: JSON, content: None }
    }

    pub(crate) fn get(verb: Verb, path: String) -> Self {
        Self::new(verb, Method::GET, path)
    }

    pub(crate) fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = media_type;
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.content(JSON, body)
    }

    pub(crate) fn content(mut self, media_type: &'static str, body: &Value) -> Self {
        // A `Value` displays as its JSON text, and unlike serde_json's writers cannot fail.
        self.content = Some((media_type, body.to_string().into_bytes()));
        self
    }

    /// Notes the preconditions that the request carries, which name a conflict.
    pub(crate) fn preconditions(mut self, uid: bool, resource_version: bool) -> Self {
        self.info.uid = uid;
        self.info.resource_version = resource_version;
        self
    }

    pub(crate) fn into_request(self) -> Result<(RequestInfo, Request<Vec<u8>>), RequestError> {
        let mut builder =
            Request::builder().method(self.method).uri(&self.info.path).header(ACCEPT, self.accept);
        let body = match self.content {
            Some((media_type, body)) => {
                builder = builder.header(CONTENT_TYPE, media_type);
                body
            }
            None => Vec::new(),
        };
        // Paths are percent-encoded, so that this fails only for a path beyond the 64 kB that a URI may have.
        let request =
            builder.body(body).map_err(|_| RequestError::Address { what: "a path of bounded length" })?;
        Ok((self.info, request))
    }
}

impl Cluster {
    /// Sends a request and reads the answer, within the connection's time limit.
    pub(crate) async fn call(&self, call: Call) -> Result<Value, RequestError> {
        self.call_with_code(call).await.map(|(_, answer)| answer)
    }

    /// As [`Self::call`], with the status code of the answer.
    pub(crate) async fn call_with_code(&self, call: Call) -> Result<(u16, Value), RequestError> {
        let (info, request) = call.into_request()?;
        self.turn().await;
        let limit = self.request_timeout();
        let exchange = async {
            let answer =
                self.client().send(request.map(Body::from)).await.map_err(|error| self.unreachable(error))?;
            let code = answer.status().as_u16();
            let retry_after = retry_after(answer.headers());
            let body = answer.into_body().collect_bytes().await.map_err(|error| self.unreachable(error))?;
            Ok((code, retry_after, body))
        };
        let (code, retry_after, body) = match tokio::time::timeout(limit, exchange).await {
            Ok(Ok(exchanged)) => exchanged,
            Ok(Err(error)) => {
                self.note(&info, 0);
                return Err(error);
            }
            Err(_) => {
                self.note(&info, 0);
                return Err(self.no_answer(limit));
            }
        };
        self.note(&info, code);
        if (200..300).contains(&code) {
            let answer = decoded(body).await.map_err(|source| RequestError::Decode {
                verb: info.verb,
                path: info.path,
                source: Arc::new(source),
            });
            answer.map(|answer| (code, answer))
        } else {
            Err(classify(&info, code, retry_after, &body))
        }
    }

    /// The error when our own time limit is over.
    pub(crate) fn no_answer(&self, limit: Duration) -> RequestError {
        let message = format!("no response from {} within {limit:?}", self.server());
        RequestError::Timeout { retry_after: None, answered: false, message }
    }

    /// Reads an error that came instead of an answer.
    pub(crate) fn unreachable(&self, error: kube::Error) -> RequestError {
        let failure = transport_failure(&error);
        let source: Arc<dyn StdError + Send + Sync> = match failure {
            TransportFailure::Credentials => Arc::new(credentials::read(&error, self.plugin())),
            _ => Arc::new(error),
        };
        RequestError::Unreachable { server: self.server().to_owned(), failure, source }
    }
}

/// Reads a body as JSON. A great one is read aside: it takes a while, and what it leaves behind of the memory that it
/// took is not among what stays.
async fn decoded(body: bytes::Bytes) -> Result<Value, serde_json::Error> {
    if body.len() < GREAT {
        return serde_json::from_slice(&body);
    }
    match tokio::task::spawn_blocking(move || serde_json::from_slice(&body)).await {
        Ok(read) => read,
        // It neither panics nor is aborted; a runtime that goes down takes us with it.
        Err(error) => Err(serde::de::Error::custom(error)),
    }
}

/// Seconds of a `Retry-After` header. The API server never sends the date form.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Tells by the types in the chain of sources.
pub(crate) fn transport_failure(error: &(dyn StdError + 'static)) -> TransportFailure {
    let mut found = TransportFailure::Broken;
    for error in causes(error) {
        if error.is::<AuthError>() {
            return TransportFailure::Credentials;
        }
        if error.is::<rustls::Error>() {
            return TransportFailure::Tls;
        }
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>()
            && client.is_connect()
        {
            found = TransportFailure::Connect;
        }
    }
    found
}
