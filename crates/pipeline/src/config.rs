//! The configuration file of the manager: `config.trainer.kubeflow.org/v1alpha1`, `Configuration`. Read strictly, defaulted,
//! checked; every text of an error is upstream's.

mod decode;
mod defaults;
mod duration;
mod gates;
mod tls;
mod validate;

use std::collections::BTreeMap;

use serde_json::Value;

pub use self::duration::{format_duration, parse_duration};
pub use self::gates::{FeatureGates, GateError};
pub use self::tls::{TlsOptions, TlsWarning};
use crate::Compatibility;
use crate::value::{at, int32, is_true, text, texts};

/// Group and version of the file.
pub const API_VERSION: &str = "config.trainer.kubeflow.org/v1alpha1";
/// Kind of the file.
pub const KIND: &str = "Configuration";

/// Why a configuration is not to be used. All of them are fatal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read; the words are the caller's, for example `open /a: no such file or directory`.
    #[error("failed to read config file: {0}")]
    Read(String),
    /// It is not a configuration.
    #[error("failed to decode config file: {0}")]
    Decode(String),
    /// It says something that cannot be.
    #[error("invalid configuration: {0}")]
    Invalid(String),
}

/// A configuration with its defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    document: Value,
}

/// The section `leaderElection`. Nothing of it has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Whether there is an election.
    pub leader_elect: bool,
    /// How long a lease is good, in nanoseconds.
    pub lease_duration: i64,
    /// How long the holder tries to renew it, in nanoseconds.
    pub renew_deadline: i64,
    /// How often others try, in nanoseconds.
    pub retry_period: i64,
    /// Kind of the lock.
    pub resource_lock: String,
    /// Name of the lock.
    pub resource_name: String,
    /// Namespace of the lock; empty for the pod's.
    pub resource_namespace: String,
}

impl Default for Config {
    /// What there is without a file.
    fn default() -> Self {
        Self { document: defaults::fill(Value::Null) }
    }
}

impl Config {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let document = decode::decode(text).map_err(ConfigError::Decode)?;
        let config = Self { document: defaults::fill(document) };
        match crate::aggregate(validate::check(&config.document)) {
            Some(errors) => Err(ConfigError::Invalid(errors)),
            None => Ok(config),
        }
    }

    /// The defaulted configuration, as JSON.
    pub fn document(&self) -> &Value {
        &self.document
    }

    fn text(&self, path: &[&str]) -> &str {
        text(&self.document, path).unwrap_or_default()
    }

    fn port(&self, path: &[&str]) -> u16 {
        int32(&self.document, path).and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
    }

    fn rate(&self, section: &str) -> (f64, i32) {
        let qps = at(&self.document, &[section, "qps"]).as_f64().unwrap_or_default();
        (qps, int32(&self.document, &[section, "burst"]).unwrap_or_default())
    }

    /// Whose behaviour is asked for.
    pub fn compatibility(&self) -> Compatibility {
        if self.text(&["compatibility"]) == "upstream" {
            Compatibility::Upstream
        } else {
            Compatibility::Extended
        }
    }

    /// Where webhooks listen: host, empty for every address, and port.
    pub fn webhook(&self) -> (&str, u16) {
        (self.text(&["webhook", "host"]), self.port(&["webhook", "port"]))
    }

    /// The election, if the file has that section.
    pub fn leader_election(&self) -> Option<LeaderElection> {
        let section = at(&self.document, &["leaderElection"]);
        let duration =
            |key: &str| text(section, &[key]).and_then(|text| parse_duration(text).ok()).unwrap_or_default();
        let word = |key: &str| text(section, &[key]).unwrap_or_default().to_owned();
        section.is_object().then(|| LeaderElection {
            leader_elect: is_true(section, &["leaderElect"]),
            lease_duration: duration("leaseDuration"),
            renew_deadline: duration("renewDeadline"),
            retry_period: duration("retryPeriod"),
            resource_lock: word("resourceLock"),
            resource_name: word("resourceName"),
            resource_namespace: word("resourceNamespace"),
        })
    }

    /// Where metrics are served, `0` for nowhere; whether over TLS; whether only to those who may.
    pub fn metrics(&self) -> (&str, bool, bool) {
        let section = at(&self.document, &["metrics"]);
        (
            self.text(&["metrics", "bindAddress"]),
            is_true(section, &["secureServing"]),
            is_true(section, &["auth", "enabled"]),
        )
    }

    /// Where probes are served, `0` for nowhere; names of readiness and liveness.
    pub fn health(&self) -> (&str, &str, &str) {
        let name = |key: &str| self.text(&["health", key]);
        (name("healthProbeBindAddress"), name("readinessEndpointName"), name("livenessEndpointName"))
    }

    /// How many of a kind are reconciled at a time, by `<kind>.<group>`.
    pub fn concurrency(&self) -> BTreeMap<&str, i32> {
        let map = at(&self.document, &["controller", "groupKindConcurrency"]).as_object();
        let entries = map.into_iter().flatten();
        entries.filter_map(|(kind, count)| Some((kind.as_str(), int32(count, &[])?))).collect()
    }

    /// Whether certificates are made here; names of the Service and the Secret.
    pub fn certificates(&self) -> (bool, &str, &str) {
        let section = at(&self.document, &["certManagement"]);
        let name = |key: &str| self.text(&["certManagement", key]);
        (is_true(section, &["enable"]), name("webhookServiceName"), name("webhookSecretName"))
    }

    /// Requests a second of the manager's client, and in a burst.
    pub fn client_rate(&self) -> (f64, i32) {
        self.rate("clientConnection")
    }

    /// Port of the status server.
    pub fn status_port(&self) -> u16 {
        self.port(&["statusServer", "port"])
    }

    /// Requests a second of the status server's client, and in a burst.
    pub fn status_rate(&self) -> (f64, i32) {
        self.rate("statusServer")
    }

    /// Gates of the file, by name.
    pub fn feature_gates(&self) -> BTreeMap<&str, bool> {
        let entries = at(&self.document, &["featureGates"]).as_object().into_iter().flatten();
        entries.filter_map(|(gate, on)| Some((gate.as_str(), on.as_bool()?))).collect()
    }

    /// TLS of all servers.
    pub fn tls(&self) -> TlsOptions {
        let section = at(&self.document, &["tls"]);
        let version = text(section, &["minVersion"]).unwrap_or_default();
        TlsOptions::of(version, &texts(section, &["cipherSuites"]), texts(section, &["nextProtos"]))
    }
}

#[cfg(test)]
mod tests;
