//! Conditions, in order of their first appearance.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::defaulting::format_time;
use crate::value::{items, text};

/// It has ended well.
pub(crate) const COMPLETE: &str = "Complete";
/// It has ended badly.
pub(crate) const FAILED: &str = "Failed";
/// The TrainJob is, or was, suspended.
pub(super) const SUSPENDED: &str = "Suspended";

/// The conditions of a TrainJob, or of an OptimizationJob.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conditions(Vec<Value>);

/// A condition to set, as of now.
pub(crate) struct NewCondition<'a> {
    pub(crate) kind: &'a str,
    pub(crate) status: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
}

impl Conditions {
    pub(crate) fn of(object: &Value) -> Self {
        Self(items(object, &["status", "conditions"]).to_vec())
    }

    pub(crate) fn find(&self, kind: &str) -> Option<&Value> {
        self.0.iter().find(|one| text(one, &["type"]) == Some(kind))
    }

    pub(crate) fn is_true(&self, kind: &str) -> bool {
        self.find(kind).is_some_and(|one| text(one, &["status"]) == Some("True"))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.is_true(COMPLETE) || self.is_true(FAILED)
    }

    /// The condition by which the TrainJob ended: the first that is true.
    pub(super) fn terminal(&self) -> Option<&Value> {
        let is_end = |one: &&Value| {
            matches!(text(one, &["type"]), Some(COMPLETE | FAILED)) && text(one, &["status"]) == Some("True")
        };
        self.0.iter().find(is_end)
    }

    /// When a condition last changed its status.
    pub(super) fn changed_at(&self, kind: &str) -> Option<Timestamp> {
        transition_time(self.find(kind)?)
    }

    pub(crate) fn set(&mut self, new: &NewCondition<'_>, now: Timestamp) {
        let NewCondition { kind, status, reason, message } = new;
        let condition = json!({ "type": kind, "status": status, "reason": reason, "message": message });
        self.copy(&condition, kind, now);
    }

    /// Sets a condition to what another says, under a type of its own. The time of its transition changes only with its
    /// status.
    pub(super) fn copy(&mut self, other: &Value, kind: &str, now: Timestamp) {
        let mut new = other.as_object().cloned().unwrap_or_default();
        new.insert("type".into(), kind.into());
        new.retain(|key, value| !(value.is_null() || key == "observedGeneration" && *value == json!(0)));
        let known = self.0.iter_mut().find(|one| text(one, &["type"]) == Some(kind));
        let same = known.as_ref().is_some_and(|known| text(known, &["status"]) == text(other, &["status"]));
        let time = match known.as_ref().and_then(|known| known.get("lastTransitionTime")).filter(|_| same) {
            Some(time) => time.clone(),
            None => other.get("lastTransitionTime").cloned().unwrap_or_else(|| format_time(now).into()),
        };
        new.insert("lastTransitionTime".into(), time);
        match known {
            Some(known) => *known = Value::Object(new),
            None => self.0.push(Value::Object(new)),
        }
    }

    pub(super) fn remove(&mut self, kind: &str) {
        self.0.retain(|one| text(one, &["type"]) != Some(kind));
    }

    /// Puts a condition behind all others.
    pub(super) fn move_last(&mut self, kind: &str) {
        if let Some(at) = self.0.iter().position(|one| text(one, &["type"]) == Some(kind)) {
            let condition = self.0.remove(at);
            self.0.push(condition);
        }
    }

    pub(crate) fn store(self, status: &mut Map<String, Value>) {
        if self.0.is_empty() {
            status.remove("conditions");
        } else {
            status.insert("conditions".into(), self.0.into());
        }
    }
}

pub(super) fn transition_time(condition: &Value) -> Option<Timestamp> {
    text(condition, &["lastTransitionTime"])?.parse().ok()
}
