//! Verdicts: a table of what somebody did, under each option.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::object::Resource;

const US: &str = "trainerd";

fn resource(group: &str, kind: &str, plural: &str) -> Resource {
    let text = str::to_owned;
    Resource {
        group: text(group),
        version: "v1".into(),
        kind: text(kind),
        plural: text(plural),
        namespaced: true,
    }
}

fn deployment() -> DesiredObject {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "ns"},
        "spec": {"replicas": 1, "paused": false, "selector": {"matchLabels": {"app": "a"}}},
    });
    DesiredObject {
        component: "c".into(),
        resource: resource("apps", "Deployment", "deployments"),
        manifest,
        after: Vec::new(),
        yielded: Vec::new(),
    }
}

fn desired() -> Desired {
    Desired {
        installation: Installation { name: "t".into(), namespace: "ns".into() },
        naming: crate::desired::Naming::default(),
        components: BTreeMap::new(),
        options: BTreeMap::new(),
        given: Vec::new(),
        objects: vec![deployment()],
    }
}

/// The object as we left it, all of it ours.
fn applied() -> LiveObject {
    let desired = desired();
    let mut value = applyset::owned(&desired, &desired.objects[0]);
    value["metadata"]["uid"] = json!("u");
    let labels: Value = value["metadata"]["labels"].as_object().into_iter().flatten().fold(
        json!({}),
        |mut labels, (name, _)| {
            labels[format!("f:{name}")] = json!({});
            labels
        },
    );
    value["metadata"]["managedFields"] = json!([{
        "manager": US, "operation": "Apply",
        "fieldsV1": {"f:metadata": {"f:labels": labels},
                     "f:spec": {"f:replicas": {}, "f:paused": {}, "f:selector": {}}},
    }]);
    LiveObject { resource: deployment().resource, value }
}

/// Somebody sets `replicas`.
fn scaled(operation: &str) -> LiveObject {
    let mut live = applied();
    live.value["spec"]["replicas"] = json!(3);
    let entries = live.value["metadata"]["managedFields"].as_array_mut().unwrap();
    entries[0]["fieldsV1"]["f:spec"].as_object_mut().unwrap().remove("f:replicas");
    let fields = json!({"f:spec": {"f:replicas": {}}});
    entries.push(json!({"manager": "them", "operation": operation, "fieldsV1": fields}));
    live
}

struct With {
    policy: Policy,
    ignored: &'static str,
    conflicts: Conflicts,
}

const DEFAULTS: With = With { policy: Policy::Enforce, ignored: "", conflicts: Conflicts::Refuse };

/// The verdict, in a line.
fn verdict(with: &With, live: Option<&LiveObject>) -> String {
    let desired = desired();
    let ignored = Ignored::list(with.ignored).unwrap();
    let rules = Rules {
        installation: &desired.installation,
        policy: with.policy,
        ignored: &ignored,
        conflicts: with.conflicts,
        field_manager: US,
    };
    match detect(&rules, &desired, &desired.objects[0], live) {
        Verdict::Holds => "holds".into(),
        Verdict::Leaving => "leaving".into(),
        Verdict::Drifted(drifted) => {
            let paths: Vec<String> = drifted.changes.iter().map(|change| change.path.to_string()).collect();
            let remedy = match drifted.remedy {
                Remedy::Repair(step) => match step.verb {
                    Verb::Create => "create".to_owned(),
                    Verb::Apply { force, .. } => {
                        let replicas = &step.manifest.as_ref().unwrap()["spec"]["replicas"];
                        format!("apply force={force} replicas={replicas}")
                    }
                    verb => format!("{verb:?}"),
                },
                Remedy::Plan => "plan".to_owned(),
                Remedy::Leave(leave) => leave.to_string(),
            };
            format!("{} by {}: {remedy}", paths.join(" "), drifted.by.join(" "))
        }
    }
}

fn with_metadata(mut live: LiveObject, field: &str, value: Value) -> LiveObject {
    live.value["metadata"][field] = value;
    live
}

