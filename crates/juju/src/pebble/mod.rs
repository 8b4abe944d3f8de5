//! Pebble, the service manager of a workload container, over its unix socket.

pub mod layer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use self::layer::Layer;
use crate::http::{Client, HttpError, Response};

/// Longest that one request may take, beside what it asks Pebble to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a request to Pebble failed.
#[derive(Debug, thiserror::Error)]
pub enum PebbleError {
    /// There is no answer.
    #[error("failed to ask Pebble")]
    Http(#[from] HttpError),
    /// It refused; 401 means that this user is no administrator of it.
    #[error("Pebble answers {code} to {what}: {message}")]
    Refused {
        /// Method and path.
        what: String,
        /// The code.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The change that the request made did not succeed.
    #[error("Pebble's change {id} ended as {status}: {message}")]
    Change {
        /// Its number.
        id: String,
        /// Its status.
        status: String,
        /// Why.
        message: String,
    },
    /// The change did not end in time.
    #[error("Pebble's change {id} was not done within {after:?}")]
    Unfinished {
        /// Its number.
        id: String,
        /// How long was waited.
        after: Duration,
    },
}

impl PebbleError {
    /// Whether there is no Pebble at all: the container was never started.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Http(HttpError::Absent(_)))
    }
}

/// A service as Pebble has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `active`, `inactive`, `backoff` or `error`.
    pub current: String,
}

/// The envelope of every response.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    result: Value,
    change: Option<String>,
}

/// A change in Pebble's API.
#[derive(Deserialize)]
struct Change {
    id: String,
    status: String,
    ready: bool,
    #[serde(default)]
    err: String,
}

/// Pebble.
#[derive(Clone, Debug)]
pub struct Pebble {
    client: Client,
}

impl Pebble {
    /// The Pebble that listens on that socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { client: Client::new(socket) }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        time_limit: Duration,
    ) -> Result<Envelope, PebbleError> {
        let answer = self.client.send(method, path, body, time_limit).await?;
        let envelope: Envelope = match answer.json() {
            Ok(envelope) => envelope,
            Err(error) if answer.is_success() => return Err(error.into()),
            Err(_) => return Err(refused(&answer, String::new())),
        };
        if answer.is_success() {
            return Ok(envelope);
        }
        let message = envelope.result["message"].as_str().unwrap_or_default().to_owned();
        Err(refused(&answer, message))
    }

    /// The combined plan, as YAML.
    pub async fn plan(&self) -> Result<String, PebbleError> {
        let envelope = self.request(Method::GET, "/v1/plan?format=yaml", None, REQUEST_TIMEOUT).await?;
        Ok(envelope.result.as_str().unwrap_or_default().to_owned())
    }

    /// A service, if the plan has it.
    pub async fn service(&self, name: &str) -> Result<Option<Service>, PebbleError> {
        let path = format!("/v1/services?names={name}");
        let envelope = self.request(Method::GET, &path, None, REQUEST_TIMEOUT).await?;
        let services: Vec<Service> = serde_json::from_value(envelope.result)
            .map_err(|source| HttpError::Json { what: format!("GET {path}"), source })?;
        Ok(services.into_iter().find(|service| service.name == name))
    }

    /// Adds a layer, or combines it with the one of its label.
    pub async fn add_layer(&self, label: &str, yaml: &str) -> Result<(), PebbleError> {
        let body = json!({"action": "add", "combine": true, "label": label, "format": "yaml", "layer": yaml});
        self.request(Method::POST, "/v1/layers", Some(&body), REQUEST_TIMEOUT).await.map(drop)
    }

    /// Starts and restarts services as the plan requires, and waits until that is done.
    pub async fn replan(&self, time_limit: Duration) -> Result<(), PebbleError> {
        let started = Instant::now();
        let body = json!({"action": "replan"});
        let envelope = self.request(Method::POST, "/v1/services", Some(&body), REQUEST_TIMEOUT).await?;
        let Some(id) = envelope.change else { return Ok(()) };
        let left = time_limit.saturating_sub(started.elapsed());
        let path = format!("/v1/changes/{id}/wait?timeout={}ms", left.as_millis());
        let unfinished = || PebbleError::Unfinished { id: id.clone(), after: time_limit };
        let envelope = match self.request(Method::GET, &path, None, left + REQUEST_TIMEOUT).await {
            Err(PebbleError::Refused { code: 504, .. }) => return Err(unfinished()),
            answer => answer?,
        };
        let change: Change = serde_json::from_value(envelope.result)
            .map_err(|source| HttpError::Json { what: format!("GET {path}"), source })?;
        match (change.ready, change.err.as_str()) {
            (false, _) => Err(unfinished()),
            (true, "") => Ok(()),
            (true, message) => {
                let message = message.to_owned();
                Err(PebbleError::Change { id: change.id, status: change.status, message })
            }
        }
    }

    /// Ensures that Pebble runs the service as in the layer. If it already does, that takes two requests and no write, as
    /// Pebble records every replan. Returns whether anything was written.
    ///
    /// # Errors
    /// Those of the requests; [`PebbleError::Change`] where the service does not start.
    pub async fn ensure(&self, layer: &Layer, time_limit: Duration) -> Result<bool, PebbleError> {
        let plan = self.plan().await?;
        if plan.contains(&layer.summary()) {
            let service = self.service(layer::SERVICE).await?;
            if service.is_some_and(|service| matches!(service.current.as_str(), "active" | "backoff")) {
                return Ok(false);
            }
        } else {
            self.add_layer(layer::LABEL, layer.text()).await?;
        }
        self.replan(time_limit).await.map(|()| true)
    }

    /// Posts a notice.
    pub async fn notify(&self, key: &str, data: &BTreeMap<&str, &str>) -> Result<(), PebbleError> {
        let body = json!({"action": "add", "type": "custom", "key": key, "data": data});
        self.request(Method::POST, "/v1/notices", Some(&body), REQUEST_TIMEOUT).await.map(drop)
    }

    /// The last lines that services wrote, one JSON object a line.
    pub async fn logs(&self, services: &str, lines: u32) -> Result<String, PebbleError> {
        let path = format!("/v1/logs?services={services}&n={lines}&follow=false");
        let answer = self.client.send(Method::GET, &path, None, REQUEST_TIMEOUT).await?;
        if answer.is_success() {
            return Ok(String::from_utf8_lossy(&answer.body).into_owned());
        }
        Err(refused(&answer, String::new()))
    }

    /// The checks and their status.
    pub async fn checks(&self) -> Result<Value, PebbleError> {
        Ok(self.request(Method::GET, "/v1/checks", None, REQUEST_TIMEOUT).await?.result)
    }
}

fn refused(answer: &Response, message: String) -> PebbleError {
    PebbleError::Refused { what: answer.what.clone(), code: answer.code, message }
}
