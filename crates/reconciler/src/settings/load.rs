//! From the configuration file and the flags to what a manager does.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::CipherSuite;
use trainerd_pipeline::config::{Config, ConfigError, FeatureGates, GateError, LeaderElection, TlsOptions};
use trainerd_serve::TlsSettings;

use super::{BuildSettings, Environment, MetricsSettings, Rate, RotationSettings, Settings, StatusSettings};
use crate::election::{Election, ElectionError};
use crate::flags::Flags;

/// Requests a second, and at once, of a client that is told 0: client-go's.
const DEFAULT_RATE: Rate = Rate { a_second: 5.0, burst: 10 };

/// Why a manager does not know what to do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A feature gate.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The election.
    #[error(transparent)]
    Election(#[from] ElectionError),
}

impl Settings {
    /// Reads the configuration file, and what the flags say over it.
    pub(crate) fn load(flags: &Flags, environment: &Environment) -> Result<Self, SettingsError> {
        let config = match &flags.config {
            Some(path) => Config::read(&read(path)?)?,
            None => Config::default(),
        };
        let mut gates = FeatureGates::default();
        gates.set(config.feature_gates())?;
        gates.set_text(&flags.feature_gates)?;
        Self::of(&config, gates.train_job_status(), environment)
    }

    fn of(config: &Config, train_job_status: bool, environment: &Environment) -> Result<Self, SettingsError> {
        let (host, port) = config.webhook();
        let election = config.leader_election().filter(|it| it.leader_elect);
        let (address, secure, authenticate) = config.metrics();
        let metrics = is_listening(address).then(|| MetricsSettings {
            address: address.to_owned(),
            secure,
            authenticate,
        });
        let (probes, ready, live) = config.health();
        let (is_ours, service, secret) = config.certificates();
        let (service, secret) = (service.to_owned(), secret.to_owned());
        let status_port = config.status_port();
        Ok(Self {
            webhook: at(host, port),
            election: election.map(|it| parse_election(it, environment)).transpose()?,
            metrics,
            health: is_listening(probes).then(|| probes.to_owned()),
            readiness: paths("readyz", ready),
            liveness: paths("healthz", live),
            concurrency: config
                .concurrency()
                .into_iter()
                .map(|(kind, count)| (kind.to_owned(), u32::try_from(count).unwrap_or(1).max(1)))
                .collect(),
            rotation: is_ours.then(|| RotationSettings { service: service.clone(), secret: secret.clone() }),
            client: rate(config.client_rate()),
            status_server: train_job_status
                .then(|| StatusSettings { address: at("", status_port), rate: rate(config.status_rate()) }),
            build: Arc::new(BuildSettings {
                compatibility: config.compatibility(),
                service,
                secret,
                status_port: (status_port != 0).then(|| i32::from(status_port)),
                train_job_status,
            }),
            tls: tls(&config.tls()),
        })
    }
}

/// Reads a file; its errors are worded as Go words them.
fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        ConfigError::Read(match error.kind() {
            io::ErrorKind::NotFound => format!("open {path}: no such file or directory"),
            io::ErrorKind::PermissionDenied => format!("open {path}: permission denied"),
            io::ErrorKind::IsADirectory => format!("read {path}: is a directory"),
            _ => format!("read {path}: {error}"),
        })
    })
}

fn at(host: &str, port: u16) -> String {
    // A literal IPv6 address is written in brackets, or it runs into the port.
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_listening(address: &str) -> bool {
    address != "0"
}

/// The usual path and, if it is another, the one that the configuration names.
fn paths(usual: &str, named: &str) -> Vec<String> {
    let named = named.trim_matches('/');
    let other = (!named.is_empty() && named != usual).then(|| format!("/{named}"));
    std::iter::once(format!("/{usual}")).chain(other).collect()
}

fn parse_election(section: LeaderElection, environment: &Environment) -> Result<Election, ElectionError> {
    let duration = |nanoseconds: i64| Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default());
    if !matches!(section.resource_lock.as_str(), "" | "leases") {
        return Err(ElectionError::Lock(section.resource_lock));
    }
    let namespace = match section.resource_namespace {
        namespace if namespace.is_empty() => environment.namespace.clone(),
        namespace => namespace,
    };
    let election = Election {
        namespace,
        name: section.resource_name,
        lease_duration: duration(section.lease_duration),
        renew_deadline: duration(section.renew_deadline),
        retry_period: duration(section.retry_period),
        holder: environment.hosted.as_ref().and_then(|hosted| hosted.holder.clone()),
    };
    election.check()?;
    Ok(election)
}

