//! The objective of a trial: a metric that it reported.

use serde_json::Value;

use crate::value::{items, text};

/// Why a trial that completed has no objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoObjective {
    #[error("ObjectiveMetricMissing: no metric {0:?} was reported")]
    Missing(String),
    #[error("ObjectiveMetricInvalid: the metric {metric:?} is {value:?}, which is no finite number")]
    Invalid { metric: String, value: String },
}

/// The value of a metric in the last report of a TrainJob.
pub(super) fn of(train_job: &Value, metric: &str) -> Result<f64, NoObjective> {
    let metrics = items(train_job, &["status", "trainerStatus", "metrics"]);
    let reported = metrics.iter().rev().find(|it| text(it, &["name"]) == Some(metric));
    let Some(value) = reported.and_then(|it| text(it, &["value"])) else {
        return Err(NoObjective::Missing(metric.to_owned()));
    };
    let number = value.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| NoObjective::Invalid { metric: metric.to_owned(), value: value.to_owned() })
}
