//! What a plan says about a small stack: order, verbs, refusals, prune and removal.

#![expect(clippy::unwrap_used, reason = "a helper that finds nothing fails its test")]
#![expect(clippy::needless_pass_by_value, reason = "the tests read better without ampersands")]

use std::collections::BTreeMap;

use semver::Version;
use serde_json::{Value, json};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Component, Desired, DesiredObject, Installation};
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::observed::{LiveObject, Observed};
use trainerd_plan::plan::{Plan, Purpose, Until, Verb};
use trainerd_plan::planner::{self, Conflicts, Request};
use trainerd_plan::prune;
use trainerd_plan::refused::Refused;
use trainerd_plan::removal::{self, Extent};
use trainerd_plan::{order, planner::plan};

const MANAGER: &str = "trainerd";

fn installation() -> Installation {
    Installation { name: "kubeflow-trainer".into(), namespace: "kf".into() }
}

fn object(component: &str, resource: (&str, &str, &str, bool), name: &str, body: Value) -> DesiredObject {
    let (group, kind, plural, namespaced) = resource;
    let resource = Resource {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced,
    };
    let mut manifest =
        json!({"apiVersion": resource.api_version(), "kind": kind, "metadata": {"name": name}});
    if namespaced {
        manifest["metadata"]["namespace"] = json!("kf");
    }
    for (key, value) in body.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    DesiredObject { component: component.into(), resource, manifest, after: Vec::new(), yielded: Vec::new() }
}

const DEPLOYMENT: (&str, &str, &str, bool) = ("apps", "Deployment", "deployments", true);
const CONFIG_MAP: (&str, &str, &str, bool) = ("", "ConfigMap", "configmaps", true);
const SERVICE_ACCOUNT: (&str, &str, &str, bool) = ("", "ServiceAccount", "serviceaccounts", true);
const NAMESPACE: (&str, &str, &str, bool) = ("", "Namespace", "namespaces", false);
const CRD: (&str, &str, &str, bool) =
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false);
const WEBHOOK: (&str, &str, &str, bool) = (
    "admissionregistration.k8s.io",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    false,
);
const RUNTIME: (&str, &str, &str, bool) = ("trainer.example.org", "Runtime", "runtimes", false);

fn stack() -> Desired {
    let component = |needs: &[&str]| Component {
        version: Version::new(1, 0, 0),
        needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        probes: Vec::new(),
    };
    let mut objects = vec![
        object("trainer", NAMESPACE, "kf", json!({})),
        object(
            "trainer",
            CRD,
            "runtimes.trainer.example.org",
            json!({"spec": {"group": "trainer.example.org", "names": {"kind": "Runtime"}}}),
        ),
        object("trainer", SERVICE_ACCOUNT, "manager", json!({})),
        object("trainer", CONFIG_MAP, "config", json!({"data": {"a": "1"}})),
        object(
            "trainer",
            DEPLOYMENT,
            "manager",
            json!({"spec": {"replicas": 1, "template": {"spec": {
                "serviceAccountName": "manager",
                "containers": [{"name": "manager", "image": "example.org/manager:v1"}],
            }}}}),
        ),
        object(
            "trainer",
            WEBHOOK,
            "validator",
            json!({"webhooks": [{
                "name": "validator.example.org",
                "clientConfig": {"service": {"name": "manager", "namespace": "kf"}},
                "rules": [{"apiGroups": ["trainer.example.org"], "resources": ["runtimes"]}],
            }]}),
        ),
        object("runtimes", RUNTIME, "torch", json!({"spec": {"image": "x:1"}})),
    ];
    objects.sort_by_cached_key(DesiredObject::key);
    Desired {
        installation: installation(),
        components: BTreeMap::from([
            ("trainer".to_owned(), component(&[])),
            ("runtimes".to_owned(), component(&["trainer"])),
        ]),
        options: BTreeMap::new(),
        given: Vec::new(),
        objects,
    }
}

