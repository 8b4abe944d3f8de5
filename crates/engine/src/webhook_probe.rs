//! Whether a webhook really answers: a dry-run create of what it admits.

use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::{Cluster, CreateParams, RequestError};
use trainerd_plan::order;
use trainerd_plan::plan::{Plan, Probe};

/// The probes of a plan that a webhook configuration admits, one a kind.
pub(crate) fn probes(configuration: &Value, plan: &Plan) -> Vec<Probe> {
    let admitted = order::admitted(configuration);
    let mut probes: Vec<Probe> = Vec::new();
    for probe in &plan.probes {
        let concerns = admitted.iter().any(|(group, plural)| {
            *group == probe.resource.group && (plural == "*" || *plural == probe.resource.plural)
        });
        if concerns && probes.iter().all(|other| other.resource != probe.resource) {
            probes.push(placed(probe, &plan.installation.namespace));
        }
    }
    probes
}

/// A probe where its kind can be created: in the installation's namespace.
fn placed(probe: &Probe, namespace: &str) -> Probe {
    let mut probe = probe.clone();
    if probe.resource.namespaced {
        probe.manifest["metadata"]["namespace"] = json!(namespace);
    }
    probe
}

/// How long the first dry run may take. A call into an address whose route is still being laid hangs until the
/// webhook's own timeout; a fresh one gets through sooner.
pub(crate) const SHORTEST: Duration = Duration::from_secs(2);

/// How long a later one may take: the API server waits ten seconds for a webhook unless told otherwise.
pub(crate) const LONGEST: Duration = Duration::from_secs(12);

/// Asks; `Err` says what stood in the way.
///
/// Any answer that needed the webhook's word is an answer: also a refusal, or that the object exists. Only a
/// server that could not call it answers with an error of its own.
pub(crate) async fn ask(cluster: &Cluster, probes: &[Probe], patience: Duration) -> Result<(), String> {
    let cluster = cluster.with_timeout(patience);
    for probe in probes {
        let params = CreateParams { dry_run: true, ..CreateParams::default() };
        let answer = cluster.create(&probe.resource, &probe.manifest, params).await;
        if let Err(
            error @ (RequestError::Internal { .. }
            | RequestError::Timeout { .. }
            | RequestError::ServerBusy { .. }
            | RequestError::TooManyRequests { .. }
            | RequestError::Unreachable { .. }
            | RequestError::NotServed { .. }),
        ) = answer
        {
            return Err(error.to_string());
        }
    }
    Ok(())
}
