//! What becomes of an OptimizationJob (Kubeflow Trainer's KEP-3562): trials, which are TrainJobs made from its template,
//! each with other values of its parameters, until as many have ended as are asked for; and which of them is the best.
//!
//! A trial is told its values by environment variables of its training container, `KUBEFLOW_TRAINER_OPT_<NAME>`, as the
//! KEP says. Kubernetes expands `$(KUBEFLOW_TRAINER_OPT_<NAME>)` in `command`, `args` and later variables, so that a
//! program that takes flags needs no change. The objective is the metric of that name in the TrainJob's
//! `status.trainerStatus`, which the status server keeps.
//!
//! Nothing is remembered beside the objects themselves. The trial of a number has one name, and its values follow from the
//! job and, for TPE, from the trials that have ended before: whoever starts again continues with the same sequence.

mod grid;
mod objective;
mod random;
mod search;
mod space;
mod status;
mod tpe;
mod trial;
mod validate;

use jiff::Timestamp;
use serde_json::Value;

pub use self::status::Outcome;
pub use self::validate::validate;
use crate::names::name;
use crate::status::{Conditions, FAILED};
use crate::value::text;
use search::Search;
use trial::{State, Trial};

/// Prefix of the variables by which a trial is told its values.
pub const VARIABLE: &str = "KUBEFLOW_TRAINER_OPT_";
/// Most trials of a job, as its CRD bounds them.
const MAX_TRIALS: u32 = 100;

/// What a pass has done and seen.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The OptimizationJob as it was read.
    pub job: &'a Value,
    /// Its TrainJobs, those that were created in this pass among them.
    pub trials: &'a [Value],
    /// Why a trial could not be created.
    pub failure: Option<&'a str>,
    /// The time.
    pub now: Timestamp,
}

/// Names that the TrainJobs of a job may have, in the order of their numbers.
pub fn trial_names(job: &Value) -> Vec<String> {
    (0..MAX_TRIALS).map(|number| trial::name_of(name(job), number)).collect()
}

/// Whether a TrainJob is a trial of this very job.
pub fn is_trial_of(job: &Value, train_job: &Value) -> bool {
    trial::is_of(job, train_job)
}

/// Whether a job has ended, well or not.
pub fn is_finished(job: &Value) -> bool {
    Conditions::of(job).is_finished()
}

/// What a trial of this very job is told where the job has failed: with it, it ends.
pub fn failure_for(job: &Value, train_job: &Value) -> Option<String> {
    let conditions = Conditions::of(job);
    let failed =
        conditions.find(FAILED).filter(|_| conditions.is_true(FAILED) && is_trial_of(job, train_job))?;
    let reason = text(failed, &["reason"]).unwrap_or_default();
    Some(format!("OptimizationJob {} has failed ({reason}), and its trials end with it", name(job)))
}

/// The TrainJob to create next; `None` where none may be created now: as many run as may, all are there, too many have
/// failed, the job has ended or is being deleted, or it does not read.
pub fn next(job: &Value, trials: &[Value]) -> Option<Value> {
    if is_finished(job) || text(job, &["metadata", "deletionTimestamp"]).is_some() {
        return None;
    }
    let search = Search::of(job).ok()?;
    let trials = Trial::all(job, &search, trials);
    let running = trials.iter().filter(|trial| matches!(trial.state, State::Running)).count();
    let failed = trials.iter().filter(|trial| matches!(trial.state, State::Failed(_))).count();
    if running >= search.parallel as usize || failed > search.max_failed as usize {
        return None;
    }
    let number = (0..search.total()).find(|number| trials.iter().all(|trial| trial.number != *number))?;
    Some(trial::train_job(job, number, &search.values(number, &trials), &search))
}

/// The first trial of a job, as it would be created: by it the template is judged. `None` for a job that does not read.
pub fn first(job: &Value) -> Option<Value> {
    let search = Search::of(job).ok()?;
    Some(trial::train_job(job, 0, &search.values(0, &[]), &search))
}

/// Decides on the status after trials were created, or could not be.
pub fn reconcile(pass: &Pass<'_>) -> Outcome {
    status::reconcile(pass)
}

#[cfg(test)]
mod tests;