/// The object as the API server has it after we applied it.
fn applied(desired: &Desired, object: &DesiredObject) -> LiveObject {
    fn fields(value: &Value) -> Value {
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().map(|(key, value)| (format!("f:{key}"), fields(value))).collect()
            }
            _ => json!({}),
        }
    }
    let sent = applyset::owned(desired, object);
    let mut value = sent.clone();
    value["metadata"]["uid"] = json!(format!("uid-of-{}", object.key()));
    let owned: Value = sent
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"))
        .map(|(key, value)| {
            let labels = json!({"f:labels": fields(&sent["metadata"]["labels"])});
            (format!("f:{key}"), if key == "metadata" { labels } else { fields(value) })
        })
        .collect();
    value["metadata"]["managedFields"] = json!([
        {"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": owned}
    ]);
    LiveObject { resource: object.resource.clone(), value }
}

fn all_applied(desired: &Desired) -> Observed {
    let objects = desired.objects.iter().map(|object| (object.key(), applied(desired, object)));
    Observed { objects: objects.collect(), ..Observed::default() }
}

fn request<'a>(desired: &'a Desired, last: Option<&'a Desired>, observed: &'a Observed) -> Request<'a> {
    Request {
        purpose: Purpose::Change,
        desired,
        last,
        observed,
        conflicts: Conflicts::Refuse,
        allow_lossy: false,
        field_manager: MANAGER,
    }
}

fn position(plan: &Plan, kind: &str) -> usize {
    plan.steps.iter().position(|step| step.object.kind == kind).unwrap()
}

fn find<'a>(desired: &'a Desired, kind: &str) -> &'a DesiredObject {
    desired.objects.iter().find(|object| object.resource.kind == kind).unwrap()
}

/// The desired state without everything of some kinds.
fn without(kinds: &[&str]) -> Desired {
    let mut desired = stack();
    desired.objects.retain(|object| !kinds.contains(&object.resource.kind.as_str()));
    desired
}

/// A runtime that a person made.
fn users_runtime(observed: &mut Observed) -> ObjectKey {
    let mut live = observed.objects.values().find(|live| live.resource.kind == "Runtime").unwrap().clone();
    live.value["metadata"]["name"] = json!("mine");
    live.value["metadata"]["labels"] = json!({});
    let key = ObjectKey::of(&live.value).unwrap();
    observed.custom_objects.insert(key.clone(), live);
    key
}

