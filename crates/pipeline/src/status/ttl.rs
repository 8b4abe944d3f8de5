//! A TrainJob that has ended may be deleted after a time: an addition of ours, requested by a field or an annotation.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::conditions::{Conditions, transition_time};
use super::events::{Event, EventKind};
use super::{Action, Outcome, Pass, is_deleting};
use crate::names::{EXTENDED, uid};
use crate::value::{at, text};

/// Label of a copy that MultiKueue made, which is the manager cluster's to delete.
const MULTIKUEUE_ORIGIN: &str = "kueue.x-k8s.io/multikueue-origin";

/// What the TrainJob says; `Err` holds an annotation that is no number of seconds.
fn seconds(train_job: &Value) -> Result<Option<i64>, &str> {
    if let Some(seconds) = at(train_job, &["spec", "ttlSecondsAfterFinished"]).as_i64() {
        return Ok(Some(seconds).filter(|seconds| *seconds >= 0));
    }
    let key = format!("{EXTENDED}/ttl-seconds-after-finished");
    match text(train_job, &["metadata", "annotations", &key]) {
        None => Ok(None),
        Some(text) => text.parse::<i32>().ok().filter(|n| *n >= 0).map(|n| Some(n.into())).ok_or(text),
    }
}

/// Deletes a TrainJob whose time is over, or tells when it will be.
pub(super) fn check(
    conditions: &Conditions,
    was: &Conditions,
    pass: &Pass<'_>,
    outcome: &mut Outcome,
) -> Option<Timestamp> {
    let is_copy = at(pass.train_job, &["metadata", "labels", MULTIKUEUE_ORIGIN]).is_string();
    let terminal = conditions.terminal()?;
    if is_copy || is_deleting(pass.train_job) {
        return None;
    }
    let seconds = match seconds(pass.train_job) {
        Ok(seconds) => seconds?,
        Err(value) => {
            if was.terminal().is_none() {
                let note =
                    format!("{EXTENDED}/ttl-seconds-after-finished is no number of seconds: {value:?}");
                outcome.events.push(Event { kind: EventKind::Warning, reason: "InvalidTTL", note });
            }
            return None;
        }
    };
    let end = transition_time(terminal)?.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    if pass.now < end {
        return Some(end);
    }
    outcome.events.push(Event {
        kind: EventKind::Normal,
        reason: "TTLExpired",
        note: format!("TrainJob ended {seconds} s ago or earlier"),
    });
    outcome.actions.push(Action::DeleteTrainJob {
        uid: uid(pass.train_job).to_owned(),
        resource_version: text(pass.train_job, &["metadata", "resourceVersion"])
            .unwrap_or_default()
            .to_owned(),
    });
    None
}
