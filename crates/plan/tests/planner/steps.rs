//! Order, verbs and refusals.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trainerd_plan::applyset;
use trainerd_plan::desired::{Desired, DesiredObject, Installation};
use trainerd_plan::in_use::PendingDeletion;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Plan, Purpose, Until, Verb};
use trainerd_plan::planner;
use trainerd_plan::refused::Refused;
use trainerd_plan::request::{Conflicts, Request};
use trainerd_plan::yielded_fields;
use trainerd_plan::{order, planner::plan};

use crate::stack::*;

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
fn an_edit_of_our_field_is_repaired() {
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
fn force_is_used_only_for_fields_of_other_managers() {
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
fn a_yielded_field_is_kept_until_its_owner_releases_it() {
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
    let revision = yielded_fields::with_yielded(desired.clone(), &first);
    let yielded: Vec<String> = find(&revision, "ConfigMap").yielded.iter().map(ToString::to_string).collect();
    assert_eq!(yielded, [".data.b"]);

    // Planned again, or again with a value of theirs that happens to be ours: nothing changes.
    let mut equal = observed.clone();
    edit(&mut equal, &key, "hpa", ["data", "b"], json!("ours"));
    for observed in [&observed, &equal] {
        let again = planned(&revision, observed, Conflicts::Yield).unwrap();
        assert_eq!((writes(&again), &yielded_fields::with_yielded(desired.clone(), &again)), (0, &revision));
    }
    // The object as it is stored is what was sent, not what was rendered.
    let stored = &revision;
    let repaired = plan(&request(stored, Some(stored), &observed)).unwrap();
    assert_eq!((writes(&repaired), &yielded_fields::with_yielded(stored.clone(), &repaired)), (0, stored));
    // Without `yield` the field is still not taken for ours.
    let refused = planned(&revision, &observed, Conflicts::Refuse).unwrap_err();
    assert!(matches!(refused.as_slice(), [Refused::FieldConflict { path, .. }] if path == ".data.b"));
    let forced = planned(&revision, &observed, Conflicts::Force).unwrap();
    assert!(find(&yielded_fields::with_yielded(desired.clone(), &forced), "ConfigMap").yielded.is_empty());
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
fn an_edit_of_our_field_is_repaired_even_under_yield() {
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
fn objects_blocked_in_deletion_are_skipped_or_waited_for_on_resume() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let key = find(&desired, "ServiceAccount").key();
    let metadata = &mut observed.objects.get_mut(&key).unwrap().value["metadata"];
    metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    metadata["finalizers"] = json!(["example.org/hold"]);
    let request = request(&desired, Some(&desired), &observed);
    let finalizers = vec!["example.org/hold".to_owned()];
    let left_out = plan(&request).unwrap();
    let pending = PendingDeletion { object: key.clone(), finalizers: finalizers.clone(), users: Vec::new() };
    assert_eq!((left_out.pending_deletions.as_slice(), left_out.is_empty()), (&[pending][..], true));
    assert!(left_out.steps.iter().all(|step| step.object != key));

    let resumed = planner::resume(&request).unwrap();
    let steps: Vec<usize> = (0..resumed.steps.len()).filter(|i| resumed.steps[*i].object == key).collect();
    let [wait, create] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((&resumed.steps[*wait].verb, &resumed.steps[*wait].until), (&Verb::Keep, &Until::Gone));
    assert_eq!((&resumed.steps[*create].verb, &resumed.steps[*create].until), (&Verb::Create, &Until::Ready));
    assert!(resumed.steps[*create].after.contains(wait) && resumed.steps[*create].manifest.is_some());
    let deployment = &resumed.steps[position(&resumed, "Deployment")];
    assert!(deployment.after.contains(create), "what needs it waits for the new one");
    assert_eq!(resumed.counts().keep, desired.objects.len() - 1);

    // What would have to be written after it cannot be.
    let mut changed = stack();
    set(&mut changed, "Deployment", "/spec/replicas", json!(2));
    let request = self::request(&changed, Some(&desired), &observed);
    assert_eq!(plan(&request).unwrap_err(), [Refused::Terminating { object: key.clone(), finalizers }]);

    // What nothing holds is about to be gone.
    let mut going = observed.clone();
    going.objects.get_mut(&key).unwrap().value["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    let request = self::request(&desired, Some(&desired), &going);
    let finalizers = vec!["foregroundDeletion".to_owned()];
    assert_eq!(plan(&request).unwrap_err(), [Refused::Terminating { object: key, finalizers }]);
}

#[test]
fn a_new_plan_exceeds_the_confirmed_one_by_added_or_different_steps() {
    let (old, mut new) = (stack(), without(&["ConfigMap"]));
    set(&mut new, "Deployment", "/spec/replicas", json!(2));
    let observed = all_applied(&old);
    let seen = plan(&request(&new, Some(&old), &observed)).unwrap();
    let (config, deployment) = (find(&old, "ConfigMap").key(), find(&old, "Deployment").key());
    let account = find(&old, "ServiceAccount").key();
    let again = |change: &dyn Fn(&mut Observed)| {
        let mut observed = observed.clone();
        change(&mut observed);
        plan(&request(&new, Some(&old), &observed)).unwrap().beyond(&seen)
    };
    let of = |observed: &mut Observed, key: &ObjectKey, field: &str, value: Value| {
        observed.objects.get_mut(key).unwrap().value["metadata"][field] = value;
    };
    assert_eq!(again(&|_| {}), []);
    assert_eq!(again(&|now| of(now, &config, "resourceVersion", json!("8"))), [], "its status, say");
    assert_eq!(again(&|now| drop(now.objects.remove(&config))), [], "there is less to do");
    assert_eq!(again(&|now| of(now, &config, "uid", json!("another"))), std::slice::from_ref(&config));
    assert_eq!(again(&|now| drop(now.objects.remove(&account))), std::slice::from_ref(&account));
    assert_eq!(again(&|now| drop(now.objects.remove(&deployment))), std::slice::from_ref(&deployment));
    let edited = |now: &mut Observed| edit(now, &deployment, "kubectl", ["spec", "replicas"], json!(3));
    assert_eq!(
        again(&edited),
        std::slice::from_ref(&deployment),
        "another change than the one that was seen"
    );
}

#[test]
fn other_repairs_proceed_while_a_runtime_is_in_use() {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let (runtime, config) = (find(&desired, "Runtime").key(), find(&desired, "ConfigMap").key());
    let metadata = &mut observed.objects.get_mut(&runtime).unwrap().value["metadata"];
    metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    metadata["finalizers"] = json!(["trainer.kubeflow.org/resource-in-use"]);
    let user = ObjectKey { kind: "TrainJob".into(), name: "long".into(), ..runtime.clone() };
    observed.users.insert(runtime.clone(), vec![user]);
    observed.objects.remove(&config);
    let request = request(&desired, Some(&desired), &observed);
    for planned in [plan(&request), planner::resume(&request)] {
        let planned = planned.unwrap();
        let writes: Vec<_> = planned.steps.iter().filter(|step| step.verb.writes()).collect();
        assert_eq!(writes.iter().map(|step| &step.object).collect::<Vec<_>>(), [&config]);
        let [pending] = planned.pending_deletions.as_slice() else {
            panic!("{:?}", planned.pending_deletions)
        };
        let said = pending.to_string();
        assert!(said.contains("Runtime torch") && said.contains("used by TrainJob long"), "{said}");
    }
}

#[test]
fn leftovers_of_a_removed_installation_are_adopted_with_a_note() {
    let mut old = stack();
    old.installation = Installation { name: "old".into(), namespace: "gone".into() };
    let desired = stack();
    let crd = find(&desired, "CustomResourceDefinition").key();
    let left = applied(&old, find(&old, "CustomResourceDefinition"));
    let mut observed = Observed { objects: BTreeMap::from([(crd.clone(), left)]), ..Observed::default() };
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    let owner = "trainerd installation gone/old".to_owned();
    assert_eq!(refused, [Refused::Collision { object: crd.clone(), owner }]);

    observed.removed.insert(applyset::id(&old.installation));
    let planned = plan(&request(&desired, None, &observed)).unwrap();
    let step = planned.steps.iter().find(|step| step.object == crd).unwrap();
    assert!(matches!(step.verb, Verb::Apply { .. }) && step.why.contains("gone/old"), "{step:?}");
    assert!(matches!(planned.notes.as_slice(), [note] if note.contains("gone/old")), "{:?}", planned.notes);

    // The label alone is no proof that trainerd made it.
    observed.objects.get_mut(&crd).unwrap().value["metadata"]["managedFields"][0]["manager"] =
        json!("kubectl");
    assert!(plan(&request(&desired, None, &observed)).is_err());
}

#[test]
fn objects_of_other_owners_are_refused_with_the_owner() {
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
        // That it was ours once changes nothing: it may have been deleted and created again by somebody else.
        for last in [None, Some(&desired)] {
            let refused = plan(&request(&desired, last, &observed)).err().unwrap_or_default();
            let collision =
                owner.map(|owner| Refused::Collision { object: config.key(), owner: owner.into() });
            assert_eq!(refused, collision.into_iter().collect::<Vec<_>>(), "{name}");
        }
    }
}

#[test]
fn a_foreign_namespace_is_accepted_unless_it_is_being_deleted() {
    let desired = stack();
    let mut observed = Observed::default();
    let namespace = desired.objects.iter().find(|object| object.resource.kind == "Namespace").unwrap();
    let mut live = applied(&desired, namespace);
    live.value["metadata"]["labels"] = json!({});
    observed.objects.insert(namespace.key(), live.clone());
    let planned = plan(&request(&desired, None, &observed)).unwrap();
    assert_eq!(planned.steps[position(&planned, "Namespace")].verb, Verb::Keep);

    live.value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "message": "stale"});
    live.value["status"]["conditions"] = json!([condition("A", "True"), condition("B", "False")]);
    let conditions = vec!["A: stale".to_owned()];
    observed.objects.insert(namespace.key(), live);
    let refused = plan(&request(&desired, None, &observed)).unwrap_err();
    assert_eq!(refused, [Refused::NamespaceTerminating { name: "kf".into(), conditions }]);
}

#[test]
fn a_rollback_that_changes_a_crd_needs_permission() {
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
    request.allow.lossy = true;
    let planned = plan(&request).unwrap();
    assert_eq!(planned.point_of_no_return, Some(position(&planned, "CustomResourceDefinition")));
}

#[test]
fn ordering_scales_to_thousands_of_objects() {
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
fn a_dependency_cycle_is_reported() {
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
fn jobsets_that_use_a_dropped_field_block_the_upgrade() {
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
