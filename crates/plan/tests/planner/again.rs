//! What is made again because no update may change it, and plans about one component alone.

use serde_json::json;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::Desired;
use trainerd_plan::observed::Observed;
use trainerd_plan::plan::{Until, Verb};
use trainerd_plan::planner::plan;
use trainerd_plan::refused::Refused;
use trainerd_plan::request::Request;

use crate::stack::*;

const AGAIN: Allowed = Allowed { lossy: false, in_use: false, recreate: true };

/// The stack as it was applied, but for a ConfigMap that somebody sealed with another value.
fn differing() -> (Desired, Observed) {
    let desired = stack();
    let mut observed = all_applied(&desired);
    let live = observed.objects.get_mut(&find(&desired, "ConfigMap").key()).unwrap();
    live.value["immutable"] = json!(true);
    live.value["data"]["a"] = json!("2");
    (desired, observed)
}

#[test]
fn immutable_objects_are_recreated_by_uid_if_allowed() {
    let (desired, observed) = differing();
    let request = request(&desired, Some(&desired), &observed);
    let refused = plan(&request).unwrap_err();
    let object = find(&desired, "ConfigMap").key();
    assert!(matches!(refused.as_slice(), [Refused::ImmutableField { object: of, .. }] if *of == object));

    let plan = plan(&Request { allow: AGAIN, ..request }).unwrap();
    let writes: Vec<_> = plan.steps.iter().filter(|step| step.verb.writes()).collect();
    let [delete, create] = writes.as_slice() else { panic!("{writes:#?}") };
    let uid = format!("uid-of-{object}");
    assert!(
        matches!(&delete.verb, Verb::Delete { uid: of, resource_version, part_of: Some(_) } if *of == uid && resource_version == "7")
    );
    assert_eq!((&delete.object, &delete.until, &delete.manifest), (&object, &Until::Gone, &None));
    assert_eq!((&create.object, &create.verb), (&object, &Verb::Create));
    let place = plan.steps.iter().position(|step| step == *delete).unwrap();
    assert!(create.after.contains(&place));
    // It goes no earlier than what takes its place could come.
    assert!(!delete.after.is_empty() && delete.after.iter().all(|before| create.after.contains(before)));
    let manifest = create.manifest.as_ref().unwrap();
    assert_eq!((&manifest["data"]["a"], &manifest["metadata"]["uid"]), (&json!("1"), &json!(null)));
    assert_eq!((plan.counts().create, plan.counts().delete), (1, 1));
    assert!(create.why.contains(".data.a cannot be changed in place"), "{}", create.why);
}

#[test]
fn objects_with_data_finalizers_or_other_owners_are_not_recreated() {
    let (desired, observed) = differing();
    let key = find(&desired, "ConfigMap").key();
    for (what, edit) in
        [("finalizers", json!({"finalizers": ["somebody.example/holds"]})), ("labels", json!({"labels": {}}))]
    {
        let mut observed = observed.clone();
        let live = observed.objects.get_mut(&key).unwrap();
        live.value["metadata"][what] = edit[what].clone();
        let request = Request { allow: AGAIN, ..request(&desired, Some(&desired), &observed) };
        let refused = plan(&request).unwrap_err();
        assert!(matches!(refused.as_slice(), [Refused::ImmutableField { .. }]), "{what}: {refused:?}");
    }
    let mut observed = all_applied(&desired);
    let crd = observed.objects.get_mut(&find(&desired, "CustomResourceDefinition").key()).unwrap();
    crd.value["spec"]["group"] = json!("other.example.org");
    let request = Request { allow: AGAIN, ..request(&desired, Some(&desired), &observed) };
    let refused = plan(&request).unwrap_err();
    assert!(matches!(refused.as_slice(), [Refused::ImmutableField { .. }]), "{refused:?}");
}

#[test]
fn a_plan_for_one_component_prunes_nothing() {
    let (desired, mut observed) = differing();
    let mut old = desired.clone();
    old.objects.push(object("trainer", CONFIG_MAP, "no-longer-wanted", json!({"data": {}})));
    let extra = old.objects.last().unwrap();
    observed.objects.insert(extra.key(), applied(&old, extra));
    let runtime = find(&desired, "Runtime").key();
    observed.objects.get_mut(&runtime).unwrap().value["spec"]["image"] = json!("x:2");
    let request = request(&desired, Some(&desired), &observed);
    let of = |only| plan(&Request { only: Some(only), allow: AGAIN, ..request }).unwrap();
    let written = |only| -> Vec<String> {
        let plan = of(only);
        plan.steps.iter().filter(|step| step.verb.writes()).map(|step| step.object.kind.clone()).collect()
    };
    assert_eq!(written("runtimes"), ["Runtime"]);
    assert_eq!(written("trainer"), ["ConfigMap", "ConfigMap"]);
    assert!(of("runtimes").steps.iter().all(|step| step.component == "runtimes"));
}
