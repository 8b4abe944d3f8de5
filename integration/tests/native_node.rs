//! The native reconciler in a pod: TrainJobs through the real JobSet controller, and the way from upstream's controller
//! and back. Needs a node with the real controllers and the image of trainerd.

use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trainerd_cluster::builtin::{pod, secret};
use trainerd_cluster::{LogParams, RequestError};
use trainerd_integration::TestCluster;
use trainerd_integration::admission_load::{Call, Tally};
use trainerd_integration::stack::{
    NAMESPACE, QUICK, a_train_job, config_map, deployment, job_set, runtime, train_job,
    webhook_configurations,
};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// For a pod to be started or ended, and for what follows from it.
const BOUND: Duration = Duration::from_mins(4);
const NS: &str = "default";
const TRAINER: &str = "kubeflow-trainer-controller-manager";
const CERTIFICATE: &str = "kubeflow-trainer-webhook-cert";
/// An image of the local node, which tells it apart from others.
const PAUSE: &str = "trainerd.test/pause:1";
const TRAINERD: &str = "localhost/trainerd:v0.1.0";

struct World {
    cluster: TestCluster,
    /// Whether training images hold a program that sleeps; elsewhere a shell does.
    own_images: bool,
}

impl World {
    /// The stack with the native reconciler; nothing where there is no node that could run it.
    fn new() -> Result<Option<Self>> {
        Self::with("native")
    }

    /// The stack with that reconciler.
    fn with(reconciler: &str) -> Result<Option<Self>> {
        let cluster = TestCluster::take()?;
        if !cluster.wait_for_image(TRAINERD)? {
            println!("skipped: it needs a node that has the image {TRAINERD}");
            return Ok(None);
        }
        let own_images = cluster.has_image(PAUSE)?;
        cluster.install("2.3.0", &["--set", &format!("reconciler={reconciler}")])?;
        let world = Self { cluster, own_images };
        world.cluster.create(&runtime(), &world.a_runtime())?;
        Ok(Some(world))
    }

