//! One table a family of kinds: object in, verdict out.

#![expect(clippy::needless_pass_by_value, reason = "the tables read better without ampersands")]

use serde_json::{Value, json};

use super::Status::{Current, Failed, InProgress, Terminating};
use super::{Status, WorkloadStatus, compute, pod_reason};

fn check(rows: &[(&str, Value, Status, &str, &str)]) {
    let now = "2026-01-01T00:00:10Z".parse().unwrap();
    for (name, object, status, reason, message) in rows {
        let verdict = compute(object, now);
        assert_eq!((verdict.status, verdict.reason.as_str()), (*status, *reason), "{name}: {verdict:?}");
        assert!(verdict.message.contains(message), "{name}: {verdict:?}");
    }
}

fn object(api_version: &str, kind: &str, spec: Value, status: Value) -> Value {
    let metadata = json!({"name": "x", "namespace": "n", "generation": 2});
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec, "status": status})
}

#[test]
fn deletion_generation_and_conditions_are_checked_for_every_kind() {
    let deployment = |metadata: Value, status: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
               "spec": {"replicas": 0}, "status": status})
    };
    let stale = json!({"observedGeneration": 1, "conditions": [{"type": "Stalled", "status": "True"}]});
    let gone = json!({"generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]});
    let stalled =
        json!({"conditions": [{"type": "Stalled", "status": "True", "reason": "R", "message": "m"}]});
    let calm = json!({"conditions": [{"type": "Stalled", "status": "False", "reason": "R"}]});
    let cr = |status: Value| object("example.org/v1", "Thing", json!({}), status);
    let condition =
        |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "reason": "R"}]});
    check(&[
        (
            "deleted",
            deployment(gone, stale.clone()),
            Terminating,
            "Terminating",
            "waiting for finalizers a/b",
        ),
        (
            "stale status",
            deployment(json!({"generation": 2}), stale),
            InProgress,
            "LatestGenerationNotObserved",
            "2",
        ),
        ("stalled", deployment(json!({"generation": 2}), stalled), Failed, "R", "m"),
        ("not stalled", cr(calm), Current, "Current", ""),
        ("no status", cr(Value::Null), Current, "Current", ""),
        ("status of a wrong type", cr(json!("up")), Current, "Current", ""),
        ("ready", cr(condition("True")), Current, "Current", ""),
        ("not ready", cr(condition("False")), InProgress, "R", ""),
        ("unknown", cr(condition("Unknown")), InProgress, "R", ""),
        // The group counts, not the kind alone.
        (
            "another Deployment",
            object("x.org/v1", "Deployment", json!({}), json!({})),
            Current,
            "Current",
            "",
        ),
    ]);
}

