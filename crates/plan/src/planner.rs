//! Desired and Observed become a Plan, or the list of everything that stands against it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::desired::{Desired, DesiredObject};
use crate::drift;
use crate::immutable;
use crate::in_use::{self, PendingDeletion};
use crate::lint::{self, Severity};
use crate::mask;
use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed, true_conditions};
use crate::order::{self, Edges, ObjectClass, object_class};
use crate::ownership::{self, Comparison, FieldChange, FieldPath};
use crate::plan::{Plan, Probe, Purpose, Step, TakenField, Until, Verb};
use crate::prune;
use crate::recreate;
use crate::refused::Refused;
use crate::request::{Conflicts, Request};
use crate::{admission_changes, applyset};
use crate::{intent_digest, webhook_port, yielded_fields};

/// Plans the way from what is observed to what is desired.
///
/// Everything that stands against it is returned, not only the first thing.
pub fn plan(request: &Request<'_>) -> Result<Plan, Vec<Refused>> {
    planned(request, false)
}

/// Plans the rest of a way that was begun: an open journal. Unlike [`plan`] it is not refused for what time
/// resolves: what is being deleted is waited for and created again, and a CRD under which objects are stored stays,
/// with a note.
///
/// The wait is a step of its own before the [`Verb::Create`]: [`Verb::Keep`] until [`Until::Gone`], which holds
/// once the object does not exist or is another one, not being deleted.
pub fn resume(request: &Request<'_>) -> Result<Plan, Vec<Refused>> {
    planned(request, true)
}

fn planned(request: &Request<'_>, resuming: bool) -> Result<Plan, Vec<Refused>> {
    let edges = order::edges(request.desired).map_err(|cycle| vec![Refused::Cycle { circle: cycle.0 }])?;
    let last: BTreeMap<ObjectKey, &DesiredObject> =
        request.last.iter().flat_map(|last| &last.objects).map(|object| (object.key(), object)).collect();

    let mut refused = Vec::new();
    let mut steps = Vec::with_capacity(edges.len());
    let mut pending_deletions = Vec::new();
    let mut position: Vec<Option<usize>> = vec![None; edges.len()];
    // Whether the deletion of an object, or of something that it waits for, is pending.
    let mut stuck = vec![false; edges.len()];
    let mut blocked = false;
    for index in topological(&edges) {
        let object = &request.desired.objects[index];
        if request.only.is_some_and(|only| only != object.component) {
            continue;
        }
        stuck[index] = edges[index].iter().any(|&before| stuck[before]);
        let before: Vec<usize> = edges[index].iter().filter_map(|&before| position[before]).collect();
        let replaces = |&before: &usize| {
            let object = &request.desired.objects[before];
            position[before].is_some_and(|at| replaces_pods(&steps[at]))
                || resuming && webhook_port::replaced_pods(last.get(&object.key()).copied(), object)
        };
        let has_new_pods = edges[index].iter().any(replaces);
        match step(request, object, last.get(&object.key()).copied(), resuming, has_new_pods) {
            // It cannot be written before what is being deleted has been created again.
            Ok(Planned::Step(_, step)) if stuck[index] && step.verb.writes() => blocked = true,
            Ok(Planned::Step(first, mut step)) => {
                step.after = before;
                if let Some(mut first) = first {
                    // What is deleted goes no earlier than what takes its place could come.
                    if first.verb.writes() {
                        first.after.clone_from(&step.after);
                    }
                    step.after.push(steps.len());
                    steps.push(*first);
                }
                position[index] = Some(steps.len());
                steps.push(*step);
            }
            Ok(Planned::PendingDeletion(object)) => {
                stuck[index] = true;
                pending_deletions.push(object);
            }
            Err(reasons) => refused.extend(reasons),
        }
    }
    if blocked {
        refused.extend(pending_deletions.iter().map(terminating));
    }
    refused.extend(stored_data(request, &steps));
    let mut pruned = match request.only {
        Some(_) => prune::Pruned::default(),
        None => prune::prune(request, resuming).unwrap_or_else(|reasons| {
            refused.extend(reasons);
            prune::Pruned::default()
        }),
    };
    if !refused.is_empty() {
        return Err(refused);
    }
    pruned.notes.extend(taken_over(request));
    pruned.notes.extend(recreate::notes(&steps));
    steps.extend(prune::deletes(pruned.objects, steps.len(), prune::sinks(&steps)));
    let last = prune::sinks(&steps);
    steps.extend(prune::releases(pruned.released, &last));
    pruned.notes.extend(admission_changes::notes(request.desired, request.observed, request.field_manager));
    let plan = Plan {
        purpose: request.purpose,
        installation: request.desired.installation.clone(),
        steps,
        probes: probes(request.desired),
        point_of_no_return: None,
        pending_deletions,
        notes: pruned.notes,
    };
    checked(Plan { point_of_no_return: point_of_no_return(&plan), ..plan })
}