/// `manager` sets a field with an update: whoever had it with another value has it no longer.
fn edit(observed: &mut Observed, key: &ObjectKey, manager: &str, path: [&str; 2], value: Value) {
    let live = &mut observed.objects.get_mut(key).unwrap().value;
    let [parent, field] = path;
    live[parent][field] = value;
    let (parent, field) = (format!("f:{parent}"), format!("f:{field}"));
    for entry in live["metadata"]["managedFields"].as_array_mut().unwrap() {
        if let Some(fields) = entry["fieldsV1"][&parent].as_object_mut() {
            fields.remove(&field);
        }
    }
    let fields = json!({parent: {field: {}}});
    let entry = json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
    live["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
}

fn set(desired: &mut Desired, kind: &str, pointer: &str, value: Value) {
    let object = desired.objects.iter_mut().find(|object| object.resource.kind == kind).unwrap();
    *object.manifest.pointer_mut(pointer).unwrap() = value;
}

#[test]
fn a_fresh_stack_is_created_in_the_order_of_its_edges() {
    let desired = stack();
    let observed = Observed::default();
    let plan = plan(&request(&desired, None, &observed)).unwrap();
    assert!(plan.steps.iter().all(|step| step.verb == Verb::Create));
    for (index, step) in plan.steps.iter().enumerate() {
        assert!(
            step.after.iter().all(|before| *before < index),
            "{} comes before what it waits for",
            step.object
        );
    }
    let chain = ["Namespace", "ServiceAccount", "Deployment", "ValidatingWebhookConfiguration", "Runtime"];
    for pair in chain.windows(2) {
        let later = &plan.steps[position(&plan, pair[1])];
        assert!(later.after.contains(&position(&plan, pair[0])), "{} waits for {}", pair[1], pair[0]);
    }
    let webhook = &plan.steps[position(&plan, "ValidatingWebhookConfiguration")];
    assert_eq!(webhook.until, Until::Admitting { services: vec!["kf/manager".to_owned()] });
}

#[test]
fn nothing_changed_is_an_empty_plan() {
    let desired = stack();
    let observed = all_applied(&desired);
    let plan = plan(&request(&desired, Some(&desired), &observed)).unwrap();
    assert!(plan.is_empty(), "{:?}", plan.steps.iter().filter(|step| step.verb.writes()).collect::<Vec<_>>());
}

#[test]
fn a_changed_image_is_one_apply_with_its_field_and_the_observed_uid() {
    let old = stack();
    let mut new = stack();
    set(&mut new, "Deployment", "/spec/template/spec/containers/0/image", json!("example.org/manager:v2"));
    let observed = all_applied(&old);
    let plan = plan(&request(&new, Some(&old), &observed)).unwrap();
    let writes: Vec<_> = plan.steps.iter().filter(|step| step.verb.writes()).collect();
    assert_eq!(writes.len(), 1);
    let uid = format!("uid-of-{}", writes[0].object);
    assert_eq!(writes[0].verb, Verb::Apply { uid: uid.clone(), force: false });
    assert_eq!(writes[0].manifest.as_ref().unwrap()["metadata"]["uid"], json!(uid));
    assert_eq!(writes[0].why, "the new revision differs");
    assert!(writes[0].changes[0].path.to_string().ends_with("image") || writes[0].changes.len() == 1);
}

#[test]
fn a_foreign_edit_is_put_right_because_the_field_was_ours() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let key = desired.objects.iter().find(|object| object.resource.kind == "ConfigMap").unwrap().key();
    observed.objects.get_mut(&key).unwrap().value["data"]["a"] = json!("edited");
    let plan = plan(&request(&desired, Some(&desired), &observed)).unwrap();
    let step = plan.steps.iter().find(|step| step.verb.writes()).unwrap();
    assert_eq!((step.object.clone(), step.why.as_str()), (key, "changed in the cluster"));
    assert_eq!(step.changes[0].path.to_string(), ".data.a");
}

#[test]
fn force_is_used_only_where_another_manager_owns_what_changes() {
    let (old, mut new) = (stack(), stack());
    set(&mut new, "ConfigMap", "/data/a", json!("2"));
    let key = find(&old, "ConfigMap").key();
    let untouched = all_applied(&old);
    let mut elsewhere = all_applied(&old);
    edit(&mut elsewhere, &key, "kubectl", ["data", "theirs"], json!("x"));
    let mut taken = all_applied(&old);
    edit(&mut taken, &key, "kubectl", ["data", "a"], json!("x"));
    for (name, observed, forced) in
        [("untouched", untouched, false), ("another field", elsewhere, false), ("this field", taken, true)]
    {
        let plan = plan(&request(&new, Some(&old), &observed)).unwrap();
        let step = plan.steps.iter().find(|step| step.object == key).unwrap();
        assert!(matches!(step.verb, Verb::Apply { force, .. } if force == forced), "{name}: {:?}", step.verb);
    }
}

