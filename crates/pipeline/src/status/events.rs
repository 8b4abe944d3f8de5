//! What is reported of a TrainJob. Controller `trainer-trainjob-controller`, action `Reconciling`.

use super::conditions::{COMPLETE, Conditions, FAILED, SUSPENDED};
use super::{CREATION_FAILED, DEADLINE_EXCEEDED, NOT_SUPPORTED, Pass};
use crate::Compatibility;
use crate::value::text;

/// Characters of an error in a note; the API server takes 1024.
const MAX_ERROR_LEN: usize = 950;

/// Types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Something happened.
    Normal,
    /// Something is wrong.
    Warning,
}

impl EventKind {
    /// The type in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub kind: EventKind,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The text, to be taken literally.
    pub note: String,
}

/// The note of a failure, shortened where it is long.
pub(super) fn failure_note(failure: &str) -> String {
    let shown: String = failure.chars().take(MAX_ERROR_LEN).collect();
    let more = if failure.len() > MAX_ERROR_LEN { " ..." } else { "" };
    format!("TrainJob resources reconciliation failed: {shown}{more}")
}

/// Objects could not be built or applied.
pub(super) fn creation_failed(failure: &str) -> Event {
    Event { kind: EventKind::Warning, reason: CREATION_FAILED, note: failure_note(failure) }
}

/// One event for each condition that came or changed. In upstream's compatibility only of an unsupported runtime, where upstream
/// itself never gets so far.
pub(super) fn transitions(was: &Conditions, is: &Conditions, pass: &Pass<'_>, events: &mut Vec<Event>) {
    let extended = pass.compatibility == Compatibility::Extended;
    if pass.job_set_created && extended {
        events.push(Event {
            kind: EventKind::Normal,
            reason: "JobSetCreated",
            note: "JobSet is created".to_owned(),
        });
    }
    for kind in [SUSPENDED, COMPLETE, FAILED] {
        let Some(new) = is.find(kind) else { continue };
        let status = text(new, &["status"]);
        if was.find(kind).and_then(|old| text(old, &["status"])) == status {
            continue;
        }
        let (event, reason) = match (kind, status, text(new, &["reason"])) {
            (SUSPENDED, Some("True"), _) => (EventKind::Normal, "Suspended"),
            (SUSPENDED, _, _) => (EventKind::Normal, "Resumed"),
            (COMPLETE, Some("True"), _) => (EventKind::Normal, "Completed"),
            (FAILED, Some("True"), Some(DEADLINE_EXCEEDED)) => (EventKind::Warning, DEADLINE_EXCEEDED),
            (FAILED, Some("True"), Some(NOT_SUPPORTED)) => (EventKind::Warning, NOT_SUPPORTED),
            (FAILED, Some("True"), _) => (EventKind::Warning, "Failed"),
            _ => continue,
        };
        if extended || reason == NOT_SUPPORTED {
            let note = text(new, &["message"]).unwrap_or_default().to_owned();
            events.push(Event { kind: event, reason, note });
        }
    }
}