/// Refuses a plan that its own rules find unsafe.
pub(crate) fn checked(plan: Plan) -> Result<Plan, Vec<Refused>> {
    let errors: Vec<_> = lint::lint(&plan)
        .into_iter()
        .filter(|f| f.severity == Severity::Error)
        .map(|finding| Refused::Lint { finding })
        .collect();
    if errors.is_empty() { Ok(plan) } else { Err(errors) }
}

fn replaces_pods(step: &Step) -> bool {
    webhook_port::replaces_pods(&step.object, &step.verb, &step.changes)
}

/// What is to be done about one object.
enum Planned {
    /// This; before it the wait where it is being deleted, or the delete where it has to be made again.
    Step(Option<Box<Step>>, Box<Step>),
    /// Nothing: it is being deleted, and something holds it.
    PendingDeletion(PendingDeletion),
}

fn terminating(pending: &PendingDeletion) -> Refused {
    Refused::Terminating { object: pending.object.clone(), finalizers: pending.finalizers.clone() }
}

/// What is said of objects that an installation which is gone has left, and that this one takes over.
fn taken_over(request: &Request<'_>) -> Vec<String> {
    let wanted =
        request.desired.objects.iter().filter_map(|object| request.observed.objects.get(&object.key()));
    let left = wanted.filter(|live| request.observed.is_left(live, request.field_manager));
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for live in left {
        *owners.entry(live.owner()).or_default() += 1;
    }
    let note = |(owner, count)| format!("{count} objects are taken over from {owner}, which was removed");
    owners.into_iter().map(note).collect()
}

