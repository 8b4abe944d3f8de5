//! Client of the daemon's API.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use trainerd_juju::desired::{Desired, SCHEMA};
use trainerd_juju::http::{Client, HttpError, Response};
use trainerd_juju::status::Reason;

/// Time limit of a request, beside what it asks the daemon to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Time between two attempts to reach a daemon that starts.
const INTERVAL: Duration = Duration::from_millis(50);

/// Status of the installation.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct DaemonStatus {
    pub(super) generation: Option<String>,
    pub(super) settled: bool,
    pub(super) phase: String,
    pub(super) reason: Reason,
    pub(super) revision: Option<u64>,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) jobs: Option<Jobs>,
    #[serde(flatten)]
    pub(super) rest: BTreeMap<String, Value>,
}

/// TrainJobs of all namespaces.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Jobs {
    pub(super) running: usize,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DaemonError {
    /// No answer.
    #[error("failed to ask the daemon")]
    Http(#[from] HttpError),
    /// The daemon has another API version.
    #[error("the daemon {daemon} has another API version than the charm {charm}")]
    Mismatch { daemon: String, charm: String },
    /// The daemon answered with an error.
    #[error("the daemon answers {code} to {what}: {message}")]
    Refused { what: String, code: u16, reason: String, message: String },
}

impl DaemonError {
    /// The reason for the unit's status.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Http(_) | Self::Refused { code: 503, .. } => Reason::NoDaemon,
            Self::Mismatch { daemon, charm } => {
                Reason::ApiMismatch { daemon: daemon.clone(), charm: charm.clone() }
            }
            Self::Refused { reason, .. } if reason == "ApiMismatch" => Reason::ApiMismatch {
                daemon: "unknown".to_owned(),
                charm: env!("CARGO_PKG_VERSION").to_owned(),
            },
            Self::Refused { message, .. } => Reason::Refused { cause: message.clone() },
        }
    }
}

/// The daemon.
pub(super) struct Daemon {
    client: Client,
}

impl Daemon {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Waits until it answers, and compares its API version with ours.
    pub(super) async fn wait_for(&self, timeout: Duration) -> Result<(), DaemonError> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
            api: u32,
        }
        let end = Instant::now() + timeout;
        let answer = loop {
            match self.client.send(Method::GET, "/v1/version", None, REQUEST_TIMEOUT.min(timeout)).await {
                Ok(answer) => break answer,
                Err(error) if Instant::now() >= end => return Err(error.into()),
                Err(_) => sleep(INTERVAL).await,
            }
        };
        let version: Version = ensure_success(&answer)?.json()?;
        if version.api == SCHEMA {
            return Ok(());
        }
        Err(DaemonError::Mismatch { daemon: version.version, charm: env!("CARGO_PKG_VERSION").to_owned() })
    }

    /// Sends the desired state; returns its generation.
    pub(super) async fn put_desired(&self, desired: &Desired) -> Result<String, DaemonError> {
        let body = desired.to_json();
        let answer = self.client.send(Method::PUT, "/v1/desired", Some(&body), REQUEST_TIMEOUT).await?;
        ensure_success(&answer)?;
        Ok(body["generation"].as_str().unwrap_or_default().to_owned())
    }

    /// The status: as soon as that generation is settled, at the latest after `wait`.
    pub(super) async fn status(
        &self,
        generation: Option<&str>,
        wait: Duration,
    ) -> Result<DaemonStatus, DaemonError> {
        let query = generation.map(|generation| format!("&generation={generation}")).unwrap_or_default();
        let path = format!("/v1/status?wait={}ms{query}", wait.as_millis());
        let answer = self.client.send(Method::GET, &path, None, wait + REQUEST_TIMEOUT).await?;
        Ok(ensure_success(&answer)?.json()?)
    }

    /// The full view of the installation.
    pub(super) async fn view(&self) -> Result<Value, DaemonError> {
        let answer = self.client.send(Method::GET, "/v1/installation", None, REQUEST_TIMEOUT).await?;
        Ok(ensure_success(&answer)?.json()?)
    }

    /// Starts an operation and waits for its result.
    pub(super) async fn run_operation(
        &self,
        name: &str,
        body: &Value,
        wait: Duration,
    ) -> Result<Value, DaemonError> {
        let path = format!("/v1/actions/{name}");
        let answer = self.client.send(Method::POST, &path, Some(body), Duration::from_secs(10)).await?;
        let started: Value = ensure_success(&answer)?.json()?;
        let Some(operation) = started["operation"].as_str() else { return Ok(started) };
        let end = Instant::now() + wait;
        loop {
            // The daemon limits a wait to a minute.
            let step = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(30));
            let path = format!("/v1/operations/{operation}?wait={}ms", step.as_millis());
            let answer = self.client.send(Method::GET, &path, None, step + REQUEST_TIMEOUT).await?;
            let mut now: Value = ensure_success(&answer)?.json()?;
            if now["state"] != "in-progress" || Instant::now() >= end {
                now["operation"] = operation.into();
                return Ok(now);
            }
        }
    }
}

/// The answer if it is a success, else the error in its body.
fn ensure_success(answer: &Response) -> Result<&Response, DaemonError> {
    if answer.is_success() {
        return Ok(answer);
    }
    let body: Value = answer.json().unwrap_or_default();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let message = match body["errors"].as_array().and_then(|errors| errors.first()) {
        Some(error) => format!(
            "{}: {}",
            error["option"].as_str().unwrap_or_default(),
            error["rule"].as_str().unwrap_or_default()
        ),
        None => text("message"),
    };
    Err(DaemonError::Refused {
        what: answer.what.clone(),
        code: answer.code,
        reason: text("reason"),
        message,
    })
}
