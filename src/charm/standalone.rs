//! Without a daemon: the hook runs the command line of this program within its time limit, and a later hook continues.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use trainerd_cluster::{Cluster, ConnectOptions};
use trainerd_juju::environment::Environment;
use trainerd_juju::status::Reason;
use trainerd_plan::desired::Installation;

use super::command_line::{Format, Run, run};
use super::dispatch::warn;
use crate::application;
use crate::training::jobs;

/// Minimum time for removing what the daemon stored: a request or two.
const MIN_REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Applies the options; returns the reason to show and, once everything is ready, the trainer's version.
pub(super) async fn apply(
    environment: &Environment,
    options: &BTreeMap<String, Value>,
    timeout: Duration,
) -> (Reason, Option<String>) {
    let reason = match run(environment, &["up", "--yes", "--unasked"], options, Format::Json, timeout).await {
        Some(Run { code: Some(0), output, .. }) => return outcome(&output),
        // Its journal stays open, and the next hook continues.
        Some(Run { code: Some(6), .. }) | None => Reason::Starting,
        Some(Run { code: Some(3), cause, .. }) => Reason::Refused { cause },
        Some(Run { code: Some(5), cause, .. }) => Reason::ApiUnavailable { cause },
        Some(Run { code: Some(7), output, cause, .. }) => {
            Reason::LeaseHeld { holder: lease_holder(&output).unwrap_or(cause) }
        }
        Some(Run { cause, .. }) => Reason::Failed { cause },
    };
    (reason, None)
}

/// Who held the lease when the run waited for it last.
fn lease_holder(output: &str) -> Option<String> {
    let waits = output.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut holders = waits.filter(|event| event["event"] == "waiting" && event["on"]["reason"] == "Lease");
    holders.find_map(|event| event["on"]["holder"].as_str().map(str::to_owned))
}

/// What the last document of a successful run says: everything is ready, or the upgrade waits for approval.
fn outcome(output: &str) -> (Reason, Option<String>) {
    let last = output.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let mut last = last.unwrap_or_default();
    if last["event"] == "left"
        && let Ok(reason) = serde_json::from_value(last["reason"].take())
    {
        return (reason, None);
    }
    (Reason::Settled, last["versions"]["trainer"].as_str().map(str::to_owned))
}

/// Removes the installation.
pub(super) async fn remove(environment: &Environment, options: &BTreeMap<String, Value>, timeout: Duration) {
    let cluster = connect(environment).await;
    let jobs = match &cluster {
        Some(cluster) => jobs::count(cluster).await,
        None => None,
    };
    if let Some(why) = jobs::stays(jobs) {
        warn_of!("{why}");
        return;
    }
    let started = tokio::time::Instant::now();
    remove_revisions(environment, options, timeout).await;
    // The application's own objects are in no revision.
    if let Some(cluster) = cluster {
        let (name, namespace) = (environment.unit.application.clone(), environment.model.clone());
        let installation = Installation { name, namespace };
        let timeout = timeout.saturating_sub(started.elapsed()).max(MIN_REMOVE_TIMEOUT);
        let left_over = tokio::time::timeout(timeout, application::remove(&cluster, &installation)).await;
        for why in left_over.unwrap_or_else(|_| vec!["it took too long".to_owned()]) {
            warn_of!("not everything went: {why}");
        }
    }
}

/// Removes what is in revisions.
async fn remove_revisions(environment: &Environment, options: &BTreeMap<String, Value>, timeout: Duration) {
    let deletes_crds = options.get("crd-policy").is_some_and(|policy| policy == "delete");
    let started = tokio::time::Instant::now();
    if deletes_crds {
        let purge = ["remove", "--yes", "--purge"];
        match run(environment, &purge, &BTreeMap::new(), Format::Json, timeout).await {
            // Refused because objects of these CRDs exist: everything else is removed nevertheless.
            Some(Run { code: Some(3), cause, .. }) => warn_of!("CRDs kept: {cause}"),
            other => return warn_on_failure(other),
        }
    }
    let timeout = timeout.saturating_sub(started.elapsed());
    warn_on_failure(run(environment, &["remove", "--yes"], &BTreeMap::new(), Format::Json, timeout).await);
}

/// Connects to the cluster; `None` if that fails now.
async fn connect(environment: &Environment) -> Option<Cluster> {
    let options = ConnectOptions {
        kubeconfig: None,
        context: None,
        user_agent: format!("trainerd/{} (charm {})", env!("CARGO_PKG_VERSION"), environment.unit),
        field_manager: "trainerd".to_owned(),
        observer: None,
        patience: Some(Duration::ZERO),
        waits: None,
    };
    Cluster::connect(options).await.inspect_err(|error| warn(error)).ok()
}

fn warn_on_failure(run: Option<Run>) {
    match run {
        Some(Run { code: Some(0), .. }) => {}
        Some(Run { cause, .. }) => warn_of!("not everything went: {cause}"),
        None => warn_of!("not everything went in time"),
    }
}

#[cfg(test)]
mod tests {
    use trainerd_engine::Event;
    use trainerd_plan::reason::WaitingOn;

    use super::*;

    #[test]
    fn the_outcome_is_read_from_the_last_document() {
        let staged = Reason::Staged { version: "2.3.0".to_owned() };
        let settled = |version: Option<&str>| (Reason::Settled, version.map(str::to_owned));
        let rows = [
            (r#"{"event":"left","reason":{"code":"Staged","args":{"version":"2.3.0"}}}"#, (staged, None)),
            (
                r#"{"event":"finished","revision":1,"versions":{"jobset":"0.12.0","trainer":"2.3.0"}}"#,
                settled(Some("2.3.0")),
            ),
            (r#"{"event":"finished","revision":1}"#, settled(None)),
        ];
        for (last, expected) in rows {
            assert_eq!(outcome(&format!("{{\"event\":\"planned\"}}\n{last}\n")), expected, "{last}");
        }
        assert_eq!(outcome(""), settled(None));
    }

    #[test]
    fn the_lease_holder_is_read_from_the_last_wait() {
        let on = WaitingOn::Lease { holder: "kubeflow-trainer/0".to_owned() };
        let waiting = serde_json::to_string(&Event::Waiting { object: None, on }).unwrap();
        assert_eq!(lease_holder(&format!("{waiting}\n")).as_deref(), Some("kubeflow-trainer/0"));
        assert_eq!(lease_holder("{\"event\":\"planned\"}\n"), None);
    }
}
