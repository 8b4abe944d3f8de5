//! Deletes: what is ours and no longer wanted, in the order in which things may go.

use std::collections::BTreeSet;

use crate::applyset;
use crate::desired::{Desired, DesiredObject};
use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed};
use crate::order::{Role, defines, role};
use crate::plan::{Purpose, Step, Until, Verb};
use crate::planner::Request;

/// What pruning does, and what it leaves on purpose.
#[derive(Debug, Default)]
pub(crate) struct Pruned<'a> {
    /// What goes, and why.
    pub(crate) objects: Vec<(&'a ObjectKey, &'a LiveObject, &'static str)>,
    /// What stays although nobody wants it, in sentences.
    pub(crate) notes: Vec<String>,
}

/// Why objects are pruned.
const UNWANTED: &str = "no longer part of the installation";

/// Every object that is ours and no longer desired.
///
/// A CRD under which anything is stored but what this very plan deletes never goes. A plan that would drop it
/// is refused (the error: what is stored); one that only goes on or back (`settling`: [`Purpose::Rollback`], an
/// open journal) leaves it, for it must not end in a refusal; and so does one that finds it left like that.
pub(crate) fn prune<'a>(request: &Request<'a>, settling: bool) -> Result<Pruned<'a>, Vec<ObjectKey>> {
    let (desired, observed) = (request.desired, request.observed);
    let mut pruned = Pruned::default();
    for (key, live) in unwanted(desired, observed) {
        if live.is_member(&desired.installation, request.field_manager) {
            pruned.objects.push((key, live, UNWANTED));
        } else {
            // A copy of one of our objects keeps the label, whoever made it.
            pruned.notes.push(left_alone(key));
        }
    }
    let going: BTreeSet<&ObjectKey> = pruned.objects.iter().map(|(key, ..)| *key).collect();
    let settling = settling || request.purpose == Purpose::Rollback;
    let known: BTreeSet<ObjectKey> =
        request.last.iter().flat_map(|last| &last.objects).map(DesiredObject::key).collect();
    let wanted: BTreeSet<ObjectKey> = desired.objects.iter().map(DesiredObject::key).collect();
    let let_go = observed.objects.iter().filter(|(key, live)| {
        known.contains(key) && !wanted.contains(key) && live.is_unlabelled(request.field_manager)
    });
    pruned.notes.extend(
        let_go.map(|(key, _)| format!("{key} stays: somebody has taken this installation's label from it")),
    );
    let mut kept = BTreeSet::new();
    let mut stored = Vec::new();
    for (crd, live, _) in pruned.objects.iter().filter(|(key, ..)| role(key) == Role::Crd) {
        let below =
            observed.custom_objects.keys().filter(|key| defines(&live.value, key) && !going.contains(key));
        let below: Vec<_> = below.cloned().collect();
        if below.is_empty() {
            continue;
        }
        kept.insert((*crd).clone());
        if settling || !known.contains(*crd) {
            pruned.notes.push(format!("{crd} stays: objects are stored under it, {} among them", below[0]));
        } else {
            stored.extend(below);
        }
    }
    if !stored.is_empty() {
        return Err(stored);
    }
    pruned.objects.retain(|(key, ..)| !kept.contains(*key));
    Ok(pruned)
}

/// What is said of an object that only bears our label.
pub(crate) fn left_alone(key: &ObjectKey) -> String {
    format!("{key} carries this installation's label but was never applied by trainerd: it stays")
}

/// The CRDs of ours that a plan towards `desired` would prune. What is stored under them has to be looked up
/// before planning: [`Observed::custom_objects`].
pub fn pruned_crds<'a>(
    desired: &Desired,
    observed: &'a Observed,
    field_manager: &str,
) -> Vec<&'a LiveObject> {
    unwanted(desired, observed)
        .filter(|(key, live)| role(key) == Role::Crd && live.is_member(&desired.installation, field_manager))
        .map(|(_, live)| live)
        .collect()
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
            && role(key) != Role::Namespace
    })
}

/// Delete steps, numbered from `first`, in the order in which things may go, each rank after the one before:
/// what stops admitting, then custom objects while their controller still lives, then workloads, then the
/// rest, then CRDs. The first rank waits for `after`.
pub(crate) fn deletes(
    mut objects: Vec<(&ObjectKey, &LiveObject, &'static str)>,
    first: usize,
    after: Vec<usize>,
) -> Vec<Step> {
    objects.sort_by_key(|(key, ..)| (role(key), *key));
    let mut steps: Vec<Step> = Vec::with_capacity(objects.len());
    let (mut previous, mut rank) = (after, Vec::new());
    for (key, live, why) in objects {
        if steps.last().is_some_and(|last| role(&last.object) != role(key)) {
            previous = std::mem::take(&mut rank);
        }
        rank.push(first + steps.len());
        steps.push(Step {
            component: applyset::label(&live.value, applyset::COMPONENT).unwrap_or_default().to_owned(),
            object: key.clone(),
            resource: live.resource.clone(),
            verb: Verb::Delete {
                uid: live.uid().to_owned(),
                resource_version: live.resource_version().to_owned(),
                part_of: applyset::label(&live.value, applyset::PART_OF).map(str::to_owned),
            },
            manifest: None,
            after: previous.clone(),
            until: Until::Gone,
            why: why.to_owned(),
            changes: Vec::new(),
            yielded: Vec::new(),
            taken: Vec::new(),
        });
    }
    steps
}

/// The steps that no other step waits for: when they are done, everything is.
pub(crate) fn sinks(steps: &[Step]) -> Vec<usize> {
    let followed: BTreeSet<usize> = steps.iter().flat_map(|step| step.after.iter().copied()).collect();
    (0..steps.len()).filter(|index| !followed.contains(index)).collect()
}
