//! Which of several states the cluster is at, judged by the objects alone: for where nobody has it written down.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::admission_changes;
use crate::applyset;
use crate::desired::Desired;
use crate::object::ObjectKey;
use crate::observed::Observed;
use crate::order::{ObjectClass, object_class};

/// The state that the cluster is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Its place among the states.
    pub index: usize,
    /// Whether every object is as this state has it, and there are no others. Where not, a plan was interrupted, or
    /// somebody has changed something.
    pub exact: bool,
}

/// The state that the cluster is at: of states given oldest first, the newest that it is at exactly; else the newest of
/// which anything is there that no older one has. `None` where there is no object of the installation at all.
pub fn identify(states: &[&Desired], observed: &Observed, field_manager: &str) -> Option<Identified> {
    let installation = &states.first()?.installation;
    let members: BTreeSet<&ObjectKey> = observed
        .objects
        .iter()
        .filter(|(key, live)| {
            object_class(key) != ObjectClass::Namespace && live.is_member(installation, field_manager)
        })
        .map(|(key, _)| key)
        .collect();
    if members.is_empty() {
        return None;
    }
    let intents: Vec<BTreeMap<ObjectKey, Value>> = states.iter().map(|state| intents(state)).collect();
    let holds = |key: &ObjectKey, intent: &Value| {
        members.contains(key)
            && observed.objects.get(key).is_some_and(|live| {
                let comparison =
                    admission_changes::compare(intent, Some(intent), &live.value, field_manager, &[])
                        .comparison;
                comparison.changes.is_empty() && !comparison.never_applied
            })
    };
    let differences = |state: &BTreeMap<ObjectKey, Value>| {
        let lacking = state.iter().filter(|(key, intent)| !holds(key, intent)).count();
        lacking + members.iter().filter(|key| !state.contains_key(**key)).count()
    };
    let counts: Vec<usize> = intents.iter().map(differences).collect();
    if let Some(index) = counts.iter().rposition(|count| *count == 0) {
        return Some(Identified { index, exact: true });
    }
    let is_new = |index: usize, key: &ObjectKey, intent: &Value| {
        intents[..index].iter().all(|older| older.get(key) != Some(intent))
    };
    let shows = |index: usize| {
        intents[index].iter().any(|(key, intent)| is_new(index, key, intent) && holds(key, intent))
    };
    let newest = (0..states.len()).rev().find(|index| shows(*index));
    let index = newest.or_else(|| (0..states.len()).min_by_key(|index| (counts[*index], Reverse(*index))))?;
    // The same again was wanted later.
    let index = intents.iter().rposition(|state| *state == intents[index]).unwrap_or(index);
    Some(Identified { index, exact: false })
}

fn intents(state: &Desired) -> BTreeMap<ObjectKey, Value> {
    let objects = state.objects.iter().map(|object| (object.key(), applyset::owned(state, object)));
    objects.filter(|(key, _)| object_class(key) != ObjectClass::Namespace).collect()
}
