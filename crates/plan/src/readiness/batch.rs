//! Jobs. A Job that runs is current: it does what its specification asks; its end is another question.

use serde_json::Value;

use super::Readiness;
use super::fields::{conditions, count, flag, int, text};

pub(super) fn job(object: &Value) -> Readiness {
    let completions =
        int(object, "/spec/completions").or_else(|| int(object, "/spec/parallelism")).unwrap_or(1);
    let succeeded = count(object, "/status/succeeded");
    let failed = count(object, "/status/failed");
    for condition in conditions(object).filter(|c| c.status == "True") {
        match condition.kind {
            "Complete" => {
                return Readiness::current(format!("complete, {succeeded}/{completions} succeeded"));
            }
            "Failed" => {
                let why = if condition.message.is_empty() { condition.reason } else { condition.message };
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                return Readiness::failed("JobFailed", format!("failed, {failed} pods failed{why}"));
            }
            // A condition left from before a resume does not count.
            "Suspended" if flag(object, "/spec/suspend") => {
                return Readiness::current("suspended, as specified");
            }
            _ => {}
        }
    }
    if text(object, "/status/startTime").is_none() {
        return Readiness::in_progress("JobNotStarted", "not yet started");
    }
    let active = count(object, "/status/active");
    Readiness::current(format!("running: {active} active, {succeeded} succeeded, {failed} failed"))
}
