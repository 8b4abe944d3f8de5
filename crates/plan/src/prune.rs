//! Deletes: what is ours and no longer wanted, in the order in which things may go.

use std::collections::BTreeSet;

use crate::applyset;
use crate::crd_policy::{self, CrdOutcome};
use crate::desired::{Desired, DesiredObject};
use crate::in_use;
use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed};
use crate::order::{ObjectClass, defines, object_class};
use crate::plan::{Purpose, Step, Until, Verb};
use crate::refused::Refused;
use crate::request::Request;

/// What pruning does, and what it leaves on purpose.
#[derive(Debug, Default)]
pub(crate) struct Pruned<'a> {
    /// What goes, and why.
    pub(crate) objects: Vec<(&'a ObjectKey, &'a LiveObject, String)>,
    /// What stays and is no longer ours, and why.
    pub(crate) released: Vec<(&'a ObjectKey, &'a LiveObject, &'static str)>,
    /// What stays although nobody wants it, in sentences.
    pub(crate) notes: Vec<String>,
}

/// Why objects are pruned.
const UNWANTED: &str = "no longer part of the installation";

/// Every object that is ours and no longer desired.
///
/// What is in use goes only where that is allowed, and a CRD only where the option `crd-policy` says so and nothing
/// is stored under it but what this very plan deletes: a plan that would do otherwise is refused. One that only goes
/// on or back (`settling`: [`Purpose::Rollback`], an open journal) leaves these, for it must not end in a refusal.
pub(crate) fn prune<'a>(request: &Request<'a>, settling: bool) -> Result<Pruned<'a>, Vec<Refused>> {
    let (desired, observed) = (request.desired, request.observed);
    let settling = settling || request.purpose == Purpose::Rollback;
    let mut pruned = Pruned::default();
    let mut refused = Vec::new();
    for (key, live) in unwanted(desired, observed) {
        if !live.is_member(&desired.installation, request.field_manager) {
            // A copy of one of our objects keeps the label, whoever made it.
            pruned.notes.push(left_alone(key));
            continue;
        }
        if let Some(pending) = in_use::pending_deletion(observed, key, live) {
            // Nothing is left to do about it.
            pruned.notes.push(format!("{pending}; it is gone once nothing blocks its deletion"));
            continue;
        }
        if object_class(key) == ObjectClass::Crd {
            match crd_policy::outcome(desired, live, request.field_manager) {
                CrdOutcome::Deleted => {
                    pruned.objects.push((key, live, format!("{UNWANTED}, and crd-policy is delete")));
                }
                CrdOutcome::Released(why) => {
                    pruned.notes.push(format!("{key} stays and is released: {why}"));
                    pruned.released.push((key, live, why));
                }
                CrdOutcome::Stays => pruned.notes.push(format!(
                    "{key} stays, with the objects stored under it: {UNWANTED}, and crd-policy is keep"
                )),
            }
            continue;
        }
        match observed.users.get(key) {
            Some(users) if !request.allow.in_use && settling => {
                pruned.notes.push(format!("{key} stays: it is used by {}", in_use::list(users)));
            }
            Some(users) if !request.allow.in_use => {
                refused.push(Refused::InUse { object: key.clone(), users: users.clone() });
            }
            Some(users) => {
                let why = format!("{UNWANTED}; used by {}", in_use::list(users));
                pruned.objects.push((key, live, why));
            }
            None => pruned.objects.push((key, live, UNWANTED.to_owned())),
        }
    }
    let known: BTreeSet<ObjectKey> =
        request.last.iter().flat_map(|last| &last.objects).map(DesiredObject::key).collect();
    let wanted: BTreeSet<ObjectKey> = desired.objects.iter().map(DesiredObject::key).collect();
    let let_go = observed.objects.iter().filter(|(key, live)| {
        known.contains(key) && !wanted.contains(key) && live.is_unlabelled(request.field_manager)
    });
    pruned.notes.extend(
        let_go.map(|(key, _)| format!("{key} stays: somebody removed this installation's label from it")),
    );
    refused.extend(keep_stored(&mut pruned, observed, settling, &known));
    if refused.is_empty() { Ok(pruned) } else { Err(refused) }
}

/// Takes the CRDs under which something is stored from what goes; with the refusal that this is to a plan which
/// knew of them and goes forward.
fn keep_stored(
    pruned: &mut Pruned<'_>,
    observed: &Observed,
    settling: bool,
    known: &BTreeSet<ObjectKey>,
) -> Option<Refused> {
    let going: BTreeSet<&ObjectKey> = pruned.objects.iter().map(|(key, ..)| *key).collect();
    let mut kept = BTreeSet::new();
    let mut stored = Vec::new();
    for (crd, live, _) in pruned.objects.iter().filter(|(key, ..)| object_class(key) == ObjectClass::Crd) {
        let below =
            observed.custom_objects.keys().filter(|key| defines(&live.value, key) && !going.contains(key));
        let below: Vec<_> = below.cloned().collect();
        if below.is_empty() {
            continue;
        }
        kept.insert((*crd).clone());
        if settling || !known.contains(*crd) {
            pruned
                .notes
                .push(format!("{crd} stays: objects of its kind are stored, among them {}", below[0]));
        } else {
            stored.extend(below);
        }
    }
    pruned.objects.retain(|(key, ..)| !kept.contains(*key));
    (!stored.is_empty()).then_some(Refused::CustomObjectsExist { objects: stored })
}

