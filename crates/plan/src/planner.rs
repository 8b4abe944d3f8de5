//! Desired and Observed become a Plan, or the list of everything that stands against it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::applyset;
use crate::desired::{Desired, DesiredObject};
use crate::immutable;
use crate::lint::{self, Severity};
use crate::mask;
use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed};
use crate::order::{self, Edges, Role, role};
use crate::ownership::{self, FieldChange, Judgement};
use crate::plan::{Plan, Probe, Purpose, Step, Until, Verb};
use crate::refused::Refused;
use crate::yielding;

/// What happens to a field that another manager set and that we never owned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conflicts {
    /// Our value is written over theirs.
    Force,
    /// No plan is made.
    #[default]
    Refuse,
    /// Their value stays, and the field leaves our intent.
    Yield,
}

/// All that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What the plan is for.
    pub purpose: Purpose,
    /// Where to.
    pub desired: &'a Desired,
    /// What our last revision sent; its fields are enforced, its objects may be pruned.
    pub last: Option<&'a Desired>,
    /// The facts.
    pub observed: &'a Observed,
    /// See [`Conflicts`].
    pub conflicts: Conflicts,
    /// Whether a rollback may change CRDs.
    pub allow_lossy: bool,
    /// The field manager that writes.
    pub field_manager: &'a str,
}