/// What is to be done about one object. `replaced`: a step before it replaces pods.
fn step(
    request: &Request<'_>,
    object: &DesiredObject,
    last: Option<&DesiredObject>,
    resuming: bool,
    replaced: bool,
) -> Result<Planned, Vec<Refused>> {
    let key = object.key();
    let create = |why: &str| Decision {
        verb: Verb::Create,
        manifest: applyset::labelled(request.desired, object),
        why: why.to_owned(),
        ..Decision::default()
    };
    let mut waits = false;
    let decision = match request.observed.objects.get(&key) {
        None => create("does not exist"),
        Some(live) if object_class(&key) == ObjectClass::Namespace => {
            if live.terminating() {
                let conditions = true_conditions(&live.value);
                return Err(vec![Refused::NamespaceTerminating { name: key.name, conditions }]);
            }
            // Somebody else's namespace stays as it is, and ours carries nothing that could change.
            Decision { verb: Verb::Keep, ..create("exists") }
        }
        Some(live)
            if live.is_foreign(&request.desired.installation, request.field_manager)
                && !request.observed.is_left(live, request.field_manager) =>
        {
            return Err(vec![Refused::Collision { object: key, owner: live.owner() }]);
        }
        Some(live) if live.terminating() && !resuming => {
            return match in_use::pending_deletion(request.observed, &key, live) {
                Some(pending) => Ok(Planned::PendingDeletion(pending)),
                None => Err(vec![Refused::Terminating { object: key, finalizers: live.finalizers() }]),
            };
        }
        Some(live) if live.terminating() && request.observed.users.contains_key(&key) => {
            let finalizers = live.finalizers();
            let users = request.observed.users.get(&key).cloned().unwrap_or_default();
            return Ok(Planned::PendingDeletion(PendingDeletion { object: key, finalizers, users }));
        }
        Some(live) if live.terminating() => {
            waits = true;
            create("was being deleted")
        }
        Some(live) => existing(request, object, last, live, replaced)?,
    };
    let Decision { verb, manifest, why, changes, yielded, taken, instead_of } = decision;
    let step = Step {
        component: object.component.clone(),
        until: until(&key, &manifest),
        resource: object.resource.clone(),
        manifest: verb.writes().then_some(manifest),
        object: key,
        verb,
        after: Vec::new(),
        why,
        changes,
        yielded,
        taken,
    };
    let gone = |verb: Verb, why: String| Step {
        verb,
        manifest: None,
        until: Until::Gone,
        why,
        changes: Vec::new(),
        yielded: Vec::new(),
        taken: Vec::new(),
        ..step.clone()
    };
    let first = match instead_of {
        Some(live) => Some(gone(prune::delete(live), step.why.clone())),
        None => waits.then(|| gone(Verb::Keep, "is being deleted".to_owned())),
    };
    Ok(Planned::Step(first.map(Box::new), Box::new(step)))
}

/// What is done to one object.
struct Decision<'a> {
    verb: Verb,
    manifest: Value,
    why: String,
    changes: Vec<FieldChange>,
    yielded: Vec<FieldPath>,
    taken: Vec<TakenField>,
    /// What has to be deleted before it is made.
    instead_of: Option<&'a LiveObject>,
}

impl Default for Decision<'_> {
    fn default() -> Self {
        Self {
            verb: Verb::Keep,
            manifest: Value::Null,
            why: String::new(),
            changes: Vec::new(),
            yielded: Vec::new(),
            taken: Vec::new(),
            instead_of: None,
        }
    }
}