#[test]
fn a_rollout_waits_for_new_pods() {
    let ready = |kind: &str, status: Value| {
        let object = json!({"kind": kind, "spec": {"replicas": 1}, "status": status});
        WorkloadStatus::of(&object).map(|workload| (workload.ready, workload.wanted))
    };
    let rolled_out = json!({"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1});
    assert_eq!(ready("Deployment", rolled_out.clone()), Some((0, 1)));
    assert_eq!(
        ready("Deployment", json!({"replicas": 2, "updatedReplicas": 1, "readyReplicas": 2})),
        Some((1, 1))
    );
    assert_eq!(
        ready("Deployment", json!({"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1})),
        Some((1, 1))
    );
    assert_eq!(ready("StatefulSet", rolled_out), Some((1, 1)));
    assert_eq!(ready("Job", json!({})), None);
}

#[test]
fn workloads() {
    let deployment = |counts: [i64; 4], conditions: Value| {
        let [replicas, updated, ready, available] = counts;
        let status = json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
            "readyReplicas": ready, "availableReplicas": available, "conditions": conditions});
        object("apps/v1", "Deployment", json!({"replicas": 2, "progressDeadlineSeconds": 600}), status)
    };
    let available = json!({"type": "Available", "status": "True"});
    let rolled = json!({"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"});
    let rolling = json!({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"});
    let late = json!({"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"});
    let refused = json!({"type": "ReplicaFailure", "status": "True", "message": "over quota"});
    let sts = |strategy: Value, status: Value| {
        object("apps/v1", "StatefulSet", json!({"replicas": 3, "updateStrategy": strategy}), status)
    };
    let full = json!({"replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "updatedReplicas": 1,
        "currentRevision": "a", "updateRevision": "b"});
    let partition = |p: i64| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": p}});
    let ds = |status: Value| object("apps/v1", "DaemonSet", json!({}), status);
    let rs = |status: Value| object("apps/v1", "ReplicaSet", json!({"replicas": 1}), status);
    check(&[
        ("up", deployment([2, 2, 2, 2], json!([available, rolled])), Current, "Current", "2/2"),
        ("no pods", deployment([1, 1, 0, 0], json!([])), InProgress, "LessReplicas", "Replicas: 1/2"),
        ("refused", deployment([0, 0, 0, 0], json!([refused])), InProgress, "ReplicaFailure", "over quota"),
        (
            "surge refused",
            deployment([2, 0, 2, 2], json!([refused])),
            InProgress,
            "ReplicaFailure",
            "over quota",
        ),
        (
            "nonetheless",
            deployment([2, 2, 2, 2], json!([available, rolled, refused])),
            Current,
            "Current",
            "2/2",
        ),
        ("old pods", deployment([2, 1, 2, 2], json!([available])), InProgress, "LessUpdated", "Updated: 1/2"),
        ("surge", deployment([3, 2, 3, 3], json!([available, rolling])), InProgress, "ExtraPods", "1 more"),
        ("starting", deployment([2, 2, 0, 0], json!([])), InProgress, "LessAvailable", "Available: 0/2"),
        ("unready", deployment([2, 2, 1, 2], json!([])), InProgress, "LessReady", "Ready: 1/2"),
        (
            "rolling",
            deployment([2, 2, 2, 2], json!([available, rolling])),
            InProgress,
            "ReplicaSetNotAvailable",
            "",
        ),
        ("no Available", deployment([2, 2, 2, 2], json!([rolled])), InProgress, "DeploymentNotAvailable", ""),
        (
            "deadline",
            deployment([2, 1, 1, 1], json!([available, late])),
            Failed,
            "ProgressDeadlineExceeded",
            "progress",
        ),
        ("by hand", sts(json!({"type": "OnDelete"}), json!({})), Current, "Current", "OnDelete"),
        ("two revisions", sts(json!({}), full.clone()), InProgress, "RevisionMismatch", "revision"),
        ("below partition", sts(partition(2), full.clone()), Current, "Current", "1"),
        ("partition behind", sts(partition(1), full), InProgress, "PartitionRollout", "1/2"),
        (
            "no node",
            ds(json!({"observedGeneration": 2, "desiredNumberScheduled": 0})),
            Current,
            "Current",
            "",
        ),
        (
            "old daemon",
            ds(json!({"observedGeneration": 2, "desiredNumberScheduled": 1, "currentNumberScheduled": 1})),
            InProgress,
            "LessUpdated",
            "0/1",
        ),
        (
            "quota",
            rs(
                json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "over quota"}]}),
            ),
            InProgress,
            "ReplicaFailure",
            "over quota",
        ),
        (
            "set up",
            rs(json!({"replicas": 1, "fullyLabeledReplicas": 1, "availableReplicas": 1, "readyReplicas": 1})),
            Current,
            "Current",
            "1/1",
        ),
    ]);
}

#[test]
fn jobs_and_their_sets() {
    let on = |kind: &str| json!({"type": kind, "status": "True", "reason": "Why", "message": "because"});
    let job = |spec: Value, status: Value| object("batch/v1", "Job", spec, status);
    let set = |spec: Value, status: Value| object("jobset.x-k8s.io/v1alpha2", "JobSet", spec, status);
    let two = json!({"replicatedJobs": [{"name": "launcher"}, {"name": "node", "replicas": 2}]});
    let suspended = json!({"suspend": true, "replicatedJobs": []});
    let status = |ready: i64, succeeded: i64| {
        json!({"replicatedJobsStatus": [{"name": "launcher", "ready": 1, "succeeded": 0},
            {"name": "node", "ready": ready, "succeeded": succeeded}]})
    };
    let train =
        |spec: Value, status: Value| object("trainer.kubeflow.org/v1alpha1", "TrainJob", spec, status);
    let jobs = |ready: i64, active: i64| {
        json!({"jobsStatus": [{"name": "initializer", "succeeded": 1, "active": 0, "ready": 0},
            {"name": "node", "succeeded": 0, "active": active, "ready": ready}]})
    };
    let lws = |counts: [i64; 3], conditions: Value| {
        let [replicas, updated, ready] = counts;
        let status = json!({"replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready,
            "conditions": conditions});
        object("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", json!({"replicas": 2}), status)
    };
    let up = on("Available");
    check(&[
        ("running", job(json!({}), json!({"startTime": "t", "active": 1})), Current, "Current", "1 active"),
        ("job not yet", job(json!({}), json!({})), InProgress, "JobNotStarted", ""),
        (
            "job failed",
            job(json!({}), json!({"failed": 7, "conditions": [on("Failed")]})),
            Failed,
            "JobFailed",
            "7 pods failed: because",
        ),
        ("set not yet", set(two.clone(), Value::Null), InProgress, "JobSetNotStarted", ""),
        ("set part", set(two.clone(), status(1, 0)), InProgress, "JobsNotReady", "node: 1/2"),
        ("set up", set(two.clone(), status(2, 0)), Current, "Current", "running"),
        ("set half done", set(two.clone(), status(1, 1)), Current, "Current", "running"),
        (
            "set done",
            set(two.clone(), json!({"conditions": [on("Completed")]})),
            Current,
            "Current",
            "complete",
        ),
        ("set failed", set(two.clone(), json!({"conditions": [on("Failed")]})), Failed, "Why", "because"),
        (
            "set held",
            set(suspended, json!({"conditions": [on("Suspended")]})),
            Current,
            "Current",
            "suspended",
        ),
        (
            "set resumed",
            set(two, json!({"conditions": [on("Suspended")]})),
            InProgress,
            "JobSetNotStarted",
            "not yet",
        ),
        ("train not yet", train(json!({}), json!({})), InProgress, "TrainJobNotStarted", ""),
        ("train waits", train(json!({}), jobs(0, 0)), InProgress, "JobsNotReady", "node: 0/1"),
        ("train part", train(json!({}), jobs(1, 2)), InProgress, "JobsNotReady", "node: 1/2"),
        ("train runs", train(json!({}), jobs(2, 2)), Current, "Current", "running"),
        (
            "train done",
            train(json!({}), json!({"conditions": [on("Complete"), on("Failed")]})),
            Current,
            "Current",
            "complete",
        ),
        ("train failed", train(json!({}), json!({"conditions": [on("Failed")]})), Failed, "Why", "because"),
        ("lws new", lws([0, 0, 0], json!([])), InProgress, "LessReplicas", "0/2"),
        ("lws old", lws([2, 1, 2], json!([up])), InProgress, "LessUpdated", "1/2"),
        ("lws unready", lws([2, 2, 1], json!([up])), InProgress, "LessReady", "1/2"),
        (
            "lws rolls",
            lws([2, 2, 2], json!([up, on("UpdateInProgress")])),
            InProgress,
            "UpdateInProgress",
            "",
        ),
        ("lws unavailable", lws([2, 2, 2], json!([])), InProgress, "LeaderWorkerSetNotAvailable", ""),
        ("lws up", lws([2, 2, 2], json!([up])), Current, "Current", "2/2"),
    ]);
}

#[test]
fn extensions_of_the_api_server() {
    let one = |kind: &str, status: &str, reason: &str| json!({"conditions": [{"type": kind, "status": status, "reason": reason, "message": "m"}]});
    let crd =
        |status: Value| object("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({}), status);
    let api = |status: Value| object("apiregistration.k8s.io/v1", "APIService", json!({}), status);
    let hooks = |webhooks: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
               "metadata": {"name": "x"}, "webhooks": webhooks})
    };
    let service = json!({"service": {"name": "s", "namespace": "n"}});
    let filled = json!({"service": {"name": "s", "namespace": "n"}, "caBundle": "LS0t"});
    let empty = json!({"service": {"name": "s", "namespace": "n"}, "caBundle": ""});
    check(&[
        ("crd new", crd(json!({})), InProgress, "Installing", ""),
        ("crd up", crd(one("Established", "True", "InitialNamesAccepted")), Current, "Current", ""),
        ("crd refused", crd(one("NamesAccepted", "False", "PluralConflict")), Failed, "PluralConflict", "m"),
        ("crd lost", crd(one("Established", "False", "NotAccepted")), Failed, "NotAccepted", "m"),
        ("api new", api(Value::Null), InProgress, "AvailableUnknown", ""),
        ("api down", api(one("Available", "False", "MissingEndpoints")), InProgress, "MissingEndpoints", "m"),
        ("api up", api(one("Available", "True", "Passed")), Current, "Current", ""),
        (
            "one bundle missing",
            hooks(json!([{"name": "a", "clientConfig": filled}, {"name": "b", "clientConfig": service}])),
            InProgress,
            "CaBundleMissing",
            "for b",
        ),
        (
            "empty",
            hooks(json!([{"name": "a", "clientConfig": empty}])),
            InProgress,
            "CaBundleMissing",
            "for a",
        ),
        (
            "by url",
            hooks(
                json!([{"name": "a", "clientConfig": {"url": "https://x"}}, {"name": "b", "clientConfig": filled}]),
            ),
            Current,
            "Current",
            "",
        ),
    ]);
}

