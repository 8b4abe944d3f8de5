//! The daemon, as the charm asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use trainerd_juju::desired::{Desired, SCHEMA};
use trainerd_juju::http::{Answer, Client, HttpError};
use trainerd_juju::status::Reason;

/// Longest that an answer may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time between two looks for a daemon that starts.
const INTERVAL: Duration = Duration::from_millis(50);

/// How the installation is.
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

/// Why the daemon did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum DaemonError {
    /// There is no answer.
    #[error("failed to ask the daemon")]
    Http(#[from] HttpError),
    /// It is of another release.
    #[error("the daemon {daemon} has another API version than the charm {charm}")]
    Mismatch { daemon: String, charm: String },
    /// It refuses.
    #[error("the daemon answers {code} to {what}: {message}")]
    Refused { what: String, code: u16, reason: String, message: String },
}

impl DaemonError {
    /// What it is in a status.
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

    /// Waits until it answers, and holds its API against ours.
    pub(super) async fn wait_for(&self, patience: Duration) -> Result<(), DaemonError> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
            api: u32,
        }
        let end = Instant::now() + patience;
        let answer = loop {
            match self.client.send(Method::GET, "/v1/version", None, PATIENCE.min(patience)).await {
                Ok(answer) => break answer,
                Err(error) if Instant::now() >= end => return Err(error.into()),
                Err(_) => sleep(INTERVAL).await,
            }
        };
        let version: Version = accepted(&answer)?.json()?;
        if version.api == SCHEMA {
            return Ok(());
        }
        Err(DaemonError::Mismatch { daemon: version.version, charm: env!("CARGO_PKG_VERSION").to_owned() })
    }

    /// Says what shall be; returns its generation.
    pub(super) async fn desire(&self, desired: &Desired) -> Result<String, DaemonError> {
        let body = desired.to_json();
        let answer = self.client.send(Method::PUT, "/v1/desired", Some(&body), PATIENCE).await?;
        accepted(&answer)?;
        Ok(body["generation"].as_str().unwrap_or_default().to_owned())
    }

    /// How it is: as soon as it is settled for that generation, at the latest after `wait`.
    pub(super) async fn status(
        &self,
        generation: Option<&str>,
        wait: Duration,
    ) -> Result<DaemonStatus, DaemonError> {
        let of = generation.map(|generation| format!("&generation={generation}")).unwrap_or_default();
        let path = format!("/v1/status?wait={}ms{of}", wait.as_millis());
        let answer = self.client.send(Method::GET, &path, None, wait + PATIENCE).await?;
        Ok(accepted(&answer)?.json()?)
    }

    /// Everything that it knows of the installation.
    pub(super) async fn view(&self) -> Result<Value, DaemonError> {
        let answer = self.client.send(Method::GET, "/v1/installation", None, PATIENCE).await?;
        Ok(accepted(&answer)?.json()?)
    }

    /// Asks for an action, and waits for what comes of it.
    pub(super) async fn act(&self, name: &str, body: &Value, wait: Duration) -> Result<Value, DaemonError> {
        let path = format!("/v1/actions/{name}");
        let answer = self.client.send(Method::POST, &path, Some(body), Duration::from_secs(10)).await?;
        let accepted_answer: Value = accepted(&answer)?.json()?;
        let Some(operation) = accepted_answer["operation"].as_str() else { return Ok(accepted_answer) };
        let end = Instant::now() + wait;
        loop {
            // The daemon lets nobody wait for longer than a minute at a time.
            let step = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(30));
            let path = format!("/v1/operations/{operation}?wait={}ms", step.as_millis());
            let answer = self.client.send(Method::GET, &path, None, step + PATIENCE).await?;
            let mut now: Value = accepted(&answer)?.json()?;
            if now["state"] != "in-progress" || Instant::now() >= end {
                now["operation"] = operation.into();
                return Ok(now);
            }
        }
    }
}

/// The answer, if it is one that says yes.
fn accepted(answer: &Answer) -> Result<&Answer, DaemonError> {
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