#[test]
fn an_unchanged_object_has_no_drift_whatever_its_status() {
    let mut live = applied();
    live.value["status"] = json!({"replicas": 7});
    live.value["spec"]["progressDeadlineSeconds"] = json!(600);
    assert_eq!(verdict(&DEFAULTS, Some(&live)), "holds");
}

#[test]
fn edits_are_repaired_reported_or_ignored_by_policy() {
    let edited = scaled("Update");
    let report = With { policy: Policy::Report, ..DEFAULTS };
    let ignore = With { policy: Policy::Ignore, ..DEFAULTS };
    assert_eq!(verdict(&DEFAULTS, Some(&edited)), ".spec.replicas by them: apply force=true replicas=1");
    assert_eq!(verdict(&report, Some(&edited)), ".spec.replicas by them: reported only (drift-policy)");
    assert_eq!(verdict(&ignore, Some(&edited)), "holds");
    assert_eq!(verdict(&DEFAULTS, None), " by : create");
    assert_eq!(verdict(&report, None), " by : reported only (drift-policy)");
    // The object's own annotation counts more, either way.
    let own = |policy: &str| with_metadata(scaled("Update"), "annotations", json!({POLICY: policy}));
    assert_eq!(verdict(&DEFAULTS, Some(&own("ignore"))), "holds");
    assert_eq!(verdict(&ignore, Some(&own("enforce"))), verdict(&DEFAULTS, Some(&edited)));
    assert_eq!(verdict(&DEFAULTS, Some(&own("nonsense"))), verdict(&DEFAULTS, Some(&edited)));
}

#[test]
fn fields_of_other_managers_are_forced_yielded_or_refused() {
    let applied = scaled("Apply");
    let with = |conflicts| With { conflicts, ..DEFAULTS };
    for (conflicts, expected) in [
        (Conflicts::Force, "apply force=true replicas=1"),
        (Conflicts::Yield, ".spec.replicas is left to them (conflicts=yield)"),
        (Conflicts::Refuse, ".spec.replicas was applied by them and is not overwritten (conflicts=refuse)"),
    ] {
        let expected = format!(".spec.replicas by them: {expected}");
        assert_eq!(verdict(&with(conflicts), Some(&applied)), expected);
    }
    // What was merely edited beside it is repaired, and what was applied stays out of it.
    let mut both = applied;
    both.value["spec"]["paused"] = json!(true);
    let entries = both.value["metadata"]["managedFields"].as_array_mut().unwrap();
    entries[0]["fieldsV1"]["f:spec"].as_object_mut().unwrap().remove("f:paused");
    let verdict = verdict(&with(Conflicts::Yield), Some(&both));
    assert_eq!(verdict, ".spec.paused by : apply force=false replicas=null");
}

#[test]
fn an_ignored_field_is_repaired_once_nobody_else_owns_it() {
    let with = |ignored| With { ignored, ..DEFAULTS };
    for ignored in ["Deployment:/spec/replicas", "Deployment/a:/spec"] {
        assert_eq!(verdict(&with(ignored), Some(&scaled("Update"))), "holds", "{ignored}");
    }
    let right = verdict(&DEFAULTS, Some(&scaled("Update")));
    for ignored in ["Deployment/b:/spec/replicas", "ConfigMap:/spec/replicas", "Deployment:/spec/paused"] {
        assert_eq!(verdict(&with(ignored), Some(&scaled("Update"))), right, "{ignored}");
    }
    let mut orphaned = scaled("Update");
    orphaned.value["metadata"]["managedFields"].as_array_mut().unwrap().pop();
    let verdict = verdict(&with("Deployment:/spec/replicas"), Some(&orphaned));
    assert_eq!(verdict, ".spec.replicas by : apply force=false replicas=1");
}

