//! The native reconciler on a real API server: what it makes of TrainJobs, what it admits, and how it starts and ends.
//! There is no JobSet controller: these tests say what JobSets have come to.

#[path = "reconciler/objects.rs"]
mod objects;
#[path = "reconciler/world.rs"]
mod world;

use std::time::{Duration, Instant};

use objects::{a_condition, a_job, a_runtime, condition, condition_types, node};
use rustix::process::Signal;
use serde_json::{Value, json};
use trainerd_cluster::RequestError;
use trainerd_integration::TestCluster;
use trainerd_integration::reconciler::Start;
use trainerd_integration::stack::{self, config_map, event, job_set, lease, runtime, secret, train_job};
use trainerd_plan::object::Resource;
use world::{BOUND, NS, QUIET, Result, World};

#[test]
fn a_train_job_creates_a_job_set_and_follows_its_status() -> Result {
    let world = World::new(&Start::default())?;
    let job = world.create("plain-a", json!({"trainer": {"image": "example.com/mine:v2", "numNodes": 3}}))?;
    let set = world.wait_for_job_set("plain-a")?;
    let spec = &set["spec"]["replicatedJobs"][0];
    assert_eq!(
        (&spec["template"]["spec"]["parallelism"], &spec["template"]["spec"]["completions"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(node(&set)["image"], "example.com/mine:v2");
    let owner = &set["metadata"]["ownerReferences"];
    assert_eq!(
        *owner,
        json!([{
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "name": "plain-a",
            "uid": job["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        }])
    );
    let managers: Vec<&str> = set["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["manager"].as_str())
        .collect();
    assert_eq!(managers, ["trainer"]);

    let counts =
        json!({"name": "node", "ready": 2, "succeeded": 0, "failed": 0, "active": 3, "suspended": 0});
    world.job_set_status("plain-a", &json!({"replicatedJobsStatus": [counts]}))?;
    world.wait(&train_job(), "plain-a", |job| job["status"]["jobsStatus"] == json!([counts]))?;
    world
        .job_set_status("plain-a", &json!({"conditions": [a_condition("Completed", "AllJobsCompleted")]}))?;
    let job = world.wait_for_condition("plain-a", "Complete", "True")?;
    let complete = condition(&job, "Complete").ok_or("not complete")?;
    assert_eq!(
        (&complete["reason"], &complete["message"]),
        (&json!("AllJobsCompleted"), &json!("said by a test"))
    );

    world.create("plain-b", json!({}))?;
    world.wait_for_job_set("plain-b")?;
    world.job_set_status("plain-b", &json!({"conditions": [a_condition("Failed", "FailedJobs")]}))?;
    let job = world.wait_for_condition("plain-b", "Failed", "True")?;
    assert_eq!(condition(&job, "Failed").ok_or("not failed")?["reason"], "FailedJobs");

    // One that somebody else manages is left alone, though it is admitted like any other.
    world.create("elsewhere", json!({"managedBy": "kueue.x-k8s.io/multikueue"}))?;
    std::thread::sleep(QUIET);
    assert_eq!(world.get(&job_set(), "elsewhere")?, None);
    assert_eq!(world.get(&train_job(), "elsewhere")?.ok_or("gone")?["status"], Value::Null);
    Ok(())
}

#[test]
fn a_suspended_train_job_can_be_patched_and_resumed_by_kueue() -> Result {
    let world = World::new(&Start::default())?;
    let patch = |time: bool, labels: Value, nodes: Value| {
        let mut patch = json!({
            "manager": "kueue.x-k8s.io/manager",
            "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [{
                "name": "node",
                "template": {"spec": {"template": {"metadata": {"labels": labels}, "spec": {"nodeSelector": nodes}}}},
            }]}}},
        });
        if time {
            patch["time"] = json!("2026-01-02T03:04:05Z");
        }
        patch
    };
    world.create(
        "queued",
        json!({
            "suspend": true,
            "trainer": {"image": "example.com/mine:v1"},
            "runtimePatches": [{"manager": "kueue.x-k8s.io/manager"}],
        }),
    )?;
    let set = world.wait_for_job_set("queued")?;
    assert_eq!(set["spec"]["suspend"], true);
    let job = world.wait_for_condition("queued", "Suspended", "True")?;
    assert!(job["spec"]["runtimePatches"][0]["time"].is_string(), "{job:#}");

    // Kueue fills its patch in, then clears suspend.
    let filled = patch(false, json!({"queue": "a"}), json!({"pool": "gpu"}));
    world.patch("queued", &json!({"spec": {"runtimePatches": [filled]}}))?;
    let pod = |set: &Value| set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"].clone();
    let set = world.wait(&job_set(), "queued", |set| pod(set)["spec"]["nodeSelector"]["pool"] == "gpu")?;
    assert_eq!(pod(&set)["metadata"]["labels"]["queue"], "a");
    world.patch("queued", &json!({"spec": {"suspend": false}}))?;
    world.wait(&job_set(), "queued", |set| set["spec"]["suspend"] == false)?;
    let job = world.wait_for_condition("queued", "Suspended", "False")?;
    assert_eq!(condition(&job, "Suspended").ok_or("no condition")?["reason"], "Resumed");

    // While it runs, a patch is refused; so is one while jobs are still active.
    let other = patch(false, json!({"queue": "b"}), json!({"pool": "cpu"}));
    let refused = world.patch("queued", &json!({"spec": {"runtimePatches": [other]}}));
    let Err(RequestError::AdmissionDenied { code: 403, message, .. }) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(
        message.ends_with(
            "spec.runtimePatches: Forbidden: RuntimePatches can only be modified when the TrainJob is suspended \
             before or after the update"
        ),
        "{message}"
    );
    // Eviction: suspended, until nothing is active any more, then its patch is emptied.
    world.patch("queued", &json!({"spec": {"suspend": true}}))?;
    world.wait(&job_set(), "queued", |set| set["spec"]["suspend"] == true)?;
    world.wait_for_condition("queued", "Suspended", "True")?;
    world.patch("queued", &json!({"spec": {"runtimePatches": [{"manager": "kueue.x-k8s.io/manager"}]}}))?;
    world.wait(&job_set(), "queued", |set| pod(set)["spec"].get("nodeSelector").is_none())?;
    // What cannot change stays as it is.
    let image = world.patch("queued", &json!({"spec": {"trainer": {"image": "example.com/other:v1"}}}));
    assert!(matches!(image, Err(RequestError::Invalid { .. })), "{image:?}");
    Ok(())
}

#[test]
fn a_deadline_counts_only_while_the_job_runs() -> Result {
    let world = World::new(&Start::default())?;
    world.create("late", json!({"activeDeadlineSeconds": 3}))?;
    world.wait_for_job_set("late")?;
    world.create("patient", json!({"activeDeadlineSeconds": 3600}))?;
    world.create("waiting", json!({"activeDeadlineSeconds": 1, "suspend": true}))?;
    world.wait_for_job_set("waiting")?;
    let job = world.wait_for_condition("late", "Failed", "True")?;
    let failed = condition(&job, "Failed").ok_or("not failed")?;
    assert_eq!(
        (&failed["reason"], &failed["message"]),
        (&json!("DeadlineExceeded"), &json!("TrainJob exceeded its active deadline"))
    );
    world
        .cluster
        .wait_until("the JobSet to go", BOUND, || Ok(world.cluster.get(&job_set(), NS, "late")?.is_none()))?;
    for name in ["patient", "waiting"] {
        let job = world.get(&train_job(), name)?.ok_or("gone")?;
        assert!(condition(&job, "Failed").is_none(), "{job:#}");
        assert!(world.get(&job_set(), name)?.is_some());
    }
    // From its resumption on it counts again.
    world.patch("waiting", &json!({"spec": {"suspend": false}}))?;
    world.wait_for_condition("waiting", "Failed", "True")?;
    Ok(())
}

#[test]
fn a_train_job_keeps_its_runtime_snapshot() -> Result {
    let world = World::new(&Start::default())?;
    let old = "trainer.kubeflow.org/resource-in-use";
    let mut used = a_runtime("used", &json!({"numNodes": 1}));
    used["metadata"]["finalizers"] = json!([old]);
    world.cluster.create(&runtime(), &used)?;
    let reference = json!({"runtimeRef": {"name": "used"}, "suspend": true});
    let job = world.create("frozen", reference)?;
    world.wait_for_job_set("frozen")?;
    let snapshot = world.wait(&config_map(), "frozen-runtime-snapshot", |_| true)?;
    assert_eq!(snapshot["metadata"]["ownerReferences"][0]["uid"], job["metadata"]["uid"]);
    let text = snapshot["data"]["runtime"].as_str().ok_or("no runtime")?;
    let kept: Value = serde_yaml::from_str(text)?;
    assert_eq!(
        (&kept["kind"], &kept["metadata"]["name"]),
        (&json!("ClusterTrainingRuntime"), &json!("used"))
    );

    // The finalizer of earlier versions is taken away, so that the runtime can go although it is used.
    world.wait(&runtime(), "used", |it| it["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty))?;
    let changed = json!({"spec": {"mlPolicy": {"numNodes": 7}}});
    world.cluster.patch(&runtime(), "", "used", &changed)?;
    world.cluster.delete(&runtime(), "", "used")?;
    assert_eq!(world.cluster.get(&runtime(), "", "used")?, None);
    // A resumption is admitted without the runtime, and builds from what was remembered.
    world.patch("frozen", &json!({"spec": {"suspend": false}}))?;
    let set = world.wait(&job_set(), "frozen", |set| set["spec"]["suspend"] == false)?;
    assert_eq!(set["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"], 1);
    Ok(())
}

#[test]
fn admission_errors_equal_upstreams() -> Result {
    let world = World::new(&Start::default())?;
    world.cluster.create(&runtime(), &a_runtime("torch", &json!({"numNodes": 1, "torch": {}})))?;
    let denied = |name: &str, spec: Value, text: &str| -> Result {
        match world.cluster.try_create(&train_job(), &a_job(name, spec)) {
            Err(RequestError::AdmissionDenied { code: 403, message, .. }) => {
                let prefix =
                    "admission webhook \"validator.trainjob.trainer.kubeflow.org\" denied the request: ";
                assert_eq!(message.strip_prefix(prefix), Some(text), "{message}");
                Ok(())
            }
            other => Err(format!("{name}: {other:?}").into()),
        }
    };
    let reserved = "spec.trainer.env: Invalid value: [{\"name\":\"PET_NNODES\",\"value\":\"1\"}]: must not have reserved \
                    envs, invalid envs configured: [PET_NNODES]";
    let env =
        json!({"runtimeRef": {"name": "torch"}, "trainer": {"env": [{"name": "PET_NNODES", "value": "1"}]}});
    denied("reserved", env, reserved)?;
    denied(
        "nobody",
        json!({"runtimeRef": {"name": "x", "kind": "Other"}}),
        "unsupported runtime: Other.trainer.kubeflow.org",
    )?;
    let absent = "spec.RuntimeRef: Invalid value: {\"name\":\"gone\",\"apiGroup\":\"trainer.kubeflow.org\",\"kind\":\"ClusterTrainingRuntime\"}: \
                  clustertrainingruntimes.trainer.kubeflow.org \"gone\" not found: specified clusterTrainingRuntime must be \
                  created before the TrainJob is created";
    denied("absent", json!({"runtimeRef": {"name": "gone"}}), absent)?;

    // What the schema says is the API server's to refuse.
    let invalid = [
        ("Upper", json!({})),
        ("1-digit", json!({})),
        ("bad-uri", json!({"initializer": {"dataset": {"storageUri": "no-scheme"}}})),
        ("owner", json!({"managedBy": "example.com/other"})),
    ];
    for (name, spec) in invalid {
        let refused = world.cluster.try_create(&train_job(), &a_job(name, spec));
        assert!(matches!(refused, Err(RequestError::Invalid { .. })), "{name}: {refused:?}");
    }
    let mut replicas = a_runtime("replicas", &json!({"numNodes": 1}));
    replicas["spec"]["template"]["spec"]["replicatedJobs"][0]["replicas"] = json!(2);
    match world.cluster.try_create(&runtime(), &replicas) {
        Err(RequestError::AdmissionDenied { code: 403, message, .. }) => {
            let text = "spec.template.spec.replicatedJobs[0].replicas: Invalid value: 2: always must be 1";
            assert!(message.ends_with(text), "{message}");
        }
        other => return Err(format!("{other:?}").into()),
    }
    // Two policies at once are the schema's to refuse.
    let two = a_runtime("two", &json!({"torch": {}, "jax": {}}));
    assert!(matches!(world.cluster.try_create(&runtime(), &two), Err(RequestError::Invalid { .. })));
    Ok(())
}

/// Without webhooks, which would refuse it, a runtime of an unknown kind is reported in the status, once.
#[test]
fn native_mode_extensions() -> Result {
    let world = World::new(&Start { without_webhooks: true, ..Start::default() })?;
    world.create("unsupported", json!({"runtimeRef": {"name": "x", "kind": "Other"}}))?;
    let job = world.wait_for_condition("unsupported", "Failed", "True")?;
    let failed = condition(&job, "Failed").ok_or("not failed")?;
    assert_eq!(
        (&failed["reason"], &failed["message"]),
        (&json!("TrainingRuntimeNotSupported"), &json!("unsupported runtime: Other.trainer.kubeflow.org"))
    );
    let events = || -> Result<Vec<(String, String)>, trainerd_integration::Error> {
        let found = world.cluster.list(&event(), None)?;
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let ours = found.iter().filter(|event| event["reportingController"] == "trainer-trainjob-controller");
        Ok(ours
            .map(|it| (it["regarding"]["name"].as_str().unwrap_or_default().to_owned(), text(it, "reason")))
            .collect())
    };
    let has = |name: &str, reason: &str| Ok(events()?.contains(&(name.to_owned(), reason.to_owned())));
    world.cluster.wait_until("the Event", BOUND, || has("unsupported", "TrainingRuntimeNotSupported"))?;

    // A build that fails is reported in the status, and no longer once it succeeds.
    world.create("orphan", json!({"runtimeRef": {"name": "later"}}))?;
    let job = world.wait_for_condition("orphan", "ResourcesCreationFailed", "True")?;
    let message = condition(&job, "ResourcesCreationFailed").ok_or("no condition")?["message"].clone();
    let text = message.as_str().unwrap_or_default();
    assert!(text.contains("clustertrainingruntimes.trainer.kubeflow.org \"later\" not found"), "{text}");
    world.cluster.wait_until("the Event", BOUND, || has("orphan", "TrainJobResourcesCreationFailed"))?;
    world.cluster.create(&runtime(), &a_runtime("later", &json!({"numNodes": 1})))?;
    world.patch("orphan", &json!({"metadata": {"labels": {"again": "1"}}}))?;
    world.wait_for_job_set("orphan")?;
    world.wait(&train_job(), "orphan", |job| condition(job, "ResourcesCreationFailed").is_none())?;

    // Phases, where they are asked for, and the end of a job that says when it goes.
    let mut job = a_job("brief", json!({}));
    job["metadata"]["annotations"] = json!({
        "extended.trainer.kubeflow.org/phase-conditions": "true",
        "extended.trainer.kubeflow.org/ttl-seconds-after-finished": "1",
    });
    world.cluster.create(&train_job(), &job)?;
    world.wait_for_job_set("brief")?;
    world.wait(&train_job(), "brief", |job| condition_types(job) == ["Pending"])?;
    let counts =
        json!({"name": "node", "ready": 1, "succeeded": 0, "failed": 0, "active": 1, "suspended": 0});
    world.job_set_status("brief", &json!({"replicatedJobsStatus": [counts]}))?;
    world.wait(&train_job(), "brief", |job| condition_types(job) == ["Running"])?;
    world.job_set_status("brief", &json!({"conditions": [a_condition("Completed", "AllJobsCompleted")]}))?;
    world.cluster.wait_until("the TrainJob to go", BOUND, || {
        // Deleted in the foreground, it waits for what it owns, which no garbage collector may be there to delete.
        let found = world.cluster.get(&train_job(), NS, "brief")?;
        Ok(found.is_none_or(|job| job["metadata"]["deletionTimestamp"].is_string()))
    })?;
    Ok(())
}

/// While another replica leads, webhooks answer and nothing is reconciled; the end is in good order.
#[test]
fn one_replica_leads_and_releases_the_lease_at_shutdown() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install_crds()?;
    let theirs = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "trainer.kubeflow.org", "namespace": NS},
        "spec": {
            "holderIdentity": "somebody_else", "leaseDurationSeconds": 15, "leaseTransitions": 3,
            "acquireTime": "2026-01-02T03:04:05.000000Z", "renewTime": "2026-01-02T03:04:05.000000Z",
        },
    });
    cluster.create(&lease(), &theirs)?;
    let config = format!(
        "leaderElection: {{leaderElect: true, resourceName: trainer.kubeflow.org, resourceNamespace: {NS}, \
         leaseDuration: 15s, renewDeadline: 10s, retryPeriod: 2s}}\n"
    );
    let mut manager = cluster.manager("candidate", &Start { config, ..Start::default() })?;
    cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 1})))?;
    let refused =
        cluster.try_create(&train_job(), &a_job("refused", json!({"runtimeRef": {"name": "gone"}})));
    assert!(matches!(refused, Err(RequestError::AdmissionDenied { .. })), "{refused:?}");
    cluster.create(&train_job(), &a_job("waits", json!({})))?;
    std::thread::sleep(QUIET);
    assert_eq!(cluster.get(&job_set(), NS, "waits")?, None, "{}", manager.log());
    // The other gives it up.
    let given_up = json!({"spec": {"holderIdentity": ""}});
    cluster.patch(&lease(), NS, "trainer.kubeflow.org", &given_up)?;
    cluster.wait_until("the JobSet", BOUND, || Ok(cluster.get(&job_set(), NS, "waits")?.is_some()))?;
    let held = cluster.get(&lease(), NS, "trainer.kubeflow.org")?.ok_or("no lease")?;
    let holder = held["spec"]["holderIdentity"].as_str().unwrap_or_default();
    assert_eq!(
        (holder.rsplit_once('_').map(|(_, uuid)| uuid.len()), &held["spec"]["leaseTransitions"]),
        (Some(36), &json!(4))
    );
    for path in ["/healthz", "/readyz", "/readyz/readyz", "/healthz?verbose"] {
        assert_eq!(manager.probe(path)?.code, 200, "{path}");
    }
    let asked = Instant::now();
    manager.signal(Signal::TERM)?;
    assert_eq!(manager.end()?, 0, "{}", manager.log());
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    // Managed, as client-go keeps it.
    let held = cluster.get(&lease(), NS, "trainer.kubeflow.org")?.ok_or("no lease")?;
    assert_eq!(held["spec"]["holderIdentity"], holder);
    Ok(())
}