#[test]
fn the_core_group() {
    let v1 = |kind: &str, spec: Value, status: Value| object("v1", kind, spec, status);
    let phase = |phase: &str| json!({"phase": phase});
    let slice = |endpoints: Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"},
               "endpoints": endpoints})
    };
    let endpoints = |subsets: Value| json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "x"}, "subsets": subsets});
    let balancer = |ip: &str| v1("Service", json!({"type": "LoadBalancer", "clusterIP": ip}), json!({}));
    let no_room = |created: &str| {
        let mut pod = v1(
            "Pod",
            json!({}),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]}),
        );
        pod["metadata"]["creationTimestamp"] = json!(created);
        pod
    };
    check(&[
        (
            "claim",
            v1("PersistentVolumeClaim", json!({}), phase("Pending")),
            InProgress,
            "NotBound",
            "Pending",
        ),
        ("bound", v1("PersistentVolumeClaim", json!({}), phase("Bound")), Current, "Current", ""),
        ("namespace", v1("Namespace", json!({}), phase("Active")), Current, "Current", ""),
        ("namespace ends", v1("Namespace", json!({}), phase("Terminating")), Terminating, "Terminating", ""),
        ("balancer", balancer(""), InProgress, "NoIPAssigned", ""),
        ("balanced", balancer("10.0.0.1"), Current, "Current", ""),
        ("no slice", slice(Value::Null), InProgress, "NoReadyEndpoint", ""),
        (
            "unready slice",
            slice(json!([{"addresses": ["1.2.3.4"], "conditions": {"ready": false}}])),
            InProgress,
            "NoReadyEndpoint",
            "",
        ),
        ("slice", slice(json!([{"addresses": ["1.2.3.4"], "conditions": {}}])), Current, "Current", ""),
        (
            "not ready addresses",
            endpoints(json!([{"notReadyAddresses": [{"ip": "1.2.3.4"}]}])),
            InProgress,
            "NoReadyEndpoint",
            "",
        ),
        ("endpoints", endpoints(json!([{"addresses": [{"ip": "1.2.3.4"}]}])), Current, "Current", ""),
        ("just made", no_room("2026-01-01T00:00:00Z"), InProgress, "PodNotScheduled", "Insufficient cpu"),
        ("no room", no_room("2025-12-31T23:59:55Z"), Failed, "PodUnschedulable", "Insufficient cpu"),
        ("odd phase", v1("Pod", json!({}), phase("Odd")), InProgress, "PodPhaseUnknown", "Odd"),
    ]);
}

