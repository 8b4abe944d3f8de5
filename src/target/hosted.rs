//! A reconciler that is left to daemons: whether one runs, as its lease tells.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use trainerd_cluster::builtin;
use trainerd_engine::{Engine, EngineError};
use trainerd_plan::desired::Desired;

use crate::problem::Problem;

/// The lease of whoever reconciles TrainJobs.
const LEASE: &str = "trainer.kubeflow.org";
/// By how much a renewal may seem to be late: the clock of its holder is another one.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Whether a revision leaves the reconciler to a daemon, and none hosts one.
pub(crate) async fn is_absent(engine: &Engine, desired: &Desired) -> Result<bool, Problem> {
    if desired.options.get("reconciler").and_then(Value::as_str) != Some("hosted") {
        return Ok(false);
    }
    let namespace = &desired.installation.namespace;
    let lease = engine.cluster().get_opt(&builtin::lease(), Some(namespace), LEASE).await;
    let failed = |source| EngineError::Request { action: "read", what: format!("lease {LEASE}"), source };
    let lease = lease.map_err(failed)?;
    Ok(!lease.is_some_and(|lease| is_held(&lease, Timestamp::now())))
}

/// Whether somebody holds a lease.
fn is_held(lease: &Value, now: Timestamp) -> bool {
    let spec = &lease["spec"];
    let holder = spec["holderIdentity"].as_str().unwrap_or_default();
    let renewed: Option<Timestamp> = spec["renewTime"].as_str().and_then(|time| time.parse().ok());
    let lasts = SignedDuration::from_secs(spec["leaseDurationSeconds"].as_i64().unwrap_or_default());
    !holder.is_empty() && renewed.is_some_and(|renewed| now.duration_since(renewed) < lasts + SKEW)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_is_held_while_it_is_renewed() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let lease = |holder: &str, renewed: &str| json!({"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}});
        for (holder, renewed, expected) in [
            ("a", "2026-01-01T00:09:58.000000Z", true),
            ("a", "2026-01-01T00:10:30.000000Z", true),
            ("a", "2026-01-01T00:08:46.000000Z", true),
            ("a", "2026-01-01T00:08:44.000000Z", false),
            ("", "2026-01-01T00:09:58.000000Z", false),
            ("a", "", false),
        ] {
            assert_eq!(is_held(&lease(holder, renewed), now), expected, "{holder} {renewed}");
        }
    }
}