fn existing<'a>(
    request: &Request<'_>,
    object: &DesiredObject,
    last: Option<&DesiredObject>,
    live: &'a LiveObject,
    replaced: bool,
) -> Result<Decision<'a>, Vec<Refused>> {
    let (key, manager) = (&object.key(), request.field_manager);
    let mut manifest = applyset::owned(request.desired, object);
    let previous = last.zip(request.last).map(|(object, desired)| applyset::owned(desired, object));
    let turned = webhook_port::turn(&mut manifest, &live.value, request.desired, manager, replaced);
    let mut yielded = object.yielded.clone();
    let mut leave = |manifest: &mut Value, path: &FieldPath| {
        yielded_fields::remove(manifest, path);
        yielded.push(path.clone());
    };
    if request.conflicts == Conflicts::Yield {
        // Left once is left for as long as it is theirs, even while their value happens to be ours.
        let before = last.iter().flat_map(|last| &last.yielded);
        for path in before.filter(|path| ownership::others_own(&live.value, manager, path)) {
            leave(&mut manifest, path);
        }
        intent_digest::annotate(&mut manifest);
    }
    let ignored = drift::ignored_paths(request.ignored, key, &manifest);
    let compare = |manifest: &Value| {
        admission_changes::compare(manifest, previous.as_ref(), &live.value, manager, &ignored).comparison
    };
    let mut comparison = compare(&manifest);
    if request.conflicts == Conflicts::Yield && !comparison.conflicts.is_empty() {
        for conflict in &comparison.conflicts {
            leave(&mut manifest, &conflict.path);
        }
        intent_digest::annotate(&mut manifest);
        comparison = compare(&manifest);
    }
    yielded.sort_by_cached_key(ToString::to_string);
    yielded.dedup();
    let theirs: Vec<FieldPath> = comparison
        .changes
        .iter()
        .filter(|change| drift::is_among(&ignored, &change.path))
        .filter_map(|change| Some(ownership::foreign(&live.value, manager, &change.path)?.at))
        .collect();
    if !theirs.is_empty() {
        for path in &theirs {
            yielded_fields::remove(&mut manifest, path);
        }
        drift::keep_seal(&mut manifest, &live.value);
        comparison = compare(&manifest);
    }
    let mut refused = against(request, key, &live.value, &comparison);
    let recreated = recreate::taken_out(&mut refused, request, key, live);
    if !refused.is_empty() {
        return Err(refused);
    }
    if let Some(why) = recreated {
        let changes = comparison.changes.into_iter().filter(|change| !intent_digest::is_digest(&change.path));
        return Ok(Decision {
            verb: Verb::Create,
            manifest: applyset::labelled(request.desired, object),
            why,
            changes: changes.map(|change| mask::masked(key, change)).collect(),
            instead_of: Some(live),
            ..Decision::default()
        });
    }
    if comparison.changes.is_empty() && !comparison.never_applied {
        let why = "is as it should be".to_owned();
        return Ok(Decision { verb: Verb::Keep, manifest, why, yielded, ..Decision::default() });
    }
    let why = match live.installation() {
        Some(other) if other != request.desired.installation => format!("left by {}", live.owner()),
        _ if turned && comparison.changes.iter().all(|change| webhook_port::is_one(&change.path)) => {
            webhook_port::WHY.to_owned()
        }
        _ => why(&comparison, previous.as_ref(), &manifest),
    };
    manifest = admission_changes::carried(Cow::Owned(manifest), &live.value, manager).into_owned();
    manifest["metadata"]["uid"] = json!(live.uid());
    // Every field that differs was judged above: it is ours to enforce, or the option says force. Without one
    // of those, what somebody takes between the plan and the write conflicts, and is not taken silently.
    let verb = Verb::Apply { uid: live.uid().to_owned(), force: comparison.contested };
    let changes = comparison.changes.into_iter().filter(|change| !intent_digest::is_digest(&change.path));
    let changes = changes.map(|change| mask::masked(key, change)).collect();
    // Refused ones were returned above, and yielded ones are no longer in the manifest.
    let taken = comparison.conflicts.into_iter();
    let taken = taken.map(|conflict| TakenField { path: conflict.path, from: conflict.manager }).collect();
    Ok(Decision { verb, manifest, why, changes, yielded, taken, instead_of: None })
}

fn against(request: &Request<'_>, key: &ObjectKey, live: &Value, comparison: &Comparison) -> Vec<Refused> {
    let immutable = comparison.changes.iter().filter_map(|change| {
        let why = immutable::violates(key, live, change)?;
        Some(Refused::ImmutableField {
            object: key.clone(),
            path: change.path.to_string(),
            why: why.to_owned(),
        })
    });
    let conflicts =
        comparison.conflicts.iter().filter(|_| request.conflicts == Conflicts::Refuse).map(|conflict| {
            let shown = |value: &Value| {
                let change = FieldChange { path: conflict.path.clone(), from: None, to: Some(value.clone()) };
                mask::masked(key, change).to.unwrap_or_default().to_string()
            };
            Refused::FieldConflict {
                object: key.clone(),
                path: conflict.path.to_string(),
                manager: conflict.manager.clone(),
                theirs: shown(&conflict.theirs),
                ours: shown(&conflict.ours),
            }
        });
    immutable.chain(conflicts).collect()
}

/// Whether the intent changed, the cluster did, or both.
fn why(comparison: &Comparison, previous: Option<&Value>, manifest: &Value) -> String {
    match previous {
        _ if comparison.never_applied => "not yet applied by trainerd".to_owned(),
        Some(previous) if previous == manifest => "changed in the cluster".to_owned(),
        Some(_) => "the new revision differs".to_owned(),
        None => "left by an interrupted run".to_owned(),
    }
}