fn rate((a_second, burst): (f64, i32)) -> Rate {
    let burst = u32::try_from(burst).unwrap_or_default();
    Rate {
        a_second: if a_second > 0.0 { a_second } else { DEFAULT_RATE.a_second },
        burst: if burst > 0 { burst } else { DEFAULT_RATE.burst },
    }
}

/// TLS 1.0 and 1.1 there are not: whoever asks for them gets 1.2.
fn tls(options: &TlsOptions) -> TlsSettings {
    const TLS12: u16 = 0x0303;
    const TLS13: u16 = 0x0304;
    for warning in &options.warnings {
        tracing::warn!(%warning, "the TLS configuration is not used as it is");
    }
    if (1..TLS12).contains(&options.min_version) {
        tracing::warn!("TLS 1.0 and 1.1 are not offered; the least version is TLS 1.2");
    }
    TlsSettings {
        only_tls13: options.min_version >= TLS13,
        cipher_suites: options.cipher_suites.iter().map(|suite| CipherSuite::from(*suite)).collect(),
        protocols: options.next_protocols.iter().map(|protocol| protocol.clone().into_bytes()).collect(),
        clients: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment { temporary: "/tmp".into(), namespace: "here".to_owned(), hosted: None }
    }

    fn load(text: &str) -> Result<Settings, SettingsError> {
        Settings::of(&Config::read(text)?, false, &environment())
    }

    #[test]
    fn address_0_disables_the_listener() {
        let settings =
            load("metrics: {bindAddress: \"0\"}\nhealth: {healthProbeBindAddress: \"0\"}\n").unwrap();
        assert!(settings.metrics.is_none() && settings.health.is_none());
        let settings = load("").unwrap();
        assert_eq!(settings.webhook, ":9443");
        assert_eq!(settings.health.as_deref(), Some(":8081"));
        assert_eq!(settings.metrics.unwrap().address, ":8443");
        assert!(settings.status_server.is_none() && settings.election.is_none());
        assert!(settings.rotation.is_some());
    }

    #[test]
    fn leader_election_needs_all_durations_and_the_lease_lock() {
        let text = |more: &str| {
            format!(
                "leaderElection: {{leaderElect: true, resourceName: r, leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s{more}}}"
            )
        };
        let election = load(&text("")).unwrap().election.unwrap();
        assert_eq!((election.namespace.as_str(), election.renew_deadline.as_secs()), ("here", 10));
        let election = load(&text(", resourceNamespace: there")).unwrap().election.unwrap();
        assert_eq!(election.namespace, "there");
        assert!(load(&text(", resourceLock: configmaps")).is_err());
        assert!(load("leaderElection: {leaderElect: false}").unwrap().election.is_none());
        let unnamed = load("leaderElection: {leaderElect: true}").unwrap_err();
        assert_eq!(unnamed.to_string(), "LeaderElectionID must be configured");
        assert!(load("leaderElection: {leaderElect: true, resourceName: r}").is_err(), "no times");
    }

    #[test]
    fn named_probes_are_added_to_the_default_ones() {
        let settings =
            load("health: {readinessEndpointName: ready, livenessEndpointName: healthz}\n").unwrap();
        assert_eq!(settings.readiness, ["/readyz", "/ready"]);
        assert_eq!(settings.liveness, ["/healthz"]);
    }

    #[test]
    fn unset_rates_are_client_go_defaults() {
        let settings = load("clientConnection: {qps: 0, burst: 0}\n").unwrap();
        assert_eq!((settings.client.a_second.to_bits(), settings.client.burst), (5.0_f64.to_bits(), 10));
        let settings = load("clientConnection: {qps: 7.5, burst: 3}\n").unwrap();
        assert_eq!((settings.client.a_second.to_bits(), settings.client.burst), (7.5_f64.to_bits(), 3));
    }

    #[test]
    fn unreadable_files_have_gos_error_messages() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| read(path).unwrap_err().to_string();
        let absent = folder.path().join("absent");
        let expected =
            format!("failed to read config file: open {}: no such file or directory", absent.display());
        assert_eq!(error(&absent), expected);
        let expected =
            format!("failed to read config file: read {}: is a directory", folder.path().display());
        assert_eq!(error(folder.path()), expected);
    }
}
