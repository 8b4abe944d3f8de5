//! Drift: put right, shown, left or fought over, as the options and the objects say.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::{ApplyParams, CreateParams};
use trainerd_integration::TestCluster;
use trainerd_integration::daemon::Daemon;
use trainerd_integration::stack::{self, NAMESPACE};
use trainerd_plan::object::Resource;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const BOUND: Duration = Duration::from_mins(3);
/// As long as a repair that must not come would take, many times over.
const PEACE: Duration = Duration::from_secs(2);
const JOBSET: &str = "jobset-controller-manager";
const CONFIG: &str = "kubeflow-trainer-config";

/// A daemon with a file of options that the test changes.
struct World {
    daemon: Daemon,
    file: PathBuf,
    // Last: the daemon ends before its cluster is given back.
    cluster: TestCluster,
}

impl World {
    fn new() -> Result<Self> {
        let cluster = TestCluster::take()?;
        let file = cluster.folder().join("options.yaml");
        std::fs::write(&file, text(""))?;
        let daemon = cluster.daemon("daemon", &["--config", file.to_str().unwrap_or_default()])?;
        let mut world = Self { daemon, file, cluster };
        world.daemon.wait_until_settled(BOUND)?;
        Ok(world)
    }

    /// Other options, in force.
    fn set(&mut self, options: &str) -> Result {
        let before = self.daemon.read("/v1/installation")?["generation"].clone();
        std::fs::write(&self.file, text(options))?;
        self.daemon.wait_for("settled with other options", BOUND, |view| {
            view["settled"] == true && view["generation"] != before
        })?;
        Ok(())
    }

    fn patch(&self, kind: &Resource, name: &str, patch: &Value) -> Result {
        let namespace = kind.namespaced.then_some(NAMESPACE);
        let api = self.cluster.api();
        self.cluster.block_on(api.patch_merge(kind, namespace, name, patch, CreateParams::default()))?;
        Ok(())
    }

    fn scale(&self, replicas: u32) -> Result {
        self.patch(&stack::deployment(), JOBSET, &json!({"spec": {"replicas": replicas}}))
    }

    /// As the field manager of the tests, by server-side apply, whoever owns the field.
    fn apply_replicas(&self, replicas: u32) -> Result {
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": replicas},
                            "metadata": {"name": JOBSET, "namespace": NAMESPACE}});
        let params = ApplyParams { force: true, ..ApplyParams::default() };
        self.cluster.block_on(self.cluster.api().apply(&stack::deployment(), &object, &params))?;
        Ok(())
    }

    fn replicas(&self) -> std::result::Result<Value, trainerd_integration::Error> {
        let found = self.cluster.get(&stack::deployment(), NAMESPACE, JOBSET)?;
        Ok(found.unwrap_or_default()["spec"]["replicas"].clone())
    }

    fn wait_for_replicas(&self, replicas: u32) -> Result {
        Ok(self.cluster.wait_until("the replicas", BOUND, || Ok(self.replicas()? == replicas))?)
    }

    /// The drift of an object, once it is in that state.
    fn drift(&mut self, name: &str, state: &str) -> Result<Value> {
        let of = |view: &Value| {
            let drift = view["outlook"]["drift"].as_array().cloned().unwrap_or_default();
            drift.into_iter().find(|drift| drift["object"]["name"] == name && drift["state"] == state)
        };
        let view = self.daemon.wait_for(&format!("{name} {state}"), BOUND, |view| of(view).is_some())?;
        Ok(of(&view).unwrap_or_default())
    }
}

fn text(options: &str) -> String {
    format!("small-footprint: true\nsettle: 0\ntrainer-version: \"2.2.1\"\n{options}")
}

#[test]
fn policies_and_other_managers() -> Result {
    let mut world = World::new()?;

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
    world.wait_for_replicas(1)
}

#[test]
fn whoever_does_not_stop_is_named_and_left_alone() -> Result {
    let mut world = World::new()?;
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
    let events = Resource {
        group: "events.k8s.io".into(),
        version: "v1".into(),
        kind: "Event".into(),
        plural: "events".into(),
        namespaced: true,
    };
    world.cluster.wait_until("an Event", BOUND, || {
        let events = world.cluster.list(&events, None)?;
        Ok(events.iter().any(|event| event["reason"] == "Contended" && event["type"] == "Warning"))
    })?;
    Ok(())
}

#[test]
fn what_others_hang_on_comes_back_with_them() -> Result {
    let mut world = World::new()?;
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
