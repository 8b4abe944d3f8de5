//! Drift: what somebody changed of an object that is as a revision wants it, and what is to be done about it.
//!
//! The revision is the intent: no plan is needed to repair one object. Fields that we do not own, and states
//! that controllers write, are no drift.

mod contention;
mod ignored;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::contention::{Contended, ContendedField, Contention};
pub use self::ignored::{Ignored, NotAnEntry};
use crate::admission_changes::Compared;
use crate::desired::{Desired, DesiredObject, Installation};
use crate::immutable;
use crate::mask;
use crate::object::ObjectKey;
use crate::observed::LiveObject;
use crate::order::{ObjectClass, object_class};
use crate::ownership::{self, Comparison, FieldChange, FieldPath};
use crate::plan::{Step, Until, Verb};
use crate::request::Conflicts;
use crate::{admission_changes, applyset, intent_digest, webhook_port, yielded_fields};

/// Annotation of a live object: how drift of this one object is treated, whatever the installation's option says.
pub const POLICY: &str = "trainerd.dev/drift-policy";

/// What is done about drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is repaired.
    #[default]
    Enforce,
    /// It is shown.
    Report,
    /// Nothing.
    Ignore,
}

/// A text that names no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be enforce, report or ignore")]
pub struct NotAPolicy;

impl FromStr for Policy {
    type Err = NotAPolicy;

    fn from_str(text: &str) -> Result<Self, NotAPolicy> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "report" => Ok(Self::Report),
            "ignore" => Ok(Self::Ignore),
            _ => Err(NotAPolicy),
        }
    }
}

/// By what drift is judged.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Whose objects.
    pub installation: &'a Installation,
    /// The installation's policy; an object's own annotation counts more.
    pub policy: Policy,
    /// Fields that are another manager's where one owns them.
    pub ignored: &'a [Ignored],
    /// What happens to a field of ours that another manager took by a server-side apply: it means to keep it.
    pub conflicts: Conflicts,
    /// The field manager that writes.
    pub field_manager: &'a str,
}

/// What is to be said of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is as it should be, or nobody is to look.
    Holds,
    /// It is being deleted: what is to be done is known when it is gone.
    Leaving,
    /// It is not.
    Drifted(Box<Drifted>),
}

/// An object that is not as its revision wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Drifted {
    /// The fields that differ; values of Secrets are masked. None where the object is gone.
    pub changes: Vec<FieldChange>,
    /// The managers that own these fields, sorted, with the subresource that they wrote through, if any: `kubectl
    /// (scale)`; `unknown` where the entry names nobody but us. None where nobody owns them.
    pub by: Vec<String>,
    /// What is to be done.
    pub remedy: Remedy,
}

impl Drifted {
    /// The fields that become contended if this repair has to be repeated: one for each field and manager.
    pub fn contendable_fields(&self, object: &ObjectKey) -> Vec<ContendedField> {
        let unknown = if self.changes.is_empty() { "somebody who deletes it" } else { "somebody unknown" };
        let managers = if self.by.is_empty() { vec![unknown.to_owned()] } else { self.by.clone() };
        let paths: Vec<String> = if self.changes.is_empty() {
            vec![".".to_owned()]
        } else {
            self.changes.iter().map(|change| change.path.to_string()).collect()
        };
        let field = |path: &String, manager: &String| ContendedField {
            object: object.clone(),
            path: path.clone(),
            manager: manager.clone(),
        };
        paths.iter().flat_map(|path| managers.iter().map(move |manager| field(path, manager))).collect()
    }
}

/// What is to be done about an object that drifted.
#[derive(Clone, Debug, PartialEq)]
pub enum Remedy {
    /// One write, sent as it is.
    Repair(Box<Step>),
    /// More than one object is concerned: a plan repairs it.
    Plan,
    /// Nothing.
    Leave(NotRepaired),
}

/// Why drift is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
pub enum NotRepaired {
    /// The policy says to report it.
    Reported,
    /// Another manager applied the field, and the option `conflicts` leaves it to it.
    Yielded {
        /// The field.
        path: String,
        /// The other manager.
        manager: String,
    },
    /// Another manager applied the field, and the option `conflicts` takes nothing by force.
    Refused {
        /// The field.
        path: String,
        /// The other manager.
        manager: String,
    },
    /// The field cannot be changed back: the object would have to be created again.
    Immutable {
        /// The field.
        path: String,
    },
    /// The API server's admission sets another value than ours in every write.
    Admission {
        /// The field.
        path: String,
    },
    /// The object was replaced by somebody else's.
    Foreign {
        /// Whose it is.
        owner: String,
    },
}

