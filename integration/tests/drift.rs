//! Drift: repaired, shown, left or fought over, as the options and the objects say.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use serde_json::json;
use trainerd_integration::managed::{BOUND, JOBSET, Managed};
use trainerd_integration::stack::{self, JOBSET_WEBHOOKS, NAMESPACE};
use trainerd_plan::object::Resource;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// As long as a repair that must not come would take, many times over.
const PEACE: Duration = Duration::from_secs(2);
const CONFIG: &str = "kubeflow-trainer-config";

#[test]
fn drift_policies_with_other_field_managers() -> Result {
    let mut world = Managed::new()?;

    // Another manager means to keep what it applied: nothing is taken by force, and it is said.
    world.apply_replicas(2)?;
    let drift = world.drift(JOBSET, "left")?;
    assert_eq!(
        drift["why"],
        json!({"reason": "Refused", "path": ".spec.replicas", "manager": "integration"}),
        "{drift:#}"
    );
    assert_eq!(world.replicas()?, 2);
    // The options say otherwise, and so it goes.
    world.set("conflicts: force\n")?;
    world.wait_for_replicas(1)?;
    world.apply_replicas(2)?;
    world.wait_for_replicas(1)?;
    world.set("conflicts: yield\n")?;
    world.apply_replicas(2)?;
    assert_eq!(world.drift(JOBSET, "left")?["why"]["reason"], "Yielded");
    world.apply_replicas(1)?;

    // What is only to be shown is shown, and an object may say otherwise for itself.
    world.set("drift-policy: report\n")?;
    world.scale(3)?;
    let drift = world.drift(JOBSET, "left")?;
    assert_eq!((&drift["why"]["reason"], &drift["changes"][0]["from"]), (&json!("Reported"), &json!(3)));
    std::thread::sleep(PEACE);
    assert_eq!(world.replicas()?, 3);
    let enforce = json!({"metadata": {"annotations": {"trainerd.dev/drift-policy": "enforce"}}});
    world.patch(&stack::deployment(), JOBSET, &enforce)?;
    world.wait_for_replicas(1)?;
    let ignore = json!({"metadata": {"annotations": {"trainerd.dev/drift-policy": "ignore"}}});
    world.patch(&stack::deployment(), JOBSET, &ignore)?;
    world.scale(4)?;
    std::thread::sleep(PEACE);
    assert_eq!(world.replicas()?, 4);
    let view = world.daemon.read("/v1/installation")?;
    assert_eq!(view["outlook"]["drift"], json!([]), "{view:#}");
    let none = json!({"metadata": {"annotations": {"trainerd.dev/drift-policy": null}}});
    world.patch(&stack::deployment(), JOBSET, &none)?;

    // A field that is named is theirs once somebody owns it, and plans leave it, too.
    world.set("drift-ignore: Deployment:/spec/replicas\n")?;
    assert_eq!(world.replicas()?, 4);
    world.scale(5)?;
    std::thread::sleep(PEACE);
    assert_eq!(world.replicas()?, 5);
    let view = world.daemon.read("/v1/installation")?;
    assert_eq!(view["outlook"]["drift"], json!([]), "{view:#}");
    world.set("")?;
    world.wait_for_replicas(1)?;
    Ok(())
}

#[test]
fn a_contending_manager_is_reported_and_left_alone() -> Result {
    let mut world = Managed::new()?;
    for round in 0..5 {
        world.scale(2 + round)?;
        world.wait_for_replicas(1)?;
    }
    world.scale(9)?;
    let drift = world.drift(JOBSET, "contended")?;
    assert_eq!((&drift["path"], &drift["manager"]), (&json!(".spec.replicas"), &json!("integration")));
    std::thread::sleep(PEACE);
    assert_eq!(world.replicas()?, 9);
    assert_eq!(world.daemon.metric("trainerd_drifted_objects{state=\"contended\"}")?, Some(1.0));
    // Others are looked after as before.
    let config = stack::config_map();
    world.cluster.delete(&config, NAMESPACE, CONFIG)?;
    let is_back = || Ok(world.cluster.get(&config, NAMESPACE, CONFIG)?.is_some());
    world.cluster.wait_until("the ConfigMap", BOUND, is_back)?;
    world.cluster.wait_until("an Event", BOUND, || {
        let events = world.cluster.list(&stack::event(), None)?;
        Ok(events.iter().any(|event| event["reason"] == "Contended" && event["type"] == "Warning"))
    })?;
    Ok(())
}

#[test]
fn dependents_are_restored_with_their_owners() -> Result {
    let mut world = Managed::new()?;
    let count = |kind: &Resource| Ok(world.cluster.list(kind, Some(stack::INSTALLATION))?.len());
    let before: std::result::Result<Vec<usize>, trainerd_integration::Error> =
        [stack::runtime(), stack::crd(), stack::deployment()].iter().map(count).collect();
    let before = before?;
    // With the kind go its objects.
    world.cluster.delete(&stack::crd(), "", "clustertrainingruntimes.trainer.kubeflow.org")?;
    for kind in stack::webhook_configurations() {
        for object in world.cluster.list(&kind, Some(stack::INSTALLATION))? {
            world.cluster.delete(&kind, "", object["metadata"]["name"].as_str().unwrap_or_default())?;
        }
    }
    world.cluster.delete(&stack::deployment(), NAMESPACE, JOBSET)?;
    let view = world.daemon.wait_for("settled with everything", BOUND, |view| {
        view["settled"] == true
            && view["outlook"]["drift"] == json!([])
            && [stack::runtime(), stack::crd(), stack::deployment()]
                .iter()
                .map(|kind| world.cluster.list(kind, Some(stack::INSTALLATION)).map(|found| found.len()))
                .collect::<std::result::Result<Vec<usize>, _>>()
                .is_ok_and(|now| now == before)
    })?;
    assert_eq!(view["outlook"]["revision"], 1, "{view:#}");
    Ok(())
}

#[test]
fn webhooks_switch_to_the_pods_that_a_repair_replaced() -> Result {
    let world = Managed::new()?;
    let ports = || world.cluster.webhook_ports(JOBSET_WEBHOOKS);
    assert_eq!(ports()?, BTreeSet::from([443]));
    for port in [9443, 9444] {
        // With it go its pods.
        world.cluster.delete(&stack::deployment(), NAMESPACE, JOBSET)?;
        world.cluster.wait_until("the webhooks to be called by the next port", BOUND, || {
            Ok(ports()? == BTreeSet::from([port]))
        })?;
    }
    // What keeps its pods keeps its connections.
    world.patch(
        &stack::deployment(),
        JOBSET,
        &json!({"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}),
    )?;
    world.cluster.wait_until("the label to be repaired", BOUND, || {
        let found = world.cluster.get(&stack::deployment(), NAMESPACE, JOBSET)?.unwrap_or_default();
        Ok(found["metadata"]["labels"]["app.kubernetes.io/name"] != "x")
    })?;
    std::thread::sleep(PEACE);
    assert_eq!(ports()?, BTreeSet::from([9444]));
    Ok(())
}
