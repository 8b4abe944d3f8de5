//! Without a daemon: the hook runs the command line of this very program, which does the work for as long as it may and
//! goes on in a later hook.

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

/// What is left at least for what the daemon kept: a request or two.
const LAST: Duration = Duration::from_secs(2);

/// Brings the installation to what the options say.
pub(super) async fn bring(
    environment: &Environment,
    options: &BTreeMap<String, Value>,
    left: Duration,
) -> Reason {
    match run(environment, &["up", "--yes", "--unasked"], options, Format::Json, left).await {
        Some(Run { code: Some(0), output, .. }) => left_to_people(&output).unwrap_or(Reason::Settled),
        // Its journal stays open, and the next hook goes on.
        Some(Run { code: Some(6), .. }) | None => Reason::Starting,
        Some(Run { code: Some(3), cause, .. }) => Reason::Refused { cause },
        Some(Run { code: Some(5), cause, .. }) => Reason::ApiUnavailable { cause },
        Some(Run { code: Some(7), cause, .. }) => Reason::LeaseHeld { holder: cause },
        Some(Run { cause, .. }) => Reason::Failed { cause },
    }
}

/// Why nothing was done, where a person has a word to say first: the last document says so.
fn left_to_people(output: &str) -> Option<Reason> {
    let mut last: Value = serde_json::from_str(output.lines().last()?).ok()?;
    (last["event"] == "left").then(|| serde_json::from_value(last["reason"].take()).ok()).flatten()
}

/// Takes the installation away.
pub(super) async fn remove(environment: &Environment, options: &BTreeMap<String, Value>, left: Duration) {
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
    take_away(environment, options, left).await;
    // What the daemon kept beside revisions is in none.
    if let Some(cluster) = cluster {
        let (name, namespace) = (environment.unit.application.clone(), environment.model.clone());
        let installation = Installation { name, namespace };
        let left = left.saturating_sub(started.elapsed()).max(LAST);
        let left_over = tokio::time::timeout(left, application::remove(&cluster, &installation)).await;
        for why in left_over.unwrap_or_else(|_| vec!["it took too long".to_owned()]) {
            warn_of!("not everything went: {why}");
        }
    }
}

/// Takes away what revisions have.
async fn take_away(environment: &Environment, options: &BTreeMap<String, Value>, left: Duration) {
    let deletes_crds = options.get("crd-policy").is_some_and(|policy| policy == "delete");
    let started = tokio::time::Instant::now();
    if deletes_crds {
        let purge = ["remove", "--yes", "--purge"];
        match run(environment, &purge, &BTreeMap::new(), Format::Json, left).await {
            // Refused: something is stored under them. Everything else goes all the same.
            Some(Run { code: Some(3), cause, .. }) => warn_of!("CRDs kept: {cause}"),
            other => return tell(other),
        }
    }
    let left = left.saturating_sub(started.elapsed());
    tell(run(environment, &["remove", "--yes"], &BTreeMap::new(), Format::Json, left).await);
}

/// A connection; nothing where there is none now.
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

fn tell(run: Option<Run>) {
    match run {
        Some(Run { code: Some(0), .. }) => {}
        Some(Run { cause, .. }) => warn_of!("not everything went: {cause}"),
        None => warn_of!("not everything went in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_person_is_read_from_the_last_document() {
        let left = r#"{"event":"left","reason":{"code":"Staged","args":{"version":"2.3.0"}}}"#;
        let text = format!("{{\"event\":\"planned\"}}\n{left}\n");
        assert_eq!(left_to_people(&text), Some(Reason::Staged { version: "2.3.0".to_owned() }));
        assert_eq!(left_to_people("{\"event\":\"finished\",\"revision\":1}\n"), None);
        assert_eq!(left_to_people(""), None);
    }
}