#[test]
fn a_field_that_was_yielded_stays_theirs_until_they_leave_it() {
    let before = stack();
    let mut desired = stack();
    set(&mut desired, "ConfigMap", "/data", json!({"a": "1", "b": "ours"}));
    let key = find(&desired, "ConfigMap").key();
    let mut observed = all_applied(&before);
    edit(&mut observed, &key, "hpa", ["data", "b"], json!("theirs"));
    let planned = |last: &Desired, observed: &Observed, conflicts: Conflicts| {
        plan(&Request { conflicts, ..request(&desired, Some(last), observed) })
    };
    let writes = |plan: &Plan| plan.steps.iter().filter(|step| step.verb.writes()).count();

    let first = planned(&before, &observed, Conflicts::Yield).unwrap();
    assert_eq!(writes(&first), 0);
    let revision = planner::with_yielded(&desired, &first);
    let yielded: Vec<String> = find(&revision, "ConfigMap").yielded.iter().map(ToString::to_string).collect();
    assert_eq!(yielded, [".data.b"]);

    // Planned again, or again with a value of theirs that happens to be ours: nothing changes.
    let mut equal = observed.clone();
    edit(&mut equal, &key, "hpa", ["data", "b"], json!("ours"));
    for observed in [&observed, &equal] {
        let again = planned(&revision, observed, Conflicts::Yield).unwrap();
        assert_eq!((writes(&again), &planner::with_yielded(&desired, &again)), (0, &revision));
    }
    // The object as it is stored is what was sent, not what was rendered.
    let stored = &revision;
    let repaired = plan(&request(stored, Some(stored), &observed)).unwrap();
    assert_eq!((writes(&repaired), &planner::with_yielded(stored, &repaired)), (0, stored));
    // Without `yield` the field is still not taken for ours.
    let refused = planned(&revision, &observed, Conflicts::Refuse).unwrap_err();
    assert!(matches!(refused.as_slice(), [Refused::FieldConflict { path, .. }] if path == ".data.b"));
    let forced = planned(&revision, &observed, Conflicts::Force).unwrap();
    assert!(find(&planner::with_yielded(&desired, &forced), "ConfigMap").yielded.is_empty());
    let step = forced.steps.iter().find(|step| step.object == key).unwrap();
    assert!(matches!(step.verb, Verb::Apply { force: true, .. }));
    // Nobody's any more: it becomes ours.
    let mut left = all_applied(&before);
    left.objects.get_mut(&key).unwrap().value["data"]["b"] = json!("theirs");
    let taken = planned(&revision, &left, Conflicts::Yield).unwrap();
    let step = taken.steps.iter().find(|step| step.object == key).unwrap();
    assert_eq!(step.manifest.as_ref().unwrap()["data"]["b"], json!("ours"));
    assert!(step.yielded.is_empty());
}

#[test]
fn a_field_of_ours_that_an_edit_took_is_enforced_even_under_yield() {
    let desired = stack();
    let key = find(&desired, "ConfigMap").key();
    let mut observed = all_applied(&desired);
    edit(&mut observed, &key, "kubectl", ["data", "a"], json!("edited"));
    let plan = plan(&Request { conflicts: Conflicts::Yield, ..request(&desired, Some(&desired), &observed) })
        .unwrap();
    let step = plan.steps.iter().find(|step| step.object == key).unwrap();
    assert!(matches!(step.verb, Verb::Apply { force: true, .. }) && step.yielded.is_empty());
}

#[test]
fn what_is_being_deleted_is_refused_but_waited_for_when_a_broken_off_plan_goes_on() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let key = find(&desired, "ServiceAccount").key();
    let metadata = &mut observed.objects.get_mut(&key).unwrap().value["metadata"];
    metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    metadata["finalizers"] = json!(["example.org/hold"]);
    let request = request(&desired, Some(&desired), &observed);
    let refused = plan(&request).unwrap_err();
    let finalizers = vec!["example.org/hold".to_owned()];
    assert_eq!(refused, [Refused::Terminating { object: key.clone(), finalizers }]);

    let resumed = planner::resume(&request).unwrap();
    let steps: Vec<usize> = (0..resumed.steps.len()).filter(|i| resumed.steps[*i].object == key).collect();
    let [wait, create] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((&resumed.steps[*wait].verb, &resumed.steps[*wait].until), (&Verb::Keep, &Until::Gone));
    assert_eq!((&resumed.steps[*create].verb, &resumed.steps[*create].until), (&Verb::Create, &Until::Ready));
    assert!(resumed.steps[*create].after.contains(wait) && resumed.steps[*create].manifest.is_some());
    let deployment = &resumed.steps[position(&resumed, "Deployment")];
    assert!(deployment.after.contains(create), "what needs it waits for the new one");
    assert_eq!(resumed.counts().keep, desired.objects.len() - 1);
}