fn pod(status: Value) -> Value {
    let probe = json!({"httpGet": {"port": 8081}});
    let containers =
        json!([{"name": "manager", "readinessProbe": probe}, {"name": "slow", "startupProbe": probe}]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
           "spec": {"containers": containers, "nodeName": "one"}, "status": status})
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn a_pod_that_does_not_run_has_its_reason() {
    let unscheduled = |reason: &str, message: &str| {
        pod(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}]}))
    };
    let container = |name: &str, state: Value| {
        let mut status = json!({"name": name, "image": "ghcr.io/a/b:1", "state": state, "restartCount": 4});
        status["lastState"] =
            json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "no config\nx"}});
        pod(json!({"phase": "Pending", "containerStatuses": [status]}))
    };
    let waiting = |reason: &str, message: &str| {
        container("manager", json!({"waiting": {"reason": reason, "message": message}}))
    };
    let running = |name: &str| container(name, json!({"running": {}}));
    let mut starting = running("slow");
    starting["status"]["containerStatuses"][0]["started"] = json!(false);
    let ready = json!({"type": "Ready", "status": "True"});
    let gated =
        json!({"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": "gate g"});
    let init = json!({"phase": "Pending",
        "initContainerStatuses": [{"name": "copy", "state": {"running": {}}}],
        "containerStatuses": [{"name": "manager", "state": {"waiting": {"reason": "PodInitializing"}}}]});
    let init_fails = json!({"phase": "Pending",
        "initContainerStatuses": [{"name": "copy", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}],
        "containerStatuses": [{"name": "manager", "state": {"waiting": {"reason": "PodInitializing"}}}]});
    let bare = |phase: &str| pod(json!({"phase": phase}));
    let mut unplaced = bare("Pending");
    unplaced["spec"]["nodeName"] = Value::Null;
    let rows = [
        (bare("Succeeded"), None),
        (pod(json!({"phase": "Running", "conditions": [ready]})), None),
        (
            unscheduled(
                "Unschedulable",
                "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found.",
            ),
            Some("no node fits: Insufficient cpu"),
        ),
        (
            unscheduled(
                "Unschedulable",
                "0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint {a, b: c}.",
            ),
            Some("no node of 3 fits: Insufficient memory (1), node(s) had untolerated taint {a, b: c} (2)"),
        ),
        (
            unscheduled("Unschedulable", "persistentvolumeclaim \"x\" not found"),
            Some("persistentvolumeclaim \"x\" not found"),
        ),
        (unscheduled("SchedulingGated", "Scheduling is blocked"), Some("held back by a scheduling gate")),
        (
            waiting("ErrImagePull", "manifest unknown\ntry later"),
            Some("container manager: ErrImagePull, cannot pull ghcr.io/a/b:1: manifest unknown"),
        ),
        (
            waiting("ImagePullBackOff", "Back-off pulling image \"ghcr.io/a/b:1\""),
            Some("container manager: ImagePullBackOff, cannot pull ghcr.io/a/b:1"),
        ),
        (
            waiting("ImagePullBackOff", "Back-off pulling image \"ghcr.io/a/b:1\": ErrImagePull: not found"),
            Some("container manager: ImagePullBackOff, cannot pull ghcr.io/a/b:1: ErrImagePull: not found"),
        ),
        (
            waiting(
                "ImagePullBackOff",
                "Back-off pulling image \"ghcr.io/a/b:1\": ErrImagePull: failed to pull and unpack image \
                 \"ghcr.io/a/b:1\": failed to resolve reference \"ghcr.io/a/b:1\": failed to do request: Head \
                 \"https://ghcr.io/v2/a/b/manifests/1\": dial tcp: lookup ghcr.io on 10.96.0.10:53: no such host",
            ),
            Some(
                "container manager: ImagePullBackOff, cannot pull ghcr.io/a/b:1: dial tcp: lookup ghcr.io on \
                 10.96.0.10:53: no such host",
            ),
        ),
        (
            waiting(
                "ErrImagePull",
                "failed to pull and unpack image \"ghcr.io/a/b:1\": failed to resolve reference \"ghcr.io/a/b:1\": \
                 ghcr.io/a/b:1: not found",
            ),
            Some("container manager: ErrImagePull, cannot pull ghcr.io/a/b:1: not found"),
        ),
        (
            waiting("CrashLoopBackOff", "back-off 40s"),
            Some("container manager: CrashLoopBackOff, exited with 2 (Error): no config, 4 restarts"),
        ),
        (
            waiting("CreateContainerConfigError", "secret \"s\" not found"),
            Some("container manager: CreateContainerConfigError: secret \"s\" not found"),
        ),
        (waiting("ContainerCreating", ""), Some("container manager: being created")),
        (running("manager"), Some("container manager: readiness probe not yet passed")),
        (starting, Some("container slow: startup probe not yet passed")),
        (running("plain"), Some("container plain: running, not yet ready")),
        (pod(init), Some("init container copy: still running")),
        (pod(init_fails), Some("init container copy: killed: OOMKilled")),
        (pod(json!({"phase": "Running", "conditions": [gated]})), Some("gate g")),
        (bare("Pending"), Some("scheduled to one, not yet started")),
        (unplaced, Some("not yet scheduled")),
        (
            pod(json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"})),
            Some("Evicted: The node was low on memory"),
        ),
        (
            pod(json!({"phase": "Failed", "containerStatuses": [{"name": "manager",
                "state": {"terminated": {"exitCode": 3}}}]})),
            Some("container manager exited with 3"),
        ),
    ];
    for (pod, reason) in rows {
        assert_eq!(pod_reason(&pod).as_deref(), reason, "{}", pod["status"]);
    }
}
