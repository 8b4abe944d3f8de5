//! What the drift controller shows: the status of every object, and drift with what is done about it.

use jiff::Timestamp;
use serde::Serialize;
use trainerd_plan::drift::{ContendedField, NotRepaired};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::ownership::FieldChange;
use trainerd_plan::reason::WaitingOn;

use super::DriftController;
use crate::status::{ObjectStatus, Status};

/// An object that somebody changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// Its component.
    pub component: String,
    /// The object.
    pub object: ObjectKey,
    /// The fields that differ; values of Secrets are masked. None where the object does not exist.
    pub changes: Vec<FieldChange>,
    /// The managers that own these fields, as far as that is known.
    pub by: Vec<String>,
    /// What is done about it.
    #[serde(flatten)]
    pub state: DriftState,
}

/// What is done about drift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum DriftState {
    /// It is about to be repaired.
    Repairing,
    /// Somebody else is the one writer now.
    Waiting {
        /// Who, in a sentence.
        why: String,
    },
    /// The daemon is paused.
    Paused,
    /// Nothing, and why.
    Left {
        /// Why.
        why: NotRepaired,
    },
    /// Somebody changes it back again and again; it is left alone for a while.
    Contended {
        /// The field.
        path: String,
        /// The other manager.
        manager: String,
        /// Seconds until the next try, when this was found.
        seconds: u64,
    },
    /// It was refused, and is tried again.
    Failed {
        /// The answer.
        error: String,
    },
}

impl DriftState {
    pub(super) fn contended(fight: ContendedField, seconds: u64) -> Self {
        Self::Contended { path: fight.path, manager: fight.manager, seconds }
    }

    /// The state in one word, as metrics have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Repairing => "repairing",
            Self::Waiting { .. } => "waiting",
            Self::Paused => "paused",
            Self::Left { .. } => "left",
            Self::Contended { .. } => "contended",
            Self::Failed { .. } => "failed",
        }
    }
}

impl DriftState {
    /// Whether no watch may tell how the object is now: somebody else's stands in its place, or what was seen of it
    /// was of no use.
    pub(super) fn is_unseen(&self) -> bool {
        matches!(self, Self::Left { why: NotRepaired::Foreign { .. } } | Self::Failed { .. })
    }

    /// Whether something is still to be done about it.
    pub fn is_undone(&self) -> bool {
        !matches!(self, Self::Left { .. } | Self::Paused)
    }
}

impl DriftStatus {
    /// Whether it says the same: the seconds of a pause that is in progress are no news.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let contended = |state: &DriftState| match state {
            DriftState::Contended { path, manager, .. } => Some((path.clone(), manager.clone())),
            _ => None,
        };
        self.changes == other.changes
            && self.by == other.by
            && match (contended(&self.state), contended(&other.state)) {
                (Some(known), Some(new)) => known == new,
                _ => self.state == other.state,
            }
    }
}

/// What is known of an installation, without a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusSnapshot {
    /// Its status, as `trainerd status` shows it.
    #[serde(flatten)]
    pub status: Status,
    /// What somebody changed.
    pub drift: Vec<DriftStatus>,
}

impl DriftController {
    /// What is known now; `None` while nothing is installed.
    pub fn snapshot(&mut self) -> Option<StatusSnapshot> {
        let now = Timestamp::now();
        let (record, packed) = (self.record.as_ref()?, self.objects.packed()?);
        let objects = packed.objects().map(|(key, component, _)| {
            let drift = self.drift.get(key);
            let paths = drift.iter().flat_map(|drift| &drift.changes).map(|change| change.path.to_string());
            let paths: Vec<String> = paths.collect();
            let by_admission = drift.is_some_and(|drift| {
                matches!(drift.state, DriftState::Left { why: NotRepaired::Admission { .. } })
            });
            let (drift, admission) = if by_admission { (Vec::new(), paths) } else { (paths, Vec::new()) };
            let (component, waiting) = (component.to_owned(), self.objects.waiting(key, now));
            let (waiting_on, waiting) = (waiting.clone(), waiting.as_ref().map(WaitingOn::text));
            ObjectStatus { component, object: key.clone(), waiting, waiting_on, drift, admission }
        });
        let mut status = Status::of(record.number, packed.frame(), objects);
        status.outcome.clone_from(&record.outcome);
        status.journal.clone_from(&record.journal);
        status.control = record.control.clone();
        let troubled = |object: &ObjectStatus| {
            object.waiting.is_some() && object_class(&object.object) == ObjectClass::Workload
        };
        let troubled = status.objects.iter().any(troubled);
        self.objects.follow_pods(troubled);
        Some(StatusSnapshot { status, drift: self.drift.values().cloned().collect() })
    }
}