#[test]
fn what_is_in_other_hands_is_refused_with_their_name() {
    let desired = stack();
    let config = find(&desired, "ConfigMap");
    let helm = json!({"annotations": {"meta.helm.sh/release-name": "trainer"}});
    let by_helm = json!([{"manager": "helm", "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}}}}]);
    let other_set = json!({"labels": {applyset::PART_OF: "applyset-other-v1",
        applyset::INSTALLATION: "other", applyset::NAMESPACE: "their-ns"}});
    let rows = [
        ("made by Helm", helm.clone(), Some(by_helm), Some("Helm release trainer")),
        ("our apply, label gone", helm, None, None),
        ("another installation's", other_set, None, Some("trainerd installation their-ns/other")),
    ];
    for (name, metadata, managed, owner) in rows {
        let mut live = applied(&desired, config);
        live.value["metadata"]["labels"] = json!({});
        for (field, value) in metadata.as_object().unwrap() {
            live.value["metadata"][field] = value.clone();
        }
        if let Some(managed) = managed {
            live.value["metadata"]["managedFields"] = managed;
        }
        let observed = Observed { objects: BTreeMap::from([(config.key(), live)]), ..Observed::default() };
        // That it was ours once changes nothing: it may have been deleted and made anew by somebody else.
        for last in [None, Some(&desired)] {
            let refused = plan(&request(&desired, last, &observed)).err().unwrap_or_default();
            let collision =
                owner.map(|owner| Refused::Collision { object: config.key(), owner: owner.into() });
            assert_eq!(refused, collision.into_iter().collect::<Vec<_>>(), "{name}");
        }
    }
}

#[test]
fn the_namespace_may_be_anybodys_but_must_not_be_going_away() {
    let desired = stack();
    let mut observed = Observed::default();
    let namespace = desired.objects.iter().find(|object| object.resource.kind == "Namespace").unwrap();
    let mut live = applied(&desired, namespace);
    live.value["metadata"]["labels"] = json!({});
    observed.objects.insert(namespace.key(), live.clone());
    let planned = plan(&request(&desired, None, &observed)).unwrap();
    assert_eq!(planned.steps[position(&planned, "Namespace")].verb, Verb::Keep);

    live.value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    observed.objects.insert(namespace.key(), live);
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    assert_eq!(refused, [Refused::NamespaceTerminating { name: "kf".into() }]);
}

#[test]
fn a_rollback_that_changes_a_crd_needs_a_word() {
    let desired = stack();
    let mut newer = stack();
    set(
        &mut newer,
        "CustomResourceDefinition",
        "/spec/names",
        json!({"kind": "Runtime", "shortNames": ["rt"]}),
    );
    let observed = all_applied(&newer);
    let mut request = request(&desired, Some(&newer), &observed);
    request.purpose = Purpose::Rollback;
    let refused = plan(&request).unwrap_err();
    assert_eq!(refused, [Refused::LossyRollback { crds: vec!["runtimes.trainer.example.org".into()] }]);
    request.allow_lossy = true;
    let planned = plan(&request).unwrap();
    assert_eq!(planned.point_of_no_return, Some(position(&planned, "CustomResourceDefinition")));
}

#[test]
fn what_is_no_longer_desired_is_deleted_by_uid_after_all_else() {
    let old = stack();
    let new = without(&["ConfigMap"]);
    let mut observed = all_applied(&old);
    // Somebody else's object of the same kind is none of our business, nor is a copy of ours with its label.
    for (name, labelled) in [("theirs", false), ("copy", true)] {
        let mut live = applied(&old, find(&old, "ConfigMap"));
        live.value["metadata"]["name"] = json!(name);
        live.value["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
        if !labelled {
            live.value["metadata"]["labels"] = json!({});
        }
        observed.objects.insert(ObjectKey::of(&live.value).unwrap(), live);
    }
    let plan = plan(&request(&new, Some(&old), &observed)).unwrap();
    let (deletes, others): (Vec<_>, Vec<_>) =
        (0..plan.steps.len()).partition(|index| matches!(plan.steps[*index].verb, Verb::Delete { .. }));
    assert_eq!(deletes.len(), 1);
    assert_eq!(plan.steps[deletes[0]].verb, Verb::Delete { uid: "uid-of-ConfigMap kf/config".into() });
    // Directly or by way of others, the delete waits for every other step.
    let mut before = std::collections::BTreeSet::new();
    let mut queue = plan.steps[deletes[0]].after.clone();
    while let Some(index) = queue.pop() {
        if before.insert(index) {
            queue.extend(&plan.steps[index].after);
        }
    }
    assert_eq!(before.into_iter().collect::<Vec<_>>(), others);
    assert!(
        matches!(plan.notes.as_slice(), [note] if note.starts_with("ConfigMap kf/copy ")),
        "{:?}",
        plan.notes
    );
}

#[test]
fn a_crd_goes_only_when_nothing_is_stored_under_it_but_what_the_plan_deletes() {
    let old = stack();
    let new = without(&["CustomResourceDefinition", "Runtime"]);
    let empty = all_applied(&old);
    let mut in_use = all_applied(&old);
    let mine = users_runtime(&mut in_use);
    // What observing fills in: everything stored, our own included.
    let own = find(&old, "Runtime").key();
    in_use.custom_objects.insert(own.clone(), in_use.objects[&own].clone());
    let found = prune::pruned_crds(&new, &in_use, MANAGER);
    assert_eq!(found.len(), 1);
    assert!(prune::pruned_crds(&old, &in_use, MANAGER).is_empty());

    let refusal = Refused::CustomObjectsExist { objects: vec![mine] };
    let rows = [
        ("empty", &empty, Purpose::Change, Some(&old), false, Ok(true)),
        ("forward", &in_use, Purpose::Change, Some(&old), false, Err(refusal)),
        ("going on", &in_use, Purpose::Upgrade, Some(&old), true, Ok(false)),
        ("going back", &in_use, Purpose::Rollback, Some(&old), false, Ok(false)),
        ("left by a rollback", &in_use, Purpose::Change, Some(&new), false, Ok(false)),
        ("left, and empty now", &empty, Purpose::Change, Some(&new), false, Ok(true)),
    ];
    for (name, observed, purpose, last, resuming, expected) in rows {
        let request = Request { purpose, ..request(&new, last, observed) };
        let planned = if resuming { planner::resume(&request) } else { plan(&request) };
        match expected {
            Err(refused) => assert_eq!(planned.unwrap_err(), [refused], "{name}"),
            Ok(goes) => {
                let planned = planned.unwrap();
                let deleted = |kind: &str| {
                    let mut steps = planned.steps.iter().filter(|step| step.object.kind == kind);
                    steps.any(|step| matches!(step.verb, Verb::Delete { .. }))
                };
                assert_eq!((deleted("CustomResourceDefinition"), deleted("Runtime")), (goes, true), "{name}");
                assert_eq!(planned.notes.len(), usize::from(!goes), "{name}: {:?}", planned.notes);
            }
        }
    }
}

#[test]
fn a_removal_stops_admission_first_and_keeps_what_is_stored_unless_told() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let kinds = |plan: &Plan| plan.steps.iter().map(|step| step.object.kind.clone()).collect::<Vec<_>>();
    let removal = |observed: &Observed, extent| removal::plan(&installation(), observed, extent, MANAGER);

    let keep = removal(&observed, Extent::KeepStored).unwrap();
    assert_eq!(kinds(&keep), ["ValidatingWebhookConfiguration", "Deployment", "ConfigMap", "ServiceAccount"]);
    assert!(keep.steps[0].after.is_empty() && keep.steps[1].after == [0]);

    let all = removal(&observed, Extent::Purge).unwrap();
    assert_eq!(
        kinds(&all),
        [
            "ValidatingWebhookConfiguration",
            "Runtime",
            "Deployment",
            "ConfigMap",
            "ServiceAccount",
            "CustomResourceDefinition"
        ]
    );
    for pair in all.steps.windows(2) {
        assert!(order::role(&pair[0].object) <= order::role(&pair[1].object));
    }

    let job = users_runtime(&mut observed);
    let refused = removal(&observed, Extent::Purge).unwrap_err();
    assert_eq!(refused, [Refused::CustomObjectsExist { objects: vec![job.clone()] }]);

    let purge = removal(&observed, Extent::PurgeWithJobs).unwrap();
    assert_eq!(kinds(&purge).last().unwrap(), "CustomResourceDefinition");
    assert!(purge.steps.iter().any(|step| step.object == job));

    // The same CRD in somebody else's hands: it stays, and everything under it.
    let crd = observed.objects.get_mut(&find(&desired, "CustomResourceDefinition").key()).unwrap();
    crd.value["metadata"]["labels"] = json!({});
    for extent in [Extent::Purge, Extent::PurgeWithJobs] {
        let spared = removal(&observed, extent).unwrap();
        assert!(spared.steps.iter().all(|step| step.object != job));
        assert!(!kinds(&spared).contains(&"CustomResourceDefinition".to_owned()));
    }
}

#[test]
fn a_removal_leaves_what_only_bears_the_label() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let key = find(&desired, "ConfigMap").key();
    observed.objects.get_mut(&key).unwrap().value["metadata"]["managedFields"][0]["manager"] =
        json!("kubectl");
    let plan = removal::plan(&installation(), &observed, Extent::Purge, MANAGER).unwrap();
    assert!(plan.steps.iter().all(|step| step.object != key));
    assert!(
        matches!(plan.notes.as_slice(), [note] if note.starts_with(&key.to_string())),
        "{:?}",
        plan.notes
    );
}

#[test]
fn thousands_of_objects_are_ordered_at_once() {
    let mut desired = stack();
    let many = (0..5_000).map(|n| object("trainer", CONFIG_MAP, &format!("many-{n:04}"), json!({})));
    desired.objects.extend(many);
    desired.objects.sort_by_cached_key(DesiredObject::key);
    let edges = order::edges(&desired).unwrap();
    let at = |kind: &str| desired.objects.iter().position(|object| object.resource.kind == kind).unwrap();
    let namespace = at("Namespace");
    let maps = (0..edges.len()).filter(|i| desired.objects[*i].resource.kind == "ConfigMap");
    for map in maps.clone() {
        assert_eq!(edges[map].iter().copied().collect::<Vec<_>>(), [namespace]);
        assert!(edges[at("Deployment")].contains(&map));
    }
    assert_eq!(maps.count(), 5_001);
}

#[test]
fn a_circle_is_named() {
    let mut desired = stack();
    let webhook =
        desired.objects.iter().find(|o| o.resource.kind == "ValidatingWebhookConfiguration").unwrap().key();
    let deployment = desired.objects.iter_mut().find(|object| object.resource.kind == "Deployment").unwrap();
    let key = deployment.key();
    deployment.after.push(webhook.clone());
    let observed = Observed::default();
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    let [Refused::Cycle { circle }] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(circle.contains(&key) && circle.contains(&webhook));
    assert_eq!(circle.first(), circle.last());
}

#[test]
fn an_untagged_image_is_refused() {
    let mut desired = stack();
    set(
        &mut desired,
        "Deployment",
        "/spec/template/spec/containers/0/image",
        json!("example.org:5000/manager"),
    );
    let observed = Observed::default();
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    let [Refused::Lint { finding }] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(finding.code, "image-without-tag");
}

#[test]
fn jobsets_that_use_a_dropped_field_stand_against_the_upgrade() {
    let crd = |fields: Value| {
        object(
            "jobset",
            CRD,
            "jobsets.jobset.x-k8s.io",
            json!({"spec": {"group": "jobset.x-k8s.io", "names": {"kind": "JobSet"}, "versions": [{"schema": fields}]}}),
        )
    };
    let mut old = stack();
    old.objects.push(crd(json!({"workloadRef": {}})));
    let mut new = stack();
    new.objects.push(crd(json!({"other": {}})));
    let mut observed = all_applied(&old);
    assert!(planner::drops_workload_ref(&new, &observed));
    assert!(!planner::drops_workload_ref(&old, &observed));
    let job_set = ObjectKey {
        group: "jobset.x-k8s.io".into(),
        kind: "JobSet".into(),
        namespace: Some("team".into()),
        name: "a".into(),
    };
    observed.workload_refs.push(job_set.clone());
    let refused = plan(&request(&new, Some(&old), &observed)).unwrap_err();
    assert_eq!(refused, [Refused::WorkloadRefInUse { objects: vec![job_set] }]);
}
