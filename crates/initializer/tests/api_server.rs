//! `cache://` against a real API server, with a controller of LeaderWorkerSets that this test plays.
//!
//! Runs where `TRAINERD_TEST_CLUSTER=existing` and `KUBECONFIG` name one; says so and passes elsewhere. A process outside
//! a pod has the namespace `default`, so that is where TrainJobs are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use trainerd_cluster::{Cluster, ConnectOptions, CreateParams, DeleteParams, RequestError, builtin};
use trainerd_initializer::provision::objects::leader_worker_sets;
use trainerd_object::Resource;
use trainerd_object::kinds::train_job;

/// How long anything may take to become so.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TrainJob of its own for a test.
struct World {
    cluster: Cluster,
    job: String,
    uid: String,
}

impl World {
    async fn new(test: &str) -> Option<Self> {
        if std::env::var("TRAINERD_TEST_CLUSTER").as_deref() != Ok("existing") {
            eprintln!("skipped: TRAINERD_TEST_CLUSTER is not `existing`");
            return None;
        }
        let options = ConnectOptions {
            user_agent: "trainerd-initializer/0.0.0 (test)".to_owned(),
            field_manager: "test".to_owned(),
            ..ConnectOptions::default()
        };
        let cluster = Cluster::connect(options).await.unwrap();
        define(&cluster, &train_job()).await;
        define(&cluster, &leader_worker_sets()).await;
        let job = format!("{test}-{:08x}", fastrand::u32(..));
        let manifest = json!({
            "apiVersion": "trainer.kubeflow.org/v1alpha1",
            "kind": "TrainJob",
            "metadata": { "name": job, "namespace": "default" },
            "spec": { "runtimeRef": { "name": "torch-distributed-with-cache" } },
        });
        let stored = cluster.create(&train_job(), &manifest, CreateParams::default()).await.unwrap();
        let uid = stored["metadata"]["uid"].as_str().unwrap().to_owned();
        Some(Self { cluster, job, uid })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainerd-initializer"));
        command.arg("dataset").env("STORAGE_URI", "cache://schema/table").env("TRAIN_JOB_NAME", &self.job);
        command
            .env("CACHE_IMAGE", "registry.test/cache:1")
            .env("METADATA_LOC", "s3://bucket/v1.metadata.json");
        command.env("PROGRESS", "none").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The objects, in the order in which they are made.
    fn objects(&self) -> [(Resource, String); 3] {
        [
            (builtin::service_account(), format!("{}-cache", self.job)),
            (leader_worker_sets(), format!("{}-cache", self.job)),
            (builtin::service(), format!("{}-cache-service", self.job)),
        ]
    }

    async fn find(&self, number: usize) -> Option<Value> {
        let (resource, name) = &self.objects()[number];
        self.cluster.get_opt(resource, Some("default"), name).await.unwrap()
    }

    async fn uids(&self) -> Vec<Option<String>> {
        let mut uids = Vec::new();
        for number in 0..3 {
            let object = self.find(number).await;
            uids.push(object.and_then(|object| Some(object["metadata"]["uid"].as_str()?.to_owned())));
        }
        uids
    }

    async fn until_made(&self, number: usize) {
        let made = async {
            while self.find(number).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, made).await.unwrap();
    }

    /// What the controller says once all pods are ready.
    async fn available(&self) {
        let status = json!({ "status": { "conditions": [{
            "type": "Available", "status": "True", "reason": "AllGroupsReady",
            "message": "All replicas are ready", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] } });
        let params = CreateParams { status: true, ..CreateParams::default() };
        let (resource, name) = &self.objects()[1];
        self.cluster.patch_merge(resource, Some("default"), name, &status, params).await.unwrap();
    }

    async fn end(self) {
        for (resource, name) in self.objects().iter().chain([&(train_job(), self.job.clone())]) {
            let _ = self.cluster.delete(resource, Some("default"), name, &DeleteParams::default()).await;
        }
    }
}

/// A kind without rules, where the real one is not there.
async fn define(cluster: &Cluster, kind: &Resource) {
    let definitions = builtin::custom_resource_definition();
    let name = format!("{}.{}", kind.plural, kind.group);
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let manifest = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": name,
            "annotations": { "api-approved.kubernetes.io": "unapproved, a test" },
        },
        "spec": {
            "group": kind.group,
            "names": { "kind": kind.kind, "plural": kind.plural, "singular": kind.kind.to_lowercase() },
            "scope": "Namespaced",
            "versions": [{
                "name": kind.version, "served": true, "storage": true,
                "schema": { "openAPIV3Schema": open }, "subresources": { "status": {} },
            }],
        },
    });
    match cluster.create(&definitions, &manifest, CreateParams::default()).await {
        Ok(_) | Err(RequestError::AlreadyExists { .. }) => {}
        Err(error) => assert_eq!(error.to_string(), ""),
    }
    let served = async {
        while !cluster.serves(kind).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.unwrap();
}

