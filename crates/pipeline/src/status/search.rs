//! A trial whose OptimizationJob has failed: it ends, as one does whose deadline is exceeded.

use super::conditions::{Conditions, FAILED, NewCondition};
use super::{Action, JobSetLookup, Pass, is_deleting};
use crate::value::text;

/// Reason of a trial that ended so.
const REASON: &str = "OptimizationJobFailed";

/// Ends a trial of a search that has failed. What has ended before stays as it is.
pub(super) fn check(conditions: &mut Conditions, pass: &Pass<'_>, actions: &mut Vec<Action>) {
    let Some(message) = pass.search_failed else { return };
    if is_deleting(pass.train_job) {
        return;
    }
    if !conditions.is_finished() {
        conditions.set(&NewCondition { kind: FAILED, status: "True", reason: REASON, message }, pass.now);
    }
    let is_ended_here = conditions.find(FAILED).is_some_and(|one| text(one, &["reason"]) == Some(REASON));
    // Also where whoever ended it was killed before it came to this.
    if is_ended_here && matches!(pass.job_set, JobSetLookup::Found(_)) {
        actions.push(Action::DeleteJobSet);
    }
}
