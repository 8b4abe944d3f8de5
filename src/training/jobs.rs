//! How many TrainJobs there are, and run: counted a page at a time.
//!
//! There may be tens of thousands. Whether one runs is in its spec and its conditions, which neither metadata nor the
//! columns of a table tell, so objects are read whole, but no more than a page of them is in memory.

use serde::Serialize;
use serde_json::Value;
use trainerd_cluster::{Cluster, ListParams, RequestError};
use trainerd_plan::object::kinds;

/// TrainJobs a page: a few MB as JSON values where each is large.
const PAGE: usize = 200;
/// TrainJobs in all namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Jobs {
    pub(crate) running: usize,
    pub(crate) total: usize,
}

/// Counts TrainJobs. Where the kind is not served, there are none.
pub(crate) async fn count(cluster: &Cluster) -> Option<Jobs> {
    let mut jobs = Jobs::default();
    let each = |job: Value| {
        jobs.total += 1;
        jobs.running += usize::from(is_running(&job));
    };
    match cluster.for_each(&kinds::train_job(), &ListParams::default(), PAGE, each).await {
        Ok(_) => Some(jobs),
        Err(error) if error.is_absent() => Some(Jobs::default()),
        Err(error) => {
            let error: &RequestError = &error;
            tracing::warn!(%error, "failed to count TrainJobs");
            None
        }
    }
}

/// Neither over nor suspended.
fn is_running(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let holds = |condition: &Value| {
        condition["status"] == "True"
            && matches!(condition["type"].as_str(), Some("Complete" | "Failed" | "Suspended"))
    };
    job["spec"]["suspend"] != true && !conditions.into_iter().any(holds)
}

/// Why an installation stays whose TrainJobs run, or may run; `None` where it may go.
pub(crate) fn stays(jobs: Option<Jobs>) -> Option<String> {
    match jobs {
        Some(Jobs { running: 0, .. }) => None,
        Some(Jobs { running, .. }) => Some(format!("left in place: {running} running TrainJobs")),
        None => Some("left in place: it is not known whether TrainJobs run".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finished_and_suspended_jobs_are_not_running() {
        let job = |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
        assert!(is_running(&json!({})) && is_running(&job("Created")));
        for over in ["Complete", "Failed", "Suspended"] {
            assert!(!is_running(&job(over)), "{over}");
        }
        assert!(!is_running(&json!({"spec": {"suspend": true}})));
    }
}
