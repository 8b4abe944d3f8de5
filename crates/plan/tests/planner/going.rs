//! Prune and removal: what goes, what stays, in which order.

use serde_json::{Value, json};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::applyset;
use trainerd_plan::desired::Desired;
use trainerd_plan::in_use;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Plan, Purpose, Verb};
use trainerd_plan::planner;
use trainerd_plan::prune;
use trainerd_plan::refused::Refused;
use trainerd_plan::removal::{self, Extent};
use trainerd_plan::request::Request;
use trainerd_plan::{order, planner::plan};

use crate::stack::*;

#[test]
fn undesired_objects_are_pruned_last_by_uid() {
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
    // Exactly that object, as it was seen, and as long as it is part of this installation.
    let expected = Verb::Delete {
        uid: "uid-of-ConfigMap kf/config".into(),
        resource_version: "7".into(),
        part_of: Some(applyset::id(&old.installation)),
    };
    assert_eq!(plan.steps[deletes[0]].verb, expected);
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
fn objects_without_our_label_are_kept_and_reported() {
    let old = stack();
    let new = without(&["ConfigMap"]);
    let mut observed = all_applied(&old);
    let key = find(&old, "ConfigMap").key();
    observed.objects.get_mut(&key).unwrap().value["metadata"]["labels"] = json!({});
    let plan = plan(&request(&new, Some(&old), &observed)).unwrap();
    assert!(!plan.steps.iter().any(|step| step.object == key), "{plan:?}");
    assert_eq!(plan.notes, [format!("{key} stays: somebody removed this installation's label from it")]);
}

#[test]
fn a_crd_is_deleted_only_without_other_stored_objects() {
    let old = stack();
    let new = deleting_crds(without(&["CustomResourceDefinition", "Runtime"]));
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

fn deleting_crds(mut desired: Desired) -> Desired {
    desired.options.insert("crd-policy".into(), json!("delete"));
    desired
}

/// The step that an object has in a plan, as a word.
fn fate(plan: &Plan, key: &ObjectKey) -> &'static str {
    match plan.steps.iter().find(|step| step.object == *key).map(|step| &step.verb) {
        Some(Verb::Delete { .. }) => "deleted",
        Some(Verb::Release { .. }) => "released",
        Some(_) => "written",
        None => "stays",
    }
}

#[test]
fn a_crd_is_kept_unless_policy_and_dependents_allow_deletion() {
    let old = stack();
    let new = without(&["CustomResourceDefinition", "Runtime"]);
    let mut left_to_others = new.clone();
    // Another component needs the one that leaves.
    let mut other = left_to_others.components.remove("trainer").unwrap();
    other.needs = vec!["trainer".into()];
    left_to_others.components.insert("other".into(), other);
    let own = all_applied(&old);
    let crd = find(&old, "CustomResourceDefinition").key();
    let with = |entry: Value| {
        let mut observed = own.clone();
        let live = &mut observed.objects.get_mut(&crd).unwrap().value;
        live["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
        observed
    };
    let spec = json!({"f:spec": {"f:versions": {}}});
    let shared = with(json!({"manager": "kubectl", "operation": "Apply", "fieldsV1": spec.clone()}));
    let updated = with(json!({"manager": "helm", "operation": "Update", "fieldsV1": spec}));
    let served =
        with(json!({"manager": "c", "operation": "Update", "fieldsV1": {"f:spec": {"f:conversion": {}}}}));
    for (what, observed, desired, expected) in [
        ("kept by default", &own, new.clone(), "stays"),
        ("deleted by policy", &own, deleting_crds(new.clone()), "deleted"),
        ("applied by others too", &shared, deleting_crds(new.clone()), "released"),
        ("applied by others too, kept", &shared, new.clone(), "released"),
        ("installed by others", &updated, deleting_crds(new.clone()), "released"),
        ("served by a controller", &served, deleting_crds(new), "deleted"),
        ("left to others", &own, deleting_crds(left_to_others), "released"),
    ] {
        let planned = plan(&request(&desired, Some(&old), observed)).unwrap();
        assert_eq!(fate(&planned, &crd), expected, "{what}");
        let noted = planned.notes.iter().any(|note| note.starts_with(&crd.to_string()));
        assert_eq!(noted, expected != "deleted", "{what}: {:?}", planned.notes);
    }
    let purge = removal::plan(&installation(), &shared, Extent::Purge, MANAGER).unwrap();
    assert_eq!(fate(&purge, &crd), "released");
    let step = purge.steps.iter().find(|step| step.object == crd).unwrap();
    assert!(!step.after.is_empty(), "it is let go of at the end");
}

#[test]
fn a_runtime_in_use_is_deleted_only_if_allowed() {
    let old = stack();
    let new = without(&["Runtime"]);
    let mut observed = all_applied(&old);
    let runtime = find(&old, "Runtime").key();
    let user = ObjectKey { kind: "TrainJob".into(), name: "long".into(), ..runtime.clone() };
    observed.users.insert(runtime.clone(), vec![user.clone()]);
    let request = request(&new, Some(&old), &observed);
    let refused = plan(&request).unwrap_err();
    assert_eq!(refused, [Refused::InUse { object: runtime.clone(), users: vec![user] }]);
    let allowed = Request { allow: Allowed { in_use: true, ..Allowed::default() }, ..request };
    let planned = plan(&allowed).unwrap();
    assert_eq!(fate(&planned, &runtime), "deleted");
    assert!(planned.steps.iter().any(|step| step.object == runtime && step.why.contains("TrainJob long")));
    // What only resumes or rolls back does not end in a refusal.
    for planned in [planner::resume(&request), plan(&Request { purpose: Purpose::Rollback, ..request })] {
        let planned = planned.unwrap();
        assert_eq!(fate(&planned, &runtime), "stays");
        assert!(planned.notes.iter().any(|note| note.contains("TrainJob long")), "{:?}", planned.notes);
    }
    // Once it is being deleted there is nothing left to do.
    let metadata = &mut observed.objects.get_mut(&runtime).unwrap().value["metadata"];
    metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    metadata["finalizers"] = json!(["trainer.kubeflow.org/resource-in-use"]);
    let planned = plan(&self::request(&new, Some(&old), &observed)).unwrap();
    assert!(planned.is_empty() && planned.notes.iter().any(|note| note.contains("TrainJob long")));
}

#[test]
fn a_train_job_uses_the_runtime_that_it_names_until_it_has_finished() {
    let job = |name: &str, reference: Value, finished: &str| {
        json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob",
            "metadata": {"name": name, "namespace": "team"}, "spec": {"runtimeRef": reference},
            "status": {"conditions": [{"type": "Complete", "status": finished}]},
        })
    };
    let jobs = [
        job("a", json!({"name": "torch"}), "False"),
        job("b", json!({"name": "torch", "kind": "TrainingRuntime"}), "False"),
        job("c", json!({"name": "torch", "kind": "ClusterTrainingRuntime"}), "True"),
    ];
    let key = |kind: &str, namespace: Option<&str>, name: &str| ObjectKey {
        group: "trainer.kubeflow.org".into(),
        kind: kind.into(),
        namespace: namespace.map(str::to_owned),
        name: name.into(),
    };
    let cluster_wide = key("ClusterTrainingRuntime", None, "torch");
    let names = |observed: &Observed, runtime: &ObjectKey| {
        let users = in_use::users(observed, &jobs).remove(runtime).unwrap_or_default();
        users.into_iter().map(|user| user.name).collect::<Vec<_>>()
    };
    let mut observed = Observed::default();
    assert_eq!(names(&observed, &cluster_wide), ["a"]);
    assert_eq!(names(&observed, &key("TrainingRuntime", Some("team"), "torch")), ["b"]);
    // A finalizer holds it for the finished one as well.
    let mut live = applied(&stack(), find(&stack(), "Runtime"));
    live.value["metadata"]["finalizers"] = json!(["trainer.kubeflow.org/resource-in-use"]);
    observed.objects.insert(cluster_wide.clone(), live);
    assert_eq!(names(&observed, &cluster_wide), ["a", "c"]);
}

#[test]
fn a_removal_deletes_webhooks_first_and_keeps_stored_objects() {
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
        assert!(order::object_class(&pair[0].object) <= order::object_class(&pair[1].object));
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
fn a_removal_keeps_objects_that_only_have_the_label() {
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
