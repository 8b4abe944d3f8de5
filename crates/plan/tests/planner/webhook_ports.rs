//! The API server is led to new pods: webhooks are called by the other port of their Service once these are ready.

use serde_json::{Value, json};
use trainerd_plan::desired::Desired;
use trainerd_plan::drift::{self, Policy, Rules, Verdict};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::{LiveObject, Observed};
use trainerd_plan::plan::{Plan, Step, Verb};
use trainerd_plan::planner::{plan, resume};
use trainerd_plan::request::Conflicts;
use trainerd_plan::yielded_fields;

use crate::stack::*;

const SERVICE: (&str, &str, &str, bool) = ("", "Service", "services", true);
const PORT: &str = ".clientConfig.service.port";

/// The stack with a Service of these ports in front of its webhook.
fn with_service(ports: Value) -> Desired {
    let mut desired = stack();
    desired.objects.push(object("trainer", SERVICE, "manager", json!({"spec": {"ports": ports}})));
    desired.objects.sort_by_cached_key(trainerd_plan::desired::DesiredObject::key);
    desired
}

fn two_ports() -> Desired {
    with_service(json!([
        {"name": "metrics", "port": 8443, "targetPort": "metrics"},
        {"name": "webhook", "port": 443, "targetPort": "webhook"},
        {"name": "webhook-alternate", "port": 9443, "targetPort": "webhook"},
    ]))
}

fn image(mut desired: Desired, tag: &str) -> Desired {
    let image = json!(format!("example.org/manager:{tag}"));
    set(&mut desired, "Deployment", "/spec/template/spec/containers/0/image", image);
    desired
}

fn webhook(plan: &Plan) -> &Step {
    &plan.steps[position(plan, "ValidatingWebhookConfiguration")]
}

/// The cluster once a plan was carried out.
fn after(plan: &Plan, desired: &Desired, mut observed: Observed) -> Observed {
    for step in plan.steps.iter().filter(|step| step.verb.writes()) {
        let object = desired.objects.iter().find(|object| object.key() == step.object).unwrap();
        let mut sent = object.clone();
        sent.manifest = step.manifest.clone().unwrap();
        sent.manifest["metadata"].as_object_mut().unwrap().remove("uid");
        observed.objects.insert(step.object.clone(), applied(desired, &sent));
    }
    observed
}

fn live<'o>(observed: &'o mut Observed, key: &ObjectKey) -> &'o mut LiveObject {
    observed.objects.get_mut(key).unwrap()
}

#[test]
fn replaced_pods_switch_the_webhook_port_persistently() {
    let first = image(two_ports(), "v1");
    let mut observed = all_applied(&first);
    // What the API server adds is nobody's.
    let key = find(&first, "ValidatingWebhookConfiguration").key();
    live(&mut observed, &key).value["webhooks"][0]["clientConfig"]["service"]["port"] = json!(443);

    let mut last = first;
    for (tag, port) in [("v2", 9443), ("v3", 443), ("v4", 9443)] {
        let desired = image(two_ports(), tag);
        let turned = plan(&request(&desired, Some(&last), &observed)).unwrap();
        let step = webhook(&turned);
        assert!(matches!(step.verb, Verb::Apply { force: false, .. }), "{tag}: {:?}", step.verb);
        assert!(step.after.contains(&position(&turned, "Deployment")), "{tag}: once the new pods are ready");
        assert_eq!(step.why, "so that the API server connects to the new pods", "{tag}");
        assert_eq!(step.changes.len(), 1, "{tag}");
        assert!(step.changes[0].path.to_string().ends_with(PORT), "{tag}: {}", step.changes[0].path);
        assert_eq!(step.changes[0].to, Some(json!(port)), "{tag}");
        observed = after(&turned, &desired, observed);

        let again = plan(&request(&desired, Some(&desired), &observed)).unwrap();
        assert!(again.is_empty(), "{tag}: {:?}", webhook(&again));
        last = desired;
    }
    assert!(!yielded_fields::are_any(&last, &plan(&request(&last, Some(&last), &observed)).unwrap()));
}

#[test]
fn unchanged_pods_do_not_switch_the_port() {
    let desired = image(two_ports(), "v1");
    let observed = all_applied(&desired);
    let mut other = desired.clone();
    set(&mut other, "ConfigMap", "/data/a", json!("2"));
    let plan = plan(&request(&other, Some(&desired), &observed)).unwrap();
    assert_eq!(webhook(&plan).verb, Verb::Keep);
}