fn until(key: &ObjectKey, manifest: &Value) -> Until {
    if object_class(key) != ObjectClass::Webhook {
        return Until::Ready;
    }
    let webhooks = manifest["webhooks"].as_array().into_iter().flatten();
    let services: BTreeSet<String> = webhooks
        .filter_map(|webhook| {
            let service = &webhook["clientConfig"]["service"];
            Some(format!("{}/{}", service["namespace"].as_str()?, service["name"].as_str()?))
        })
        .collect();
    Until::Admitting { services: services.into_iter().collect() }
}

/// Refusals that protect what is stored under our CRDs.
fn stored_data(request: &Request<'_>, steps: &[Step]) -> Vec<Refused> {
    let mut refused = Vec::new();
    let crds = |verb: fn(&Verb) -> bool| {
        let changed = steps
            .iter()
            .filter(move |s| object_class(&s.object) == ObjectClass::Crd && verb(&s.verb) && touches_spec(s));
        changed.map(|step| step.object.name.clone()).collect::<Vec<_>>()
    };
    let changed = crds(|verb| matches!(verb, Verb::Apply { .. }));
    if request.purpose == Purpose::Rollback && !changed.is_empty() && !request.allow.lossy {
        refused.push(Refused::LossyRollback { crds: changed });
    }
    if !request.observed.workload_refs.is_empty() {
        refused.push(Refused::WorkloadRefInUse { objects: request.observed.workload_refs.clone() });
    }
    refused
}

fn touches_spec(step: &Step) -> bool {
    step.changes.iter().any(|change| change.path.to_string().starts_with(".spec"))
}

/// Whether the new state of the JobSet CRD drops a field of that name that the old one had: then, and only
/// then, the stored JobSets have to be looked at.
pub fn drops_workload_ref(desired: &Desired, observed: &Observed) -> bool {
    let key = ObjectKey {
        group: "apiextensions.k8s.io".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        namespace: None,
        name: "jobsets.jobset.x-k8s.io".to_owned(),
    };
    let new = desired.objects.iter().find(|object| object.key() == key);
    let (Some(new), Some(old)) = (new, observed.objects.get(&key)) else { return false };
    has_field(&old.value["spec"], "workloadRef") && !has_field(&new.manifest["spec"], "workloadRef")
}

/// Whether a key of that name occurs anywhere in a value.
pub fn has_field(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key == name || has_field(value, name)),
        Value::Array(items) => items.iter().any(|item| has_field(item, name)),
        _ => false,
    }
}

/// What the dry-run creates send: the probes of the components, and the custom objects of the plan itself.
fn probes(desired: &Desired) -> Vec<Probe> {
    let custom = desired.objects.iter().filter(|object| object_class(&object.key()) == ObjectClass::Custom);
    let custom =
        custom.map(|object| Probe { resource: object.resource.clone(), manifest: object.manifest.clone() });
    desired.components.values().flat_map(|component| component.probes.iter().cloned()).chain(custom).collect()
}

/// The first step that changes a CRD under which objects may be stored.
fn point_of_no_return(plan: &Plan) -> Option<usize> {
    plan.steps.iter().position(|step| {
        object_class(&step.object) == ObjectClass::Crd
            && matches!(step.verb, Verb::Apply { .. })
            && touches_spec(step)
    })
}

/// Indexes in an order in which every edge points backwards; ties keep the order of the keys.
fn topological(edges: &Edges) -> Vec<usize> {
    let mut waiting: Vec<usize> = edges.iter().map(BTreeSet::len).collect();
    let mut followers = vec![Vec::new(); edges.len()];
    for (index, before) in edges.iter().enumerate() {
        for &earlier in before {
            followers[earlier].push(index);
        }
    }
    let mut ready: BTreeSet<usize> = (0..edges.len()).filter(|&index| waiting[index] == 0).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &next in &followers[index] {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                ready.insert(next);
            }
        }
    }
    order
}
