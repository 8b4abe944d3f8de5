//! Cases of the configuration file.

use serde_json::{Value, json};
use trainerd_pipeline::config::{Config, FeatureGates, format_duration};

/// What loading the file of a case gives.
pub(super) fn load(options: &Value) -> Value {
    let text = options["config"].as_str().unwrap_or_default();
    let config = match text {
        // No file is given at all.
        "" => Ok(Config::default()),
        text => Config::read(text),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => return json!({ "errors": [error.to_string()] }),
    };
    let mut gates = FeatureGates::default();
    let error = gates.set(config.feature_gates()).err();
    let tls = config.tls();
    let mut out = json!({
        "errors": [],
        "config": config.document(),
        "certManagementEnabled": config.certificates().0,
        "trainJobStatusEnabled": gates.train_job_status(),
        "tls": {
            "minVersion": tls.min_version,
            "cipherSuites": tls.cipher_suites,
            "nextProtos": tls.next_protocols,
        },
        "options": manager_options(&config),
    });
    if let Some(error) = error {
        out["featureGateError"] = error.to_string().into();
    }
    out
}

/// What upstream's manager is started with.
fn manager_options(config: &Config) -> Value {
    let election = config.leader_election();
    let word = |of: fn(&trainerd_pipeline::config::LeaderElection) -> &String| {
        election.as_ref().map_or(String::new(), |election| of(election).clone())
    };
    let mut options = json!({
        "healthProbeBindAddress": config.health().0,
        "leaderElection": election.as_ref().is_some_and(|election| election.leader_elect),
        "leaderElectionID": word(|election| &election.resource_name),
        "leaderElectionNamespace": word(|election| &election.resource_namespace),
        "leaderElectionResourceLock": word(|election| &election.resource_lock),
        // The manager's own metrics server is never started.
        "metricsBindAddress": "0",
    });
    if let Some(election) = &election {
        options["leaseDuration"] = format_duration(election.lease_duration).into();
        options["renewDeadline"] = format_duration(election.renew_deadline).into();
        options["retryPeriod"] = format_duration(election.retry_period).into();
    }
    let concurrency = config.concurrency();
    if !concurrency.is_empty() {
        options["groupKindConcurrency"] = json!(concurrency);
    }
    options
}