    /// A runtime `plain`, whose pods are not tried again.
    fn a_runtime(&self) -> Value {
        let image = if self.own_images {
            "docker.io/pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
        } else {
            "docker.io/library/busybox:1.37"
        };
        json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "ClusterTrainingRuntime",
            "metadata": {"name": "plain"},
            "spec": {
                "mlPolicy": {"numNodes": 1},
                "template": {"spec": {"replicatedJobs": [{
                    "name": "node",
                    "template": {
                        "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                        "spec": {"backoffLimit": 0, "template": {"spec": {
                            "terminationGracePeriodSeconds": 1,
                            "containers": [{"name": "node", "image": image}],
                        }}},
                    },
                }]}},
            },
        })
    }

    /// Creates a TrainJob whose nodes take so many seconds and end with that code.
    fn create(&self, name: &str, seconds: u32, code: u8, more: &Value) -> Result<Value> {
        let command = if self.own_images {
            json!(["/sleep-train", seconds.to_string(), code.to_string()])
        } else {
            json!(["sh", "-c", format!("echo begun; sleep {seconds}; exit {code}")])
        };
        let mut job = json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": {"name": name, "namespace": NS},
            "spec": {"runtimeRef": {"name": "plain"}, "trainer": {"command": command}},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(fields) if key == "trainer" => {
                    for (key, value) in fields {
                        job["spec"]["trainer"][key] = value.clone();
                    }
                }
                _ => job["spec"][key] = value.clone(),
            }
        }
        Ok(self.cluster.create(&train_job(), &job)?)
    }

    fn patch(&self, name: &str, patch: &Value) -> Result<Value, RequestError> {
        self.cluster.patch(&train_job(), NS, name, patch)
    }

    fn suspend(&self, name: &str, suspend: bool) -> Result {
        self.patch(name, &json!({"spec": {"suspend": suspend}}))?;
        Ok(())
    }

    /// Waits until a TrainJob is as wanted; an error shows it, its JobSet and the controller's log.
    fn wait(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + BOUND;
        loop {
            let job = self.cluster.get(&train_job(), NS, name)?.unwrap_or_default();
            if holds(&job) {
                return Ok(job);
            }
            if Instant::now() > end {
                let set = self.cluster.get(&job_set(), NS, name)?.unwrap_or_default();
                let log = self.controller_log().unwrap_or_default();
                return Err(format!("{name} is not {what}: {job:#}\n{set:#}\n{log}").into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn wait_until_running(&self, name: &str) -> Result<Value> {
        self.wait(name, "running", |job| job["status"]["jobsStatus"][0]["ready"].as_i64() > Some(0))
    }

    fn wait_for(&self, name: &str, kind: &str) -> Result<Value> {
        self.wait(name, kind, |job| condition(job, kind).is_some_and(|it| it["status"] == "True"))
    }

    fn pods(&self, name: &str) -> Result<Vec<Value>, trainerd_integration::Error> {
        self.cluster.list(&pod(), Some(&format!("jobset.sigs.k8s.io/jobset-name={name}")))
    }

    fn wait_until_without_pods(&self, name: &str) -> Result {
        Ok(self.cluster.wait_until("the pods to end", BOUND, || Ok(self.pods(name)?.is_empty()))?)
    }

    /// What the controllers wrote that run now.
    fn controller_log(&self) -> Result<String> {
        let mut text = String::new();
        for pod in self.cluster.list(&pod(), Some("app.kubernetes.io/component=manager"))? {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            if pod["metadata"]["namespace"] != NAMESPACE || !name.starts_with(TRAINER) {
                continue;
            }
            let read = async {
                let mut lines = self.cluster.api().logs(NAMESPACE, name, &LogParams::default()).await?;
                while let Some(line) = lines.next().await {
                    text.push_str(&line);
                    text.push('\n');
                }
                Ok::<_, RequestError>(())
            };
            self.cluster.block_on(read)?;
        }
        Ok(text)
    }

    /// Brings the stack to that reconciler, with admission calls all the while: none may be refused. What happened to them,
    /// and how long it took until the other controller had ended.
    fn switch(&self, reconciler: &str) -> Result<(Tally, Duration)> {
        let begun = Instant::now();
        let calls = self.cluster.call_admission();
        let choice = format!("reconciler={reconciler}");
        let arguments =
            ["up", "--yes", "--timeout", "5m", "--set", "trainer-version=2.3.0", "--set", &choice];
        let switched = self.cluster.run(&[&arguments[..], &QUICK].concat())?;
        // The pods before end a while after the others are ready.
        let one = || {
            let pods = self.cluster.list(&pod(), Some("app.kubernetes.io/component=manager"))?;
            Ok(pods.iter().filter(|pod| pod["metadata"]["namespace"] == NAMESPACE).count() == 1)
        };
        let ended = self.cluster.wait_until("the other controller to end", BOUND, one);
        let (tally, took) = (calls.end(), begun.elapsed());
        switched.expect_code(0)?;
        ended?;
        // A connection that is kept is cut by upstream's controller when it ends, now and then with a call on it: that is
        // neither ours nor a gap, in which nobody answers.
        let is_cut = |call: &&Call| {
            reconciler == "native" && call.refused.as_deref().is_some_and(|why| why.ends_with("EOF"))
        };
        let refused: Vec<&Call> = tally.refused().filter(|call| !is_cut(call)).collect();
        assert!(refused.is_empty(), "{} calls were refused: {:?}", refused.len(), refused.first());
        assert_eq!(tally.answered().len(), 2, "both kinds are asked for: {tally}");
        let deployed = self.cluster.get(&deployment(), NAMESPACE, TRAINER)?.ok_or("no controller")?;
        let image =
            deployed["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        assert_eq!(image == TRAINERD, reconciler == "native", "{image}");
        Ok((tally, took))
    }
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    job["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[test]
fn train_jobs_complete_with_the_real_job_set_controller() -> Result {
    let Some(world) = World::new()? else { return Ok(()) };
    // Webhooks answer through the Service.
    let mut absent = a_train_job("refused");
    absent["spec"]["runtimeRef"]["name"] = json!("absent");
    match world.cluster.try_create(&train_job(), &absent) {
        Err(RequestError::AdmissionDenied { code: 403, message, .. }) => {
            assert!(message.contains("must be created before"), "{message}");
        }
        other => return Err(format!("not refused: {other:?}").into()),
    }
    world.create("two", 3, 0, &json!({"trainer": {"numNodes": 2}}))?;
    world.create("bad", 1, 3, &json!({}))?;
    world.create("late", 600, 0, &json!({"activeDeadlineSeconds": 8}))?;
    world.create("pausing", 600, 0, &json!({}))?;

    let job = world.wait_for("two", "Complete")?;
    assert_eq!(condition(&job, "Complete").ok_or("not complete")?["reason"], "AllJobsCompleted");
    assert_eq!(world.pods("two")?.len(), 2, "a pod for each node");
    let job = world.wait_for("bad", "Failed")?;
    assert_eq!(condition(&job, "Failed").ok_or("not failed")?["reason"], "FailedJobs");
    let job = world.wait_for("late", "Failed")?;
    assert_eq!(condition(&job, "Failed").ok_or("not failed")?["reason"], "DeadlineExceeded");
    world.wait_until_without_pods("late")?;
    assert_eq!(world.cluster.get(&job_set(), NS, "late")?, None);

    world.wait_until_running("pausing")?;
    let before = world.pods("pausing")?[0]["metadata"]["uid"].clone();
    world.suspend("pausing", true)?;
    world.wait_for("pausing", "Suspended")?;
    world.wait_until_without_pods("pausing")?;
    world.wait("pausing", "inactive", |job| job["status"]["jobsStatus"][0]["active"] == 0)?;
    world.suspend("pausing", false)?;
    world.wait_until_running("pausing")?;
    assert_ne!(world.pods("pausing")?[0]["metadata"]["uid"], before);

    as_kueue_does(&world)?;
    // What it may do is enough.
    let log = world.controller_log()?;
    assert!(log.contains("became the leader"), "{log}");
    let denied: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
    assert!(denied.is_empty(), "{denied:#?}");
    Ok(())
}

/// Created suspended, filled in, resumed; evicted, and emptied once nothing is active.
fn as_kueue_does(world: &World) -> Result {
    let manager = "kueue.x-k8s.io/manager";
    world.create("queued", 600, 0, &json!({"suspend": true, "runtimePatches": [{"manager": manager}]}))?;
    world.wait_for("queued", "Suspended")?;
    let filled = json!({"manager": manager, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [{
        "name": "node",
        "template": {"spec": {"template": {
            "metadata": {"labels": {"queue": "a"}},
            "spec": {
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
            },
        }}},
    }]}}}});
    world.patch("queued", &json!({"spec": {"runtimePatches": [filled]}}))?;
    world.suspend("queued", false)?;
    world.wait_until_running("queued")?;
    let pods = world.pods("queued")?;
    assert_eq!(pods[0]["metadata"]["labels"]["queue"], "a");
    assert_eq!(pods[0]["spec"]["nodeSelector"]["kubernetes.io/os"], "linux");
    let emptied = json!({"spec": {"runtimePatches": [{"manager": manager}]}});
    assert!(matches!(world.patch("queued", &emptied), Err(RequestError::AdmissionDenied { code: 403, .. })));
    world.suspend("queued", true)?;
    world.wait("queued", "inactive", |job| job["status"]["jobsStatus"][0]["active"] == 0)?;
    world.wait_until_without_pods("queued")?;
    world.patch("queued", &emptied)?;
    world.suspend("queued", false)?;
    world.wait_until_running("queued")?;
    // JobSet keeps labels of Jobs that it resumes; what it is asked for is what counts.
    let set = world.cluster.get(&job_set(), NS, "queued")?.ok_or("no JobSet")?;
    let template = &set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"];
    assert!(template["metadata"]["labels"].get("queue").is_none(), "{template:#}");
    assert!(template["spec"].get("nodeSelector").is_none(), "{template:#}");
    world.suspend("queued", true)?;
    Ok(())
}

/// A TrainJob's part of the cluster, as far as it must stay as it is: uids, what was asked for, what was told.
fn standing(world: &World, name: &str) -> Result<Value> {
    let job = world.cluster.get(&train_job(), NS, name)?.ok_or("a TrainJob is lost")?;
    let set = world.cluster.get(&job_set(), NS, name)?;
    let snapshot = world.cluster.get(&config_map(), NS, &format!("{name}-runtime-snapshot"))?;
    let snapshot = snapshot.ok_or("a snapshot is lost")?;
    let mut pods: Vec<String> = world
        .pods(name)?
        .iter()
        .map(|pod| {
            format!("{} {}", pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        })
        .collect();
    pods.sort();
    Ok(json!({
        "job": [job["metadata"]["uid"], job["metadata"]["generation"], job["status"]["conditions"]],
        "set": set.map(|set| json!([set["metadata"]["uid"], set["metadata"]["generation"], set["spec"]])),
        "pods": pods,
        "snapshot": [snapshot["metadata"]["uid"], snapshot["data"]],
    }))
}

/// TrainJobs of each state that are there during the switches: `TRAINERD_TRAIN_JOBS` says another number.
const OF_EACH: usize = 5;

fn of_each() -> usize {
    std::env::var("TRAINERD_TRAIN_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(OF_EACH)
}

/// So many TrainJobs in each state, by name: suspended, running, complete, failed; and each state came about in every way
/// that there is.
fn in_every_state(world: &World, of_each: usize) -> Result<Vec<String>> {
    let kueue = "kueue.x-k8s.io/manager";
    let numbers = || 0..of_each;
    for number in numbers() {
        let name = |state: &str| format!("{state}-{number}");
        let (seconds, more) = match number % 5 {
            0 => (2, json!({"suspend": true})),
            // Suspended while it runs, which it is to do for long enough to be seen.
            1 => (20, json!({"trainer": {"numNodes": 2}})),
            2 => (2, json!({"suspend": true, "runtimePatches": [{"manager": kueue}]})),
            3 => (2, json!({"suspend": true, "activeDeadlineSeconds": 3600})),
            _ => (2, json!({"suspend": true, "trainer": {"env": [{"name": "A", "value": "b"}]}})),
        };
        world.create(&name("held"), seconds, 0, &more)?;
        if number % 5 == 1 {
            world.wait_until_running(&name("held"))?;
            world.suspend(&name("held"), true)?;
        }
        let more = match number % 5 {
            0 => json!({"trainer": {"numNodes": 2}, "activeDeadlineSeconds": 7200}),
            1 => json!({"suspend": true}),
            2 => json!({"suspend": true, "runtimePatches": [{"manager": kueue}]}),
            3 => json!({"trainer": {"env": [{"name": "A", "value": "b"}]}}),
            _ => json!({}),
        };
        world.create(&name("going"), 3600, 0, &more)?;
        let nodes = if number == 0 { 2 } else { 1 };
        world.create(&name("done"), 1, 0, &json!({"trainer": {"numNodes": nodes}}))?;
        if number % 5 == 1 {
            world.create(&name("failed"), 600, 0, &json!({"activeDeadlineSeconds": 3}))?;
        } else {
            world.create(&name("failed"), 1, 2, &json!({}))?;
        }
    }
    for number in numbers() {
        let name = |state: &str| format!("{state}-{number}");
        if matches!(number % 5, 1 | 2) {
            world.wait_for(&name("going"), "Suspended")?;
            world.suspend(&name("going"), false)?;
        }
    }
    for number in numbers() {
        let name = |state: &str| format!("{state}-{number}");
        world.wait_for(&name("held"), "Suspended")?;
        world.wait_until_without_pods(&name("held"))?;
        let running = |job: &Value| {
            let jobs = &job["status"]["jobsStatus"][0];
            jobs["ready"].as_i64() > Some(0) && jobs["ready"] == jobs["active"]
        };
        world.wait(&name("going"), "running", running)?;
        world.wait_for(&name("done"), "Complete")?;
        let failed = world.wait_for(&name("failed"), "Failed")?;
        if condition(&failed, "Failed").ok_or("not failed")?["reason"] == "DeadlineExceeded" {
            world.wait_until_without_pods(&name("failed"))?;
        }
    }
    let states = ["held", "going", "done", "failed"];
    Ok(states.iter().flat_map(|state| numbers().map(move |number| format!("{state}-{number}"))).collect())
}

/// The authority that the API server trusts for each webhook of the controller.
fn bundles(world: &World) -> Result<Vec<Value>> {
    let mut bundles = Vec::new();
    for (resource, name) in webhook_configurations().iter().zip(["defaulter", "validator"]) {
        let name = format!("{name}.trainer.kubeflow.org");
        let found = world.cluster.get(resource, "", &name)?.ok_or("no webhook configuration")?;
        for webhook in found["webhooks"].as_array().into_iter().flatten() {
            bundles.push(webhook["clientConfig"]["caBundle"].clone());
        }
    }
    Ok(bundles)
}

#[test]
fn train_jobs_survive_the_switch_from_upstream_and_back() -> Result {
    let Some(world) = World::with("upstream")? else { return Ok(()) };
    let of_each = of_each();
    let names = in_every_state(&world, of_each)?;
    let certificate = || -> Result<Value> {
        Ok(world.cluster.get(&secret(), NAMESPACE, CERTIFICATE)?.ok_or("no certificate")?["data"].clone())
    };
    let kept = certificate()?;
    assert!(kept["ca.key"].is_string() && kept["tls.crt"].is_string());

    // Two ways each, so that each of the two takes over what the other one left.
    for (round, reconciler) in ["native", "upstream", "native"].into_iter().enumerate() {
        let before: Vec<Result<Value>> = names.iter().map(|name| standing(&world, name)).collect();
        let (tally, took) = world.switch(reconciler)?;
        // It looks at every TrainJob when it begins; a second look would come of what the first wrote.
        std::thread::sleep(Duration::from_secs(5));
        for (name, before) in names.iter().zip(before) {
            // The one that was resumed in the round before is complete, and stays so.
            assert_eq!(standing(&world, name)?, before?, "{name}, now under {reconciler}");
        }
        assert_eq!(certificate()?, kept, "{reconciler} takes the certificate over");
        let bundles = bundles(&world)?;
        assert!(bundles.len() >= 4 && bundles.iter().all(|bundle| *bundle == kept["ca.crt"]), "{bundles:?}");
        // What the other one built while it was suspended continues under this one.
        let resumed = format!("held-{round}");
        world.suspend(&resumed, false)?;
        world.wait_for(&resumed, "Complete")?;
        world.create(&format!("new-{reconciler}-{round}"), 1, 0, &json!({}))?;
        world.wait_for(&format!("new-{reconciler}-{round}"), "Complete")?;
        println!(
            "to {reconciler} in {took:.1?}: {} TrainJobs as before; {tally}; cut by the other one's end {}",
            names.len(),
            tally.refused().count(),
        );
    }
    let log = world.controller_log()?;
    let denied: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
    assert!(denied.is_empty(), "{denied:#?}");
    Ok(())
}
