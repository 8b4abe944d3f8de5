//! Without a daemon: the hook runs the command line of this very program, which does the work for as long as it may and
//! goes on in a later hook.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use trainerd_cluster::{Cluster, ConnectOptions};
use trainerd_juju::environment::Environment;
use trainerd_juju::status::Reason;
use trainerd_plan::desired::Installation;

use super::dispatch::warn;
use crate::application;
use crate::training::jobs;

/// What is left at least for what the daemon kept: a request or two.
const LAST: Duration = Duration::from_secs(2);

/// How a run of the command line ended.
struct Run {
    code: Option<i32>,
    /// What it says is wrong.
    cause: String,
}

/// Brings the installation to what the options say.
pub(super) async fn bring(
    environment: &Environment,
    options: &BTreeMap<String, Value>,
    left: Duration,
) -> Reason {
    match run(environment, &["up", "--yes"], options, left).await {
        Some(Run { code: Some(0), .. }) => Reason::Settled,
        // Its journal stays open, and the next hook goes on.
        Some(Run { code: Some(6), .. }) | None => Reason::Starting,
        Some(Run { code: Some(3), cause }) => Reason::Refused { cause },
        Some(Run { code: Some(5), cause }) => Reason::ApiUnavailable { cause },
        Some(Run { code: Some(7), cause }) => Reason::LeaseHeld { holder: cause },
        Some(Run { cause, .. }) => Reason::Failed { cause },
    }
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
        match run(environment, &["remove", "--yes", "--purge"], &BTreeMap::new(), left).await {
            // Refused: something is stored under them. Everything else goes all the same.
            Some(Run { code: Some(3), cause }) => warn_of!("CRDs kept: {cause}"),
            other => return tell(other),
        }
    }
    let left = left.saturating_sub(started.elapsed());
    tell(run(environment, &["remove", "--yes"], &BTreeMap::new(), left).await);
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

/// Runs the command line; `None` where it took too long, which it says itself where it can.
async fn run(
    environment: &Environment,
    verb: &[&str],
    options: &BTreeMap<String, Value>,
    left: Duration,
) -> Option<Run> {
    // It ends by itself before it is made to.
    let timeout = left.saturating_sub(Duration::from_secs(1)).as_millis();
    let mut command = Command::new("/proc/self/exe");
    command.args(verb).args(["--name", &environment.unit.application, "--namespace", &environment.model]);
    command.args(["--timeout", &format!("{timeout}ms"), "-o", "json", "--for-daemon"]);
    for (name, value) in options {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command.args(["--set", &format!("{name}={value}")]);
    }
    command.env("TRAINERD_NAMING", "charm").env_remove("JUJU_DISPATCH_PATH");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(left, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            warn(&error);
            return Some(Run { code: None, cause: error.to_string() });
        }
        Err(_) => return None,
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The last line that is a problem as JSON is why.
    let problem = stderr.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let problem = problem.unwrap_or_default();
    let causes = problem["causes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts: Vec<&str> = problem["message"].as_str().into_iter().chain(causes).collect();
    Some(Run { code: output.status.code(), cause: texts.join(": ") })
}