impl fmt::Display for NotRepaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported => f.write_str("reported only (drift-policy)"),
            Self::Yielded { path, manager } => write!(f, "{path} is left to {manager} (conflicts=yield)"),
            Self::Refused { path, manager } => {
                write!(f, "{path} was applied by {manager} and is not overwritten (conflicts=refuse)")
            }
            Self::Immutable { path } => write!(f, "{path} cannot be changed back"),
            Self::Admission { path } => write!(f, "{path} is changed by admission control"),
            Self::Foreign { owner } => write!(f, "replaced by an object of {owner}"),
        }
    }
}

/// The policy for an object: its own annotation, else the installation's.
pub fn policy(rules: &Rules<'_>, live: Option<&Value>) -> Policy {
    let own = live.and_then(|live| live["metadata"]["annotations"][POLICY].as_str());
    own.and_then(|text| text.parse().ok()).unwrap_or(rules.policy)
}

/// Judges one object of a revision. `live`: the whole object as the API server returned it; `None` where it does
/// not exist.
pub fn detect(
    rules: &Rules<'_>,
    desired: &Desired,
    object: &DesiredObject,
    live: Option<&LiveObject>,
) -> Verdict {
    let policy = policy(rules, live.map(|live| &live.value));
    if policy == Policy::Ignore {
        return Verdict::Holds;
    }
    let key = object.key();
    let Some(live) = live else { return absent(desired, object, &key, policy) };
    if object_class(&key) == ObjectClass::Namespace {
        return if live.terminating() { Verdict::Leaving } else { Verdict::Holds };
    }
    if live.terminating() {
        return Verdict::Leaving;
    }
    if live.is_foreign(rules.installation, rules.field_manager) {
        let leave = NotRepaired::Foreign { owner: live.owner() };
        return drifted(Vec::new(), Vec::new(), Remedy::Leave(leave));
    }
    let mut intent = applyset::owned(desired, object);
    let (Compared { comparison, by_admission }, left) = compare_owned(rules, &key, &mut intent, &live.value);
    let by = managers(rules, &live.value, &comparison.changes);
    let violated =
        comparison.changes.iter().find(|change| immutable::violates(&key, &live.value, change).is_some());
    let remedy = if let Some(change) = violated.filter(|_| policy != Policy::Report) {
        Remedy::Leave(NotRepaired::Immutable { path: change.path.to_string() })
    } else if comparison.holds() {
        return match (left, by_admission.first()) {
            (Some((path, by, leave)), _) => drifted(vec![path], by, Remedy::Leave(leave)),
            (None, Some(first)) => {
                let leave = NotRepaired::Admission { path: first.path.to_string() };
                let by_admission = by_admission.into_iter().map(|change| mask::masked(&key, change));
                drifted(by_admission.collect(), Vec::new(), Remedy::Leave(leave))
            }
            (None, None) => Verdict::Holds,
        };
    } else if policy == Policy::Report {
        Remedy::Leave(NotRepaired::Reported)
    } else {
        Remedy::Repair(Box::new(repair(object, &key, intent, &comparison, Some((live, rules.field_manager)))))
    };
    let changes = comparison.changes.into_iter().filter(|change| !intent_digest::is_digest(&change.path));
    drifted(changes.map(|change| mask::masked(&key, change)).collect(), by, remedy)
}

/// The write that leads the API server to new pods behind a webhook configuration, once a repair has replaced them; none
/// where its Service has one port only, where the port is somebody else's, and where more is to be written. `desired` holds
/// the Services that it calls.
pub fn reconnect(
    rules: &Rules<'_>,
    desired: &Desired,
    object: &DesiredObject,
    live: &LiveObject,
) -> Option<Step> {
    let is_ours = !live.terminating() && !live.is_foreign(rules.installation, rules.field_manager);
    if !is_ours || policy(rules, Some(&live.value)) != Policy::Enforce {
        return None;
    }
    let mut intent = applyset::owned(desired, object);
    if !webhook_port::turn(&mut intent, &live.value, desired, rules.field_manager, true) {
        return None;
    }
    let key = object.key();
    let (Compared { comparison, .. }, _) = compare_owned(rules, &key, &mut intent, &live.value);
    if !comparison.changes.iter().all(|change| webhook_port::is_one(&change.path)) {
        return None;
    }
    let step = repair(object, &key, intent, &comparison, Some((live, rules.field_manager)));
    Some(Step { why: webhook_port::WHY.to_owned(), changes: comparison.changes, ..step })
}

/// Whether a repair replaces the pods of its object.
pub fn replaces_pods(repaired: &Drifted) -> bool {
    match &repaired.remedy {
        Remedy::Repair(step) => webhook_port::replaces_pods(&step.object, &step.verb, &repaired.changes),
        Remedy::Plan | Remedy::Leave(_) => false,
    }
}

fn drifted(changes: Vec<FieldChange>, by: Vec<String>, remedy: Remedy) -> Verdict {
    Verdict::Drifted(Box::new(Drifted { changes, by, remedy }))
}

