//! The native reconciler in a pod: TrainJobs through the real JobSet controller, and the way from upstream's controller
//! and back. Needs a node with the real controllers and the image of trainerd.

use std::error::Error;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trainerd_cluster::builtin::{pod, secret};
use trainerd_cluster::{LogParams, RequestError};
use trainerd_integration::TestCluster;
use trainerd_integration::stack::{
    NAMESPACE, QUICK, a_train_job, deployment, job_set, node, runtime, train_job,
};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// For a pod to be started or ended, and for what follows from it.
const BOUND: Duration = Duration::from_mins(2);
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
        let cluster = TestCluster::take()?;
        let nodes = if cluster.is_local() { Vec::new() } else { cluster.list(&node(), None)? };
        let has = |image: &str| {
            nodes.iter().any(|node| {
                let images = node["status"]["images"].as_array().into_iter().flatten();
                images.flat_map(|it| it["names"].as_array().into_iter().flatten()).any(|name| name == image)
            })
        };
        if !has(TRAINERD) {
            println!("skipped: it needs a node that has the image {TRAINERD}");
            return Ok(None);
        }
        let own_images = has(PAUSE);
        cluster.install("2.3.0", &["--set", "reconciler=native"])?;
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

    /// Brings the stack to that reconciler, with admission calls all the while: none may be refused.
    fn switch(&self, reconciler: &str) -> Result {
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
        let tally = calls.end();
        switched.expect_code(0)?;
        ended?;
        assert!(
            tally.refused.is_empty(),
            "{} calls were refused: {:?}",
            tally.refused.len(),
            tally.refused.first()
        );
        assert_eq!(tally.answered.len(), 2, "both kinds are asked for: {:?}", tally.answered);
        let deployed = self.cluster.get(&deployment(), NAMESPACE, TRAINER)?.ok_or("no controller")?;
        let image =
            deployed["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        assert_eq!(image == TRAINERD, reconciler == "native", "{image}");
        Ok(())
    }
}

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    job["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[test]
fn train_jobs_come_to_their_ends_through_the_real_job_set_controller() -> Result {
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
    }))
}

#[test]
fn train_jobs_outlast_the_way_to_upstream_and_back() -> Result {
    let Some(world) = World::new()? else { return Ok(()) };
    let names = ["done", "broken", "overdue", "going", "waiting", "resumed", "held"];
    world.create("done", 1, 0, &json!({}))?;
    world.create("broken", 1, 2, &json!({}))?;
    world.create("overdue", 600, 0, &json!({"activeDeadlineSeconds": 3}))?;
    world.create("going", 3600, 0, &json!({"trainer": {"numNodes": 2}, "activeDeadlineSeconds": 7200}))?;
    world.create("waiting", 1, 0, &json!({"suspend": true}))?;
    world.create("resumed", 3600, 0, &json!({"suspend": true}))?;
    let patches = json!([{"manager": "kueue.x-k8s.io/manager"}]);
    world.create("held", 2, 0, &json!({"suspend": true, "runtimePatches": patches}))?;
    for (name, kind) in
        [("done", "Complete"), ("broken", "Failed"), ("overdue", "Failed"), ("waiting", "Suspended")]
    {
        world.wait_for(name, kind)?;
    }
    world.wait_for("held", "Suspended")?;
    world.wait_for("resumed", "Suspended")?;
    world.suspend("resumed", false)?;
    for name in ["going", "resumed"] {
        world.wait_until_running(name)?;
    }
    world.wait_until_without_pods("overdue")?;
    let certificate = || -> Result<Value> {
        Ok(world.cluster.get(&secret(), NAMESPACE, CERTIFICATE)?.ok_or("no certificate")?["data"].clone())
    };
    let kept = certificate()?;
    assert!(kept["ca.key"].is_string() && kept["tls.crt"].is_string());

    for reconciler in ["upstream", "native"] {
        let before = names.map(|name| standing(&world, name));
        world.switch(reconciler)?;
        // It looks at every TrainJob when it begins; a second look would come of what the first wrote.
        std::thread::sleep(Duration::from_secs(5));
        for (name, before) in names.iter().zip(before) {
            assert_eq!(standing(&world, name)?, before?, "{name}, now under {reconciler}");
        }
        assert_eq!(certificate()?, kept, "{reconciler} takes the certificate over");
        // What the other one built while it was suspended goes on under this one.
        let resumed = if reconciler == "upstream" { "waiting" } else { "held" };
        world.suspend(resumed, false)?;
        world.wait_for(resumed, "Complete")?;
        world.create(&format!("new-{reconciler}"), 1, 0, &json!({}))?;
        world.wait_for(&format!("new-{reconciler}"), "Complete")?;
    }
    let log = world.controller_log()?;
    let denied: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("forbidden")).collect();
    assert!(denied.is_empty(), "{denied:#?}");
    Ok(())
}