#[test]
fn deletions_are_waited_for_and_foreign_objects_are_reported() {
    let leaving = with_metadata(scaled("Update"), "deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    assert_eq!(verdict(&DEFAULTS, Some(&leaving)), "leaving");
    let theirs = json!([{"manager": "them", "operation": "Update", "fieldsV1": {"f:spec": {}}}]);
    let foreign = with_metadata(with_metadata(applied(), "managedFields", theirs), "labels", json!({}));
    assert_eq!(verdict(&DEFAULTS, Some(&foreign)), " by : replaced by an object of field manager them");
    let mut selector = scaled("Update");
    selector.value["spec"]["selector"] = json!({"matchLabels": {"app": "b"}});
    let verdict = verdict(&DEFAULTS, Some(&selector));
    assert!(verdict.ends_with("cannot be changed back"), "{verdict}");
}

#[test]
fn contention_is_tracked_by_path_and_manager() {
    let key = deployment().key();
    let change = |path: &str| FieldChange { path: path.parse().unwrap(), from: None, to: None };
    let contended = |changes: Vec<FieldChange>, by: &[&str]| {
        let by = by.iter().map(|name| (*name).to_owned()).collect();
        let drifted = Drifted { changes, by, remedy: Remedy::Plan };
        let fields = drifted.contendable_fields(&key).into_iter();
        fields.map(|field| format!("{} {}", field.path, field.manager)).collect::<Vec<_>>()
    };
    assert_eq!(contended(vec![change(".a"), change(".b")], &["x"]), [".a x", ".b x"]);
    assert_eq!(contended(vec![], &[]), [". somebody who deletes it"]);
}

#[test]
fn drift_names_the_manager_and_its_subresource() {
    let desired = desired();
    let rules = Rules {
        installation: &desired.installation,
        policy: Policy::Report,
        ignored: &[],
        conflicts: Conflicts::Refuse,
        field_manager: US,
    };
    for (manager, subresource, expected) in [
        (Some("kubectl"), Some("scale"), vec!["kubectl (scale)"]),
        (Some("kubectl"), None, vec!["kubectl"]),
        // Under our own name, or none, nobody knows who it was; but through what is known.
        (Some(US), Some("scale"), vec!["unknown (scale)"]),
        (None, Some("scale"), vec!["an unnamed manager (scale)"]),
    ] {
        let mut live = scaled("Update");
        let entries = live.value["metadata"]["managedFields"].as_array_mut().unwrap();
        let entry = entries.last_mut().unwrap();
        entry["manager"] = json!(manager);
        entry["subresource"] = json!(subresource);
        match detect(&rules, &desired, &desired.objects[0], Some(&live)) {
            Verdict::Drifted(drifted) => assert_eq!(drifted.by, expected, "{manager:?} {subresource:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn admission_changes_are_repaired_once_and_then_reported() {
    // Nobody else has taken the field: admission sets it, in whatever write.
    let mut live = applied();
    live.value["spec"]["replicas"] = json!(3);
    assert_eq!(verdict(&DEFAULTS, Some(&live)), ".spec.replicas by : apply force=false replicas=1");
    let ignored = With { ignored: "Deployment:/spec/replicas", ..DEFAULTS };
    assert_eq!(verdict(&ignored, Some(&live)), "holds");
    // The answer to that says the same: it is the proof, and stands with the object.
    let sent = applyset::owned(&desired(), &deployment());
    let (again, _) = admission_changes::proven(&sent, &live.value, US).unwrap();
    live.value["metadata"]["annotations"] = again["metadata"]["annotations"].clone();
    let left = ".spec.replicas by : .spec.replicas is changed by admission control";
    assert_eq!(verdict(&DEFAULTS, Some(&live)), left);
    // Something else is repaired, and the proof is not taken away by that.
    live.value["spec"]["paused"] = json!(true);
    let desired = desired();
    let rules = Rules {
        installation: &desired.installation,
        policy: Policy::Enforce,
        ignored: &[],
        conflicts: Conflicts::Refuse,
        field_manager: US,
    };
    let Verdict::Drifted(drifted) = detect(&rules, &desired, &desired.objects[0], Some(&live)) else {
        panic!("it drifted")
    };
    let Remedy::Repair(step) = drifted.remedy else { panic!("it is repaired") };
    let annotations = &step.manifest.unwrap()["metadata"]["annotations"];
    assert_eq!(
        annotations[admission_changes::CHANGED],
        again["metadata"]["annotations"][admission_changes::CHANGED]
    );
}
