//! The status of an OptimizationJob: its conditions and its best trial.

use serde_json::{Map, Value, json};

use super::Pass;
use super::search::Search;
use super::trial::{State, Trial};
use crate::field_error::aggregate;
use crate::status::{COMPLETE, Conditions, Event, EventKind, FAILED, NewCondition};
use crate::value::{at, text};

/// Whether trials are being created; the reason says why they are not.
const CREATED: &str = "Created";
/// Reason while trials are created and run.
const RUNNING: &str = "TrialsRunning";
/// Reason of a job that does not read.
const INVALID: &str = "InvalidSpec";
/// Reason when the API server, or a webhook, refuses a trial.
const NOT_CREATED: &str = "TrainJobsCreationFailed";
/// Failed trials whose reasons a message names.
const MAX_NAMED_FAILURES: usize = 3;
/// Characters of a message; the API server takes 32,768.
const MAX_MESSAGE_LEN: usize = 4096;

/// What becomes of a pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The status; null when it is empty.
    pub status: Value,
    /// Whether it differs from what was read, so that it must be written.
    pub is_changed: bool,
    /// What to tell, once it is written.
    pub events: Vec<Event>,
}

pub(super) fn reconcile(pass: &Pass<'_>) -> Outcome {
    let before = at(pass.job, &["status"]).as_object().cloned().unwrap_or_default();
    let mut status = before.clone();
    let mut conditions = Conditions::of(pass.job);
    let was = conditions.clone();
    match Search::of(pass.job) {
        Ok(search) => evaluate(pass, &search, &mut status, &mut conditions),
        Err(errors) if !conditions.is_finished() => {
            let message = aggregate(errors).unwrap_or_default();
            set(&mut conditions, pass, CREATED, "False", INVALID, &message);
        }
        Err(_) => {}
    }
    let events = events(&was, &conditions, &before, &status);
    conditions.store(&mut status);
    let is_changed = status != before;
    Outcome {
        status: if status.is_empty() { Value::Null } else { Value::Object(status) },
        is_changed,
        events,
    }
}

fn evaluate(pass: &Pass<'_>, search: &Search, status: &mut Map<String, Value>, conditions: &mut Conditions) {
    // How it ended stays, whatever becomes of its trials.
    if conditions.is_finished() {
        return;
    }
    let trials = Trial::all(pass.job, search, pass.trials);
    let best = best(search, &trials);
    if let Some((trial, _)) = best {
        status.insert("result".into(), result(search, trial));
    }
    let counts = Counts::of(&trials);
    if let Some(failure) = pass.failure {
        set(conditions, pass, CREATED, "False", NOT_CREATED, failure);
        return;
    }
    set(conditions, pass, CREATED, "True", RUNNING, &counts.message(search.total()));
    if counts.failed > search.max_failed as usize {
        let ended = match counts.running {
            0 => String::new(),
            1 => "; the one that still ran is ended".to_owned(),
            running => format!("; the {running} that still ran are ended"),
        };
        let message = format!(
            "{} trials failed, more than the {} that may{ended}: {}",
            counts.failed,
            search.max_failed,
            failures(&trials)
        );
        set(conditions, pass, FAILED, "True", "MaxFailedTrialsReached", &message);
    } else if counts.ended() >= search.total() as usize {
        if let Some((trial, objective)) = best {
            let reason = if search.is_exhaustive() { "GridExhausted" } else { "MaxTrialsReached" };
            let (metric, name) = (&search.metric, &trial.name);
            let message = format!(
                "{} of {} trials succeeded; the best is {name}, with {metric} = {objective}",
                counts.succeeded,
                counts.ended()
            );
            set(conditions, pass, COMPLETE, "True", reason, &message);
        } else {
            let message = format!("No trial succeeded: {}", failures(&trials));
            set(conditions, pass, FAILED, "True", "NoSuccessfulTrials", &message);
        }
    }
}

fn set(conditions: &mut Conditions, pass: &Pass<'_>, kind: &str, status: &str, reason: &str, message: &str) {
    let message: String = message.chars().take(MAX_MESSAGE_LEN).collect();
    conditions.set(&NewCondition { kind, status, reason, message: &message }, pass.now);
}

/// How many trials are how far.
struct Counts {
    running: usize,
    succeeded: usize,
    failed: usize,
}

impl Counts {
    fn of(trials: &[Trial]) -> Self {
        let mut counts = Self { running: 0, succeeded: 0, failed: 0 };
        for trial in trials {
            match trial.state {
                State::Running => counts.running += 1,
                State::Succeeded(_) => counts.succeeded += 1,
                State::Failed(_) => counts.failed += 1,
            }
        }
        counts
    }

    fn ended(&self) -> usize {
        self.succeeded + self.failed
    }

    fn message(&self, total: u32) -> String {
        let Self { running, succeeded, failed } = self;
        format!("{running} of {total} trials are running, {succeeded} succeeded, {failed} failed")
    }
}

/// The first trials that failed, and why.
fn failures(trials: &[Trial]) -> String {
    let failed = trials.iter().filter_map(|trial| match &trial.state {
        State::Failed(reason) => Some(format!("{}: {reason}", trial.name)),
        State::Running | State::Succeeded(_) => None,
    });
    let all: Vec<String> = failed.collect();
    let more = if all.len() > MAX_NAMED_FAILURES {
        format!("; and {} more", all.len() - MAX_NAMED_FAILURES)
    } else {
        String::new()
    };
    format!("{}{more}", all[..all.len().min(MAX_NAMED_FAILURES)].join("; "))
}

/// The best trial; of equal ones the first.
fn best<'a>(search: &Search, trials: &'a [Trial]) -> Option<(&'a Trial, f64)> {
    let mut best: Option<(&Trial, f64)> = None;
    for trial in trials {
        let State::Succeeded(objective) = trial.state else { continue };
        if best.is_none_or(|(_, so_far)| search.is_better(objective, so_far)) {
            best = Some((trial, objective));
        }
    }
    best
}

fn result(search: &Search, trial: &Trial) -> Value {
    let assigned = search.parameters.iter().zip(&trial.values).filter(|(_, value)| !value.is_empty());
    let parameters: Vec<Value> =
        assigned.map(|(parameter, value)| json!({"name": parameter.name, "value": value})).collect();
    json!({"trainJobName": trial.name, "parameters": parameters})
}

fn events(
    was: &Conditions,
    is: &Conditions,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(best) = after.get("result").filter(|best| before.get("result") != Some(best)) {
        let name = text(best, &["trainJobName"]).unwrap_or_default();
        let note = format!("The best trial so far is {name}");
        events.push(Event { kind: EventKind::Normal, reason: "BestTrialChanged", note });
    }
    for kind in [CREATED, COMPLETE, FAILED] {
        let Some(new) = is.find(kind) else { continue };
        let field = |one: &Value, key: &str| text(one, &[key]).unwrap_or_default().to_owned();
        let state = |one: &Value| (field(one, "status"), field(one, "reason"));
        if was.find(kind).map(state) == Some(state(new)) {
            continue;
        }
        let (event, reason) = match (kind, field(new, "status").as_str(), field(new, "reason").as_str()) {
            (CREATED, "False", INVALID) => (EventKind::Warning, INVALID),
            (CREATED, "False", _) => (EventKind::Warning, NOT_CREATED),
            (COMPLETE, "True", _) => (EventKind::Normal, "Completed"),
            (FAILED, "True", _) => (EventKind::Warning, "Failed"),
            _ => continue,
        };
        events.push(Event { kind: event, reason, note: field(new, "message") });
    }
    events
}