/// What is said of an object that only bears our label.
pub(crate) fn left_alone(key: &ObjectKey) -> String {
    format!("{key} carries this installation's label but was never applied by trainerd: it stays")
}

/// The CRDs of ours that a plan towards `desired` would delete. What is stored under them has to be looked up
/// before planning: [`Observed::custom_objects`].
pub fn pruned_crds<'a>(
    desired: &Desired,
    observed: &'a Observed,
    field_manager: &str,
) -> Vec<&'a LiveObject> {
    unwanted(desired, observed)
        .filter(|(key, live)| {
            object_class(key) == ObjectClass::Crd && live.is_member(&desired.installation, field_manager)
        })
        .filter(|(_, live)| crd_policy::outcome(desired, live, field_manager) == CrdOutcome::Deleted)
        .map(|(_, live)| live)
        .collect()
}

/// Whether a plan towards `desired` needs to know who uses something: whether it would delete what others may use, or
/// finds it being deleted. See [`Observed::users`].
pub fn needs_users(desired: &Desired, observed: &Observed) -> bool {
    unwanted(desired, observed).any(|(key, _)| in_use::may_be_used(key))
        || observed.objects.iter().any(|(key, live)| live.terminating() && in_use::may_be_used(key))
}

/// What carries the installation's label and is not desired.
fn unwanted<'a>(
    desired: &Desired,
    observed: &'a Observed,
) -> impl Iterator<Item = (&'a ObjectKey, &'a LiveObject)> {
    let wanted: BTreeSet<ObjectKey> = desired.objects.iter().map(DesiredObject::key).collect();
    let id = applyset::id(&desired.installation);
    observed.objects.iter().filter(move |(key, live)| {
        !wanted.contains(key)
            && applyset::label(&live.value, applyset::PART_OF) == Some(&id)
            && object_class(key) != ObjectClass::Namespace
    })
}

/// Delete steps, numbered from `first`, in the order in which things may go, each rank after the one before:
/// what stops admitting, then custom objects while their controller still lives, then workloads, then the
/// rest, then CRDs. The first rank waits for `after`.
pub(crate) fn deletes(
    mut objects: Vec<(&ObjectKey, &LiveObject, String)>,
    first: usize,
    after: Vec<usize>,
) -> Vec<Step> {
    objects.sort_by_key(|(key, ..)| (object_class(key), *key));
    let mut steps: Vec<Step> = Vec::with_capacity(objects.len());
    let (mut previous, mut rank) = (after, Vec::new());
    for (key, live, why) in objects {
        if steps.last().is_some_and(|last| object_class(&last.object) != object_class(key)) {
            previous = std::mem::take(&mut rank);
        }
        rank.push(first + steps.len());
        steps.push(Step {
            component: applyset::label(&live.value, applyset::COMPONENT).unwrap_or_default().to_owned(),
            object: key.clone(),
            resource: live.resource.clone(),
            verb: delete(live),
            manifest: None,
            after: previous.clone(),
            until: Until::Gone,
            why,
            changes: Vec::new(),
            yielded: Vec::new(),
            taken: Vec::new(),
        });
    }
    steps
}

/// The delete of an object as it was observed.
pub(crate) fn delete(live: &LiveObject) -> Verb {
    Verb::Delete {
        uid: live.uid().to_owned(),
        resource_version: live.resource_version().to_owned(),
        part_of: applyset::label(&live.value, applyset::PART_OF).map(str::to_owned),
    }
}

/// The steps that release objects, each after `after`.
pub(crate) fn releases(
    objects: Vec<(&ObjectKey, &LiveObject, &'static str)>,
    after: &[usize],
) -> impl Iterator<Item = Step> {
    objects.into_iter().map(|(key, live, why)| Step {
        component: applyset::label(&live.value, applyset::COMPONENT).unwrap_or_default().to_owned(),
        object: key.clone(),
        resource: live.resource.clone(),
        verb: Verb::Release { uid: live.uid().to_owned() },
        manifest: None,
        after: after.to_vec(),
        until: Until::Gone,
        why: why.to_owned(),
        changes: Vec::new(),
        yielded: Vec::new(),
        taken: Vec::new(),
    })
}

/// The steps that no other step waits for: when they are done, everything is.
pub(crate) fn sinks(steps: &[Step]) -> Vec<usize> {
    let followed: BTreeSet<usize> = steps.iter().flat_map(|step| step.after.iter().copied()).collect();
    (0..steps.len()).filter(|index| !followed.contains(index)).collect()
}