async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_made_and_waited_for() {
    let Some(world) = World::new("made").await else { return };
    let child = world.command().spawn().unwrap();
    world.until_made(2).await;
    world.available().await;
    let output = ended(child).await;
    assert!(output.status.success(), "{}", said(&output));
    for number in 0..3 {
        let object = world.find(number).await.unwrap();
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], json!(world.uid));
    }
    assert!(said(&output).contains("waiting for LeaderWorkerSet"), "{}", said(&output));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_step_the_next_attempt_goes_on_with_what_is_there() {
    let Some(world) = World::new("killed").await else { return };
    let mut before = vec![None; 3];
    for number in 0..3 {
        let mut child = world.command().spawn().unwrap();
        world.until_made(number).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let uids = world.uids().await;
        for (before, now) in before.iter().zip(&uids) {
            assert!(before.is_none() || before == now, "an object was made anew");
        }
        before = uids;
    }
    world.available().await;
    let output = ended(world.command().spawn().unwrap()).await;
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(world.uids().await, before);
    assert!(said(&output).contains("is there from an earlier attempt"), "{}", said(&output));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_does_not_come_ends_with_8_and_stays_for_the_next_attempt() {
    let Some(world) = World::new("late").await else { return };
    let child = world.command().env("CACHE_READY_TIMEOUT_SECONDS", "1").spawn().unwrap();
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    assert!(said(&output).contains("is not available after 1 s"), "{}", said(&output));
    assert!(world.uids().await.iter().all(Option::is_some));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_somebody_else_is_left_alone_and_nothing_is_left_behind() {
    let Some(world) = World::new("foreign").await else { return };
    let (services, name) = &world.objects()[2];
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
        "spec": { "ports": [{ "port": 1 }] },
    });
    let foreign = world.cluster.create(services, &foreign, CreateParams::default()).await.unwrap();
    let output = ended(world.command().spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("does not belong to the TrainJob"), "{}", said(&output));
    let foreign = foreign["metadata"]["uid"].as_str().map(str::to_owned);
    assert_eq!(world.uids().await, [None, None, foreign]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_codes() {
    let Some(world) = World::new("refused").await else { return };
    let unknown = world.command().env("TRAIN_JOB_NAME", "no-such-job").spawn().unwrap();
    let output = ended(unknown).await;
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let shared = ended(world.command().env("CACHE_NAME", "no-such-cache").spawn().unwrap()).await;
    assert_eq!(shared.status.code(), Some(4), "{}", said(&shared));
    assert_eq!(world.uids().await, [None, None, None]);
    // As somebody who may do nothing.
    let path = PathBuf::from(std::env::var_os("KUBECONFIG").unwrap());
    let mut kubeconfig: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for user in kubeconfig["users"].as_array_mut().unwrap() {
        user["user"]["as"] = json!("system:serviceaccount:default:nobody");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let output = ended(world.command().env("KUBECONFIG", &path).spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("bind the ClusterRole"), "{}", said(&output));
    world.end().await;
}