/// Plans the way from what is observed to what is desired.
///
/// Everything that stands against it is returned, not only the first thing.
pub fn plan(request: &Request<'_>) -> Result<Plan, Vec<Refused>> {
    let edges = order::edges(request.desired).map_err(|cycle| vec![Refused::Cycle { circle: cycle.0 }])?;
    let order = topological(&edges);
    let position: BTreeMap<usize, usize> =
        order.iter().enumerate().map(|(place, &index)| (index, place)).collect();
    let last: BTreeMap<ObjectKey, &DesiredObject> =
        request.last.iter().flat_map(|last| &last.objects).map(|object| (object.key(), object)).collect();

    let mut refused = Vec::new();
    let mut steps = Vec::with_capacity(order.len());
    for &index in &order {
        let object = &request.desired.objects[index];
        match step(request, object, last.get(&object.key()).copied()) {
            Ok(mut step) => {
                step.after = edges[index].iter().map(|before| position[before]).collect();
                steps.push(step);
            }
            Err(reasons) => refused.extend(reasons),
        }
    }
    refused.extend(stored_data(request, &steps));
    if !refused.is_empty() {
        return Err(refused);
    }
    steps.extend(prune(request, steps.len()));
    let probes = probes(request.desired);
    let plan = Plan {
        purpose: request.purpose,
        installation: request.desired.installation.clone(),
        steps,
        probes,
        point_of_no_return: None,
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

fn step(
    request: &Request<'_>,
    object: &DesiredObject,
    last: Option<&DesiredObject>,
) -> Result<Step, Vec<Refused>> {
    let key = object.key();
    let mut manifest = applyset::owned(request.desired, object);
    let (verb, why, changes) = match request.observed.objects.get(&key) {
        None => (Verb::Create, "does not exist".to_owned(), Vec::new()),
        Some(live) if role(&key) == Role::Namespace => {
            if live.terminating() {
                return Err(vec![Refused::NamespaceTerminating { name: key.name }]);
            }
            // Somebody else's namespace stays as it is, and ours carries nothing that could change.
            (Verb::Keep, "exists".to_owned(), Vec::new())
        }
        Some(live) => existing(request, &key, &mut manifest, last, live)?,
    };
    Ok(Step {
        component: object.component.clone(),
        until: until(&key, &manifest),
        resource: object.resource.clone(),
        manifest: verb.writes().then_some(manifest),
        object: key,
        verb,
        after: Vec::new(),
        why,
        changes,
    })
}

type Decision = (Verb, String, Vec<FieldChange>);

fn existing(
    request: &Request<'_>,
    key: &ObjectKey,
    manifest: &mut Value,
    last: Option<&DesiredObject>,
    live: &LiveObject,
) -> Result<Decision, Vec<Refused>> {
    let installation = &request.desired.installation;
    if !live.belongs_to(installation) && last.is_none() {
        return Err(vec![Refused::Collision { object: key.clone(), owner: live.owner() }]);
    }
    if live.terminating() {
        return Err(vec![Refused::Terminating { object: key.clone(), finalizers: live.finalizers() }]);
    }
    let previous = last.zip(request.last).map(|(object, desired)| applyset::owned(desired, object));
    let mut judgement = ownership::judge(manifest, previous.as_ref(), &live.value, request.field_manager);
    if request.conflicts == Conflicts::Yield && !judgement.conflicts.is_empty() {
        for conflict in &judgement.conflicts {
            yielding::remove(manifest, &conflict.path);
        }
        judgement = ownership::judge(manifest, previous.as_ref(), &live.value, request.field_manager);
    }
    let refused = against(request, key, &live.value, &judgement);
    if !refused.is_empty() {
        return Err(refused);
    }
    if judgement.changes.is_empty() && !judgement.never_applied {
        return Ok((Verb::Keep, "is as it should be".to_owned(), Vec::new()));
    }
    manifest["metadata"]["uid"] = json!(live.uid());
    let why = why(&judgement, previous.as_ref(), manifest);
    // Every field that differs was judged above: it is ours to enforce, or the option says force.
    let verb = Verb::Apply { uid: live.uid().to_owned(), force: true };
    let changes = judgement.changes.into_iter().map(|change| mask::masked(key, change)).collect();
    Ok((verb, why, changes))
}

fn against(request: &Request<'_>, key: &ObjectKey, live: &Value, judgement: &Judgement) -> Vec<Refused> {
    let immutable = judgement.changes.iter().filter_map(|change| {
        let why = immutable::violates(key, live, change)?;
        Some(Refused::ImmutableField {
            object: key.clone(),
            path: change.path.to_string(),
            why: why.to_owned(),
        })
    });
    let conflicts =
        judgement.conflicts.iter().filter(|_| request.conflicts == Conflicts::Refuse).map(|conflict| {
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
fn why(judgement: &Judgement, previous: Option<&Value>, manifest: &Value) -> String {
    let mut intent = manifest.clone();
    if let Some(metadata) = intent["metadata"].as_object_mut() {
        metadata.remove("uid");
    }
    match previous {
        _ if judgement.never_applied => "not yet applied by trainerd".to_owned(),
        Some(previous) if *previous == intent => "changed in the cluster".to_owned(),
        Some(_) => "the new revision differs".to_owned(),
        None => "left by an interrupted run".to_owned(),
    }
}

fn until(key: &ObjectKey, manifest: &Value) -> Until {
    if role(key) != Role::Webhook {
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
        let changed =
            steps.iter().filter(move |s| role(&s.object) == Role::Crd && verb(&s.verb) && touches_spec(s));
        changed.map(|step| step.object.name.clone()).collect::<Vec<_>>()
    };
    let changed = crds(|verb| matches!(verb, Verb::Apply { .. }));
    if request.purpose == Purpose::Rollback && !changed.is_empty() && !request.allow_lossy {
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

/// Deletes for every object that is ours and no longer desired, after everything else is done.
fn prune(request: &Request<'_>, done: usize) -> Vec<Step> {
    let desired: BTreeSet<ObjectKey> = request.desired.objects.iter().map(DesiredObject::key).collect();
    let unwanted = request.observed.objects.iter().filter(|(key, live)| {
        !desired.contains(key)
            && live.belongs_to(&request.desired.installation)
            && role(key) != Role::Namespace
    });
    deletes(
        unwanted.map(|(key, live)| (key, live, "no longer part of the installation")),
        &(0..done).collect::<Vec<_>>(),
    )
}

/// Delete steps in the order in which things may go, each rank after the one before: what stops admitting,
/// then custom objects while their controller still lives, then workloads, then the rest, then CRDs.
pub(crate) fn deletes<'a>(
    objects: impl Iterator<Item = (&'a ObjectKey, &'a LiveObject, &'a str)>,
    after: &[usize],
) -> Vec<Step> {
    let mut objects: Vec<_> = objects.collect();
    objects.sort_by_key(|(key, ..)| (role(key), (*key).clone()));
    let first = after.iter().max().map_or(0, |last| last + 1);
    let mut previous = after.to_vec();
    let mut steps: Vec<Step> = Vec::with_capacity(objects.len());
    let mut rank = (None, Vec::new());
    for (index, (key, live, why)) in objects.into_iter().enumerate() {
        if rank.0 != Some(role(key)) {
            if rank.0.is_some() {
                previous = std::mem::take(&mut rank.1);
            }
            rank.0 = Some(role(key));
        }
        rank.1.push(first + index);
        steps.push(Step {
            component: applyset::label(&live.value, applyset::COMPONENT).unwrap_or_default().to_owned(),
            object: key.clone(),
            resource: live.resource.clone(),
            verb: Verb::Delete { uid: live.uid().to_owned() },
            manifest: None,
            after: previous.clone(),
            until: Until::Gone,
            why: why.to_owned(),
            changes: Vec::new(),
        });
    }
    steps
}

/// What the dry-run creates send: the probes of the components, and the custom objects of the plan itself.
fn probes(desired: &Desired) -> Vec<Probe> {
    let custom = desired.objects.iter().filter(|object| role(&object.key()) == Role::Custom);
    let custom =
        custom.map(|object| Probe { resource: object.resource.clone(), manifest: object.manifest.clone() });
    desired.components.values().flat_map(|component| component.probes.iter().cloned()).chain(custom).collect()
}

/// The first step that changes a CRD under which objects may be stored.
fn point_of_no_return(plan: &Plan) -> Option<usize> {
    plan.steps.iter().position(|step| {
        role(&step.object) == Role::Crd && matches!(step.verb, Verb::Apply { .. }) && touches_spec(step)
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