#[test]
fn foreign_ports_and_services_without_a_second_port_are_not_switched() {
    let one = with_service(json!([{"port": 443, "targetPort": 9443}]));
    let observed = all_applied(&one);
    let bumped = image(one.clone(), "v2");
    assert_eq!(webhook(&plan(&request(&bumped, Some(&one), &observed)).unwrap()).verb, Verb::Keep);

    let two = two_ports();
    let mut observed = all_applied(&two);
    let key = find(&two, "ValidatingWebhookConfiguration").key();
    let value = &mut live(&mut observed, &key).value;
    value["webhooks"][0]["clientConfig"]["service"]["port"] = json!(9443);
    let port = json!({"f:clientConfig": {"f:service": {"f:port": {}}}});
    let fields = json!({"f:webhooks": {"k:{\"name\":\"validator.example.org\"}": port}});
    let entry = json!({"manager": "kubectl", "operation": "Update", "fieldsV1": fields});
    value["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
    let bumped = image(two.clone(), "v2");
    assert_eq!(webhook(&plan(&request(&bumped, Some(&two), &observed)).unwrap()).verb, Verb::Keep);
}

#[test]
fn a_port_missing_from_the_service_is_dropped() {
    let two = two_ports();
    let observed = all_applied(&two);
    let bumped = image(two.clone(), "v2");
    let turned = plan(&request(&bumped, Some(&two), &observed)).unwrap();
    let observed = after(&turned, &bumped, observed);
    let one = image(with_service(json!([{"port": 443, "targetPort": "webhook"}])), "v2");
    let back = plan(&request(&one, Some(&bumped), &observed)).unwrap();
    let step = webhook(&back);
    assert_eq!((step.changes.len(), &step.changes[0].to), (1, &Some(json!(443))));
}

#[test]
fn a_plan_interrupted_before_the_port_switch_is_finished() {
    let first = image(two_ports(), "v1");
    let desired = image(two_ports(), "v2");
    let mut begun = plan(&request(&desired, Some(&first), &all_applied(&first))).unwrap();
    begun.steps.retain(|step| step.object.kind != "ValidatingWebhookConfiguration");
    let observed = after(&begun, &desired, all_applied(&first));

    let rest = resume(&request(&desired, Some(&first), &observed)).unwrap();
    assert_eq!(rest.steps[position(&rest, "Deployment")].verb, Verb::Keep);
    let step = webhook(&rest);
    assert!(matches!(step.verb, Verb::Apply { .. }), "{:?}", step.verb);
    assert_eq!(step.changes[0].to, Some(json!(9443)));
    assert!(step.after.contains(&position(&rest, "Deployment")), "once the new pods are ready");

    // One that leaves the pods as they are has nothing to finish, and nor has a plan of today.
    let same = resume(&request(&desired, Some(&desired), &observed)).unwrap();
    assert_eq!(webhook(&same).verb, Verb::Keep);
    assert_eq!(webhook(&plan(&request(&desired, Some(&desired), &observed)).unwrap()).verb, Verb::Keep);
}

#[test]
fn a_repair_that_replaces_pods_switches_the_port() {
    let desired = image(two_ports(), "v1");
    let mut observed = all_applied(&desired);
    let installation = installation();
    let rules = |policy| Rules {
        installation: &installation,
        policy,
        ignored: &[],
        conflicts: Conflicts::Refuse,
        field_manager: MANAGER,
    };
    let detect = |kind: &str, live: Option<&LiveObject>| {
        drift::detect(&rules(Policy::Enforce), &desired, find(&desired, kind), live)
    };
    let replaces = |verdict: Verdict| match verdict {
        Verdict::Drifted(drifted) => drift::replaces_pods(&drifted),
        other => panic!("no drift: {other:?}"),
    };
    assert!(replaces(detect("Deployment", None)), "its pods went with it");
    assert!(!replaces(detect("ConfigMap", None)));
    let deployment = find(&desired, "Deployment").key();
    let before = live(&mut observed, &deployment).clone();
    live(&mut observed, &deployment).value["spec"]["replicas"] = json!(0);
    assert!(replaces(detect("Deployment", Some(&observed.objects[&deployment]))));
    *live(&mut observed, &deployment) = before;
    live(&mut observed, &deployment).value["metadata"]["labels"] = json!({});
    assert!(!replaces(detect("Deployment", Some(&observed.objects[&deployment]))), "pods stay");

    let object = find(&desired, "ValidatingWebhookConfiguration");
    let key = object.key();
    let mut configuration = observed.objects[&key].clone();
    for port in [9443, 443] {
        let step = drift::reconnect(&rules(Policy::Enforce), &desired, object, &configuration).unwrap();
        assert!(matches!(step.verb, Verb::Apply { force: false, .. }), "{:?}", step.verb);
        assert_eq!(step.why, "so that the API server connects to the new pods");
        assert_eq!((step.changes.len(), &step.changes[0].to), (1, &Some(json!(port))));
        let mut sent = object.clone();
        sent.manifest = step.manifest.unwrap();
        sent.manifest["metadata"].as_object_mut().unwrap().remove("uid");
        configuration = applied(&desired, &sent);
        let verdict = drift::detect(&rules(Policy::Enforce), &desired, object, Some(&configuration));
        assert_eq!(verdict, Verdict::Holds, "a port of ours is no drift");
    }
    // What is only to be shown is not written, and more than the port is no business of this write.
    assert_eq!(drift::reconnect(&rules(Policy::Report), &desired, object, &configuration), None);
    configuration.value["webhooks"][0]["rules"] = json!([]);
    assert_eq!(drift::reconnect(&rules(Policy::Enforce), &desired, object, &configuration), None);
    let one = with_service(json!([{"port": 443, "targetPort": "webhook"}]));
    assert_eq!(drift::reconnect(&rules(Policy::Enforce), &one, object, &observed.objects[&key]), None);
}
