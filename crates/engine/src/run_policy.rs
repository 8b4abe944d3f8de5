//! How plans run under a revision's own options.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use trainerd_plan::drift::{Ignored, Policy};
use trainerd_plan::request::Conflicts;

/// How plans run under a revision's own options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPolicy {
    /// Option `settle`.
    pub settle: Duration,
    /// Option `progress-deadline`.
    pub progress_deadline: Duration,
    /// Option `auto-rollback`.
    pub auto_rollback: bool,
    /// Option `conflicts`.
    pub conflicts: Conflicts,
    /// Option `drift-policy`.
    pub drift_policy: Policy,
    /// Option `drift-ignore`.
    pub drift_ignore: Vec<Ignored>,
    /// Option `revision-history`.
    pub revision_history: usize,
    /// Option `retry-failed`; `None`: never.
    pub retry_failed: Option<Duration>,
}

impl RunPolicy {
    /// The policy that a revision's options set; what it does not say is as `config.yaml` has it.
    pub fn of(options: &BTreeMap<String, Value>) -> Self {
        let number = |name: &str, default: u64| options.get(name).and_then(Value::as_u64).unwrap_or(default);
        let conflicts = options.get("conflicts").cloned();
        let text = |name: &str| options.get(name).and_then(Value::as_str).unwrap_or_default();
        Self {
            settle: Duration::from_secs(number("settle", 5)),
            progress_deadline: Duration::from_secs(number("progress-deadline", 600)),
            auto_rollback: options.get("auto-rollback").and_then(Value::as_bool).unwrap_or(true),
            conflicts: conflicts.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default(),
            drift_policy: text("drift-policy").parse().unwrap_or_default(),
            drift_ignore: Ignored::list(text("drift-ignore")).unwrap_or_default(),
            retry_failed: Some(number("retry-failed", 0)).filter(|pause| *pause > 0).map(Duration::from_secs),
            revision_history: usize::try_from(number("revision-history", 10)).unwrap_or(10),
        }
    }
}