fn absent(desired: &Desired, object: &DesiredObject, key: &ObjectKey, policy: Policy) -> Verdict {
    let remedy = if policy == Policy::Report {
        Remedy::Leave(NotRepaired::Reported)
    } else if object_class(key) == ObjectClass::Namespace {
        Remedy::Plan
    } else {
        let intent = applyset::owned(desired, object);
        Remedy::Repair(Box::new(repair(object, key, intent, &Comparison::default(), None)))
    };
    drifted(Vec::new(), Vec::new(), remedy)
}

/// A field that is left to its other manager: the change that is not made, by whom, and why.
type Left = (FieldChange, Vec<String>, NotRepaired);

/// Judges the intent without the fields that are left to others, which leave it: those that the option
/// `drift-ignore` names and somebody else owns, and those that another manager applied where nothing is taken by
/// force; and the first of the latter.
fn compare_owned(
    rules: &Rules<'_>,
    key: &ObjectKey,
    intent: &mut Value,
    live: &Value,
) -> (Compared, Option<Left>) {
    let manager = rules.field_manager;
    let ignored = ignored_paths(rules.ignored, key, intent);
    let compared = admission_changes::compare(intent, Some(intent), live, manager, &ignored);
    let mut left: Option<Left> = None;
    let mut leaves = false;
    for change in &compared.comparison.changes {
        let Some(theirs) = ownership::foreign(live, manager, &change.path) else { continue };
        match theirs.applier {
            _ if is_among(&ignored, &change.path) => {}
            Some(applier) if rules.conflicts != Conflicts::Force => {
                let leave = kept(rules.conflicts, theirs.at.to_string(), applier);
                left.get_or_insert_with(|| (mask::masked(key, change.clone()), theirs.managers, leave));
            }
            _ => continue,
        }
        yielded_fields::remove(intent, &theirs.at);
        leaves = true;
    }
    if !leaves {
        return (compared, None);
    }
    keep_seal(intent, live);
    (admission_changes::compare(intent, Some(intent), live, manager, &ignored), left)
}

/// The fields of an object that the option `drift-ignore` names.
pub(crate) fn ignored_paths(ignored: &[Ignored], key: &ObjectKey, intent: &Value) -> Vec<FieldPath> {
    let named = ignored.iter().filter(|ignored| ignored.is_about(key));
    named.filter_map(|ignored| ownership::pointed(intent, &ignored.pointer)).collect()
}

/// Whether a path is one of these, or below one.
pub(crate) fn is_among(paths: &[FieldPath], path: &FieldPath) -> bool {
    paths.iter().any(|above| path.segments().starts_with(above.segments()))
}

/// The digest is of the whole intent: as long as a field is left to others, it stays as it is.
pub(crate) fn keep_seal(intent: &mut Value, live: &Value) {
    if let Some(annotations) = intent.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
        && let Some(digest) = live["metadata"]["annotations"].get(intent_digest::ANNOTATION)
    {
        annotations.insert(intent_digest::ANNOTATION.to_owned(), digest.clone());
    }
}

fn kept(conflicts: Conflicts, path: String, manager: String) -> NotRepaired {
    match conflicts {
        Conflicts::Yield => NotRepaired::Yielded { path, manager },
        Conflicts::Refuse | Conflicts::Force => NotRepaired::Refused { path, manager },
    }
}

/// Who owns what differs; and through what, where that was no write of the object itself: `kubectl (scale)`.
fn managers(rules: &Rules<'_>, live: &Value, changes: &[FieldChange]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for change in changes {
        let through = ownership::through_subresource(live, rules.field_manager, &change.path);
        let theirs = ownership::foreign(live, rules.field_manager, &change.path);
        let plain = theirs.into_iter().flat_map(|theirs| theirs.managers);
        names.extend(plain.filter(|name| through.iter().all(|(through, _)| through != name)));
        names.extend(through.iter().map(|(name, subresource)| format!("{name} ({subresource})")));
    }
    names.into_iter().collect()
}

fn repair(
    object: &DesiredObject,
    key: &ObjectKey,
    mut manifest: Value,
    comparison: &Comparison,
    live: Option<(&LiveObject, &str)>,
) -> Step {
    let (verb, why) = match live {
        None => (Verb::Create, "was deleted"),
        Some((live, manager)) => {
            manifest = admission_changes::carried(Cow::Owned(manifest), &live.value, manager).into_owned();
            manifest["metadata"]["uid"] = json!(live.uid());
            (
                Verb::Apply { uid: live.uid().to_owned(), force: comparison.contested },
                "changed in the cluster",
            )
        }
    };
    Step {
        component: object.component.clone(),
        object: key.clone(),
        resource: object.resource.clone(),
        verb,
        manifest: Some(manifest),
        after: Vec::new(),
        until: Until::Ready,
        why: why.to_owned(),
        changes: Vec::new(),
        yielded: Vec::new(),
        taken: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
