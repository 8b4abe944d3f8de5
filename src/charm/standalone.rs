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

/// Applies the options; the reason of the status, and the trainer's version once it is installed and ready.
pub(super) async fn bring(
    environment: &Environment,
    options: &BTreeMap<String, Value>,
    left: Duration,
) -> (Reason, Option<String>) {
    let reason = match run(environment, &["up", "--yes", "--unasked"], options, Format::Json, left).await {
        Some(Run { code: Some(0), output, .. }) => return concluded(&output),
        // Its journal stays open, and the next hook goes on.
        Some(Run { code: Some(6), .. }) | None => Reason::Starting,
        Some(Run { code: Some(3), cause, .. }) => Reason::Refused { cause },
        Some(Run { code: Some(5), cause, .. }) => Reason::ApiUnavailable { cause },
        Some(Run { code: Some(7), cause, .. }) => Reason::LeaseHeld { holder: cause },
        Some(Run { cause, .. }) => Reason::Failed { cause },
    };
    (reason, None)
}

/// What the last document of a run without error says: that everything is ready, or why nothing was done before a
/// person decides.
fn concluded(output: &str) -> (Reason, Option<String>) {
    let last = output.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let mut last = last.unwrap_or_default();
    if last["event"] == "left"
        && let Ok(reason) = serde_json::from_value(last["reason"].take())
    {
        return (reason, None);
    }
    (Reason::Settled, last["versions"]["trainer"].as_str().map(str::to_owned))
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
    fn the_last_document_says_how_a_run_ended() {
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
            assert_eq!(concluded(&format!("{{\"event\":\"planned\"}}\n{last}\n")), expected, "{last}");
        }
        assert_eq!(concluded(""), settled(None));
    }
}
