//! `spec.activeDeadlineSeconds`.

use jiff::{SignedDuration, Timestamp};

use super::conditions::{Conditions, FAILED, NewCondition, SUSPENDED};
use super::{Action, DEADLINE_EXCEEDED, Pass, is_deleting, is_suspended};
use crate::Compatibility;
use crate::value::{at, text};

/// Ends a TrainJob whose time is over, or tells when it will be.
pub(super) fn check(
    conditions: &mut Conditions,
    pass: &Pass<'_>,
    actions: &mut Vec<Action>,
) -> Option<Timestamp> {
    let seconds = at(pass.train_job, &["spec", "activeDeadlineSeconds"]).as_i64().unwrap_or(0);
    let is_leaving = pass.compatibility == Compatibility::Extended && is_deleting(pass.train_job);
    if seconds == 0 || conditions.is_finished() || is_suspended(pass.train_job) || is_leaving {
        return None;
    }
    let resumed = conditions.find(SUSPENDED).filter(|one| text(one, &["status"]) == Some("False"));
    let start = match resumed {
        Some(_) => conditions.changed_at(SUSPENDED)?,
        None => text(pass.train_job, &["metadata", "creationTimestamp"])?.parse().ok()?,
    };
    // A deadline beyond the end of the calendar is none; upstream overflows and ends the TrainJob at once.
    let deadline = start.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    if pass.now > deadline {
        let message = "TrainJob exceeded its active deadline";
        conditions.set(
            &NewCondition { kind: FAILED, status: "True", reason: DEADLINE_EXCEEDED, message },
            pass.now,
        );
        actions.push(Action::DeleteJobSet);
        return None;
    }
    let soonest = pass.now.checked_add(SignedDuration::from_secs(1)).unwrap_or(deadline);
    Some(if deadline <= pass.now { soonest } else { deadline })
}