/// Pods say how far a TrainJob is, with a token that is for it alone.
#[test]
fn progress_is_reported_with_a_token_for_that_train_job() -> Result {
    let port = trainerd_integration::daemon::free_address()?.port();
    let config = format!(
        "featureGates: {{TrainJobStatus: true}}\nstatusServer: {{port: {port}, qps: 100, burst: 100}}\n"
    );
    let mut world = World::new(&Start { config, without_webhooks: true, ..Start::default() })?;
    let authority = json!({"metadata": {"name": "kubeflow-system"}, "apiVersion": "v1", "kind": "Namespace"});
    world.cluster.create(&stack::namespace(), &authority)?;
    let certificate = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubeflow-trainer-webhook-cert", "namespace": "kubeflow-system"},
        "data": {"ca.crt": "UEVN"},
    });
    world.cluster.create(&secret(), &certificate)?;
    world.manager.wait_until_ready()?;
    world.create("told", json!({}))?;
    let set = world.wait_for_job_set("told")?;
    let env = node(&set)["env"].as_array().cloned().unwrap_or_default();
    assert!(env.iter().any(|it| it["name"] == "KUBEFLOW_TRAINER_SERVER_URL"), "{set:#}");
    assert_eq!(world.get(&config_map(), "told-tls-config")?.ok_or("no ConfigMap")?["data"]["ca.crt"], "PEM");

    let path =
        |name: &str| format!("/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NS}/trainjobs/{name}/status");
    let audience =
        |name: &str| format!("trainer.kubeflow.org/v1alpha1/namespaces/{NS}/trainjobs/{name}/status");
    let token = world.cluster.token_for(NS, "default", &audience("told"))?;
    let report = |percent: i32| {
        json!({"trainerStatus": {
            "progressPercentage": percent, "lastUpdatedTime": "2026-01-02T03:04:05Z",
            "metrics": [{"name": "loss", "value": "0.5"}],
        }})
    };
    let ask =
        |name: &str, token: &str, body: &Value| world.manager.report(port, &path(name), Some(token), body);
    assert_eq!(ask("told", &token, &report(40))?.code, 200);
    let job =
        world.wait(&train_job(), "told", |job| job["status"]["trainerStatus"]["progressPercentage"] == 40)?;
    assert_eq!(job["status"]["trainerStatus"]["metrics"][0]["value"], "0.5");
    // What is reported is all there is, and nothing is no report.
    let short =
        json!({"trainerStatus": {"progressPercentage": 50, "lastUpdatedTime": "2026-01-02T03:05:05Z"}});
    assert_eq!(ask("told", &token, &short)?.code, 200);
    assert_eq!(ask("told", &token, &json!({}))?.code, 200);
    world.wait(&train_job(), "told", |job| {
        let status = &job["status"]["trainerStatus"];
        status["progressPercentage"] == 50 && status["metrics"].is_null()
    })?;
    assert_eq!(ask("told", &token, &report(101))?.code, 422);
    assert_eq!(ask("told", "nonsense", &report(1))?.code, 403);
    assert_eq!(ask("other", &token, &report(1))?.code, 403, "the token is for another");
    let nobody = world.cluster.token_for(NS, "default", &audience("nobody"))?;
    assert_eq!(ask("nobody", &nobody, &report(1))?.code, 404);
    Ok(())
}

/// The certificate is made in its Secret, its authority told to the API server, and what another implementation left is
/// taken over as it is.
#[test]
fn the_certificate_is_stored_in_its_secret() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install_crds()?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubeflow-system"}});
    cluster.create(&stack::namespace(), &namespace)?;
    let name = "kubeflow-trainer-webhook-cert";
    let empty = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "kubeflow-system"}, "type": "Opaque",
    });
    cluster.create(&secret(), &empty)?;
    let [mutating, validating] = stack::webhook_configurations();
    let configurations =
        [(mutating, "defaulter.trainer.kubeflow.org", 1), (validating, "validator.trainer.kubeflow.org", 2)];
    for (resource, name, webhooks) in &configurations {
        cluster.apply(resource, &a_configuration(resource, name, *webhooks))?;
    }
    let kept = |cluster: &TestCluster| -> Result<Value, trainerd_integration::Error> {
        Ok(cluster.get(&secret(), "kubeflow-system", name)?.unwrap_or_default()["data"].clone())
    };
    let is_told = |cluster: &TestCluster, authority: &Value| -> Result<bool, trainerd_integration::Error> {
        let mut told = true;
        for (resource, name, _) in &configurations {
            let found = cluster.get(resource, "", name)?.unwrap_or_default();
            let webhooks = found["webhooks"].as_array().cloned().unwrap_or_default();
            told &= !webhooks.is_empty()
                && webhooks.iter().all(|it| it["clientConfig"]["caBundle"] == *authority);
        }
        Ok(told)
    };
    let mut manager = cluster.manager_with_certificates("rotator")?;
    cluster.wait_until("the authority to be told", BOUND, || {
        let data = kept(&cluster)?;
        Ok(data["ca.crt"].is_string() && is_told(&cluster, &data["ca.crt"])?)
    })?;
    let first = kept(&cluster)?;
    for key in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
        assert!(first[key].as_str().is_some_and(|text| text.len() > 1000), "{key}");
    }
    assert_ne!(manager.probe("/readyz")?.code, 200, "nothing is mounted yet");
    manager.mount(&first)?;
    manager.wait_until_ready()?;

    // Somebody takes the authority out of a configuration: it is put back, and the certificate stays as it is.
    let (resource, name, webhooks) = &configurations[1];
    cluster.apply(resource, &a_configuration(resource, name, *webhooks))?;
    cluster.patch(resource, "", name, &a_configuration(resource, name, *webhooks))?;
    cluster.wait_until("the authority to be told again", BOUND, || is_told(&cluster, &first["ca.crt"]))?;
    // A second one takes over what the first has left.
    manager.signal(Signal::TERM)?;
    assert_eq!(manager.end()?, 0, "{}", manager.log());
    let mut second = cluster.manager_with_certificates("successor")?;
    second.mount(&first)?;
    second.wait_until_ready()?;
    assert_eq!(kept(&cluster)?, first);
    Ok(())
}

/// A webhook configuration that nothing matches, without an authority.
fn a_configuration(resource: &Resource, name: &str, webhooks: usize) -> Value {
    let webhook = |number: usize| {
        json!({
            "name": format!("w{number}.trainer.kubeflow.org"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"name": "kubeflow-trainer-controller-manager", "namespace": "kubeflow-system"}},
        })
    };
    let webhooks: Vec<Value> = (0..webhooks).map(webhook).collect();
    json!({
        "apiVersion": resource.api_version(), "kind": resource.kind, "metadata": {"name": name}, "webhooks": webhooks,
    })
}
