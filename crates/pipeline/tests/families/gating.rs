use super::*;
use trainerd_pipeline::RuntimeKind;
use trainerd_pipeline::snapshot;

fn kinds(runtime: &Value, train_job: &Value, facts: &Facts<'_>) -> Vec<String> {
    let objects = build(runtime, train_job, facts).unwrap();
    objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_running_job_set_is_left_alone() {
    let runtime = runtime(json!({ "torch": {} }), vec![node()]);
    for (live, suspended, applied) in [
        (None, false, true),
        (Some(false), false, false),
        (Some(true), false, true),
        (Some(false), true, true),
    ] {
        let live = live.map(|suspend| json!({ "spec": { "suspend": suspend } }));
        let facts = Facts { job_set: live.as_ref(), ..facts(Compatibility::Upstream) };
        let job = train_job(json!({ "suspend": suspended }));
        assert_eq!(kinds(&runtime, &job, &facts).len(), usize::from(applied), "{live:?} {suspended}");
    }
}

#[test]
fn pod_groups_count_every_pod_and_only_requests() {
    let mut runtime = runtime(
        json!({ "torch": {}, "numNodes": 2 }),
        vec![
            job(
                "dataset-initializer",
                Some("dataset-initializer"),
                json!({ "name": "dataset-initializer", "resources": { "requests": { "memory": "1Gi" } } }),
            ),
            job(
                "node",
                Some("trainer"),
                json!({ "name": "node", "resources": { "requests": { "cpu": "500m" }, "limits": { "memory": "9Gi" } } }),
            ),
        ],
    );
    runtime["spec"]["podGroupPolicy"] =
        json!({ "coscheduling": {}, "volcano": { "networkTopology": { "mode": "soft" } } });
    runtime["spec"]["template"]["metadata"]["annotations"] =
        json!({ "scheduling.volcano.sh/queue-name": "q" });
    let job = train_job(json!({ "trainer": {} }));
    let objects = built(&runtime, &job, Compatibility::Upstream).unwrap();
    let total = json!({ "cpu": "1", "memory": "1Gi" });
    assert_eq!(
        objects[0]["spec"],
        json!({ "minMember": 3, "minResources": total, "scheduleTimeoutSeconds": 60 })
    );
    assert_eq!(
        objects[1]["spec"],
        json!({ "minMember": 3, "minResources": total, "queue": "q", "networkTopology": { "mode": "soft", "highestTierAllowed": 1 } })
    );
    let metadata = &objects[2]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["metadata"];
    assert_eq!(metadata["labels"], json!({ "scheduling.x-k8s.io/pod-group": "a" }));
    assert_eq!(metadata["annotations"], json!({ "scheduling.k8s.io/group-name": "a" }));
    let there =
        Facts { coscheduling_pod_group: true, volcano_pod_group: true, ..facts(Compatibility::Upstream) };
    assert_eq!(kinds(&runtime, &job, &there), ["JobSet"]);
}

#[test]
fn patches_merge_by_their_keys_and_keep_the_order_of_jobs() {
    let runtime =
        runtime(json!({ "torch": {} }), vec![job("x", None, json!({ "name": "x", "image": "i" })), node()]);
    let patch = |manager: &str, spec: Value| {
        let job = json!({ "name": "node", "template": { "metadata": { "labels": { "m": manager } }, "spec": { "template": { "spec": spec } } } });
        json!({ "manager": manager, "trainingRuntimeSpec": { "template": { "metadata": { "labels": { "l": manager } }, "spec": { "replicatedJobs": [job] } } } })
    };
    let patches = json!([
        patch(
            "a/1",
            json!({ "nodeSelector": { "a": "1", "b": "1" }, "tolerations": [{ "key": "a" }], "schedulingGates": [{ "name": "g" }] })
        ),
        patch(
            "a/2",
            json!({ "nodeSelector": { "b": "2" }, "tolerations": [{ "key": "b" }], "schedulingGates": [{ "name": "h" }] })
        ),
    ]);
    let set = job_set(&runtime, &train_job(json!({ "runtimePatches": patches })), Compatibility::Upstream);
    assert_eq!(set["metadata"]["labels"], json!({ "l": "a/2" }));
    let jobs = set["spec"]["replicatedJobs"].as_array().unwrap();
    assert_eq!((&jobs[0]["name"], &jobs[1]["name"]), (&json!("x"), &json!("node")));
    let spec = &jobs[1]["template"]["spec"]["template"]["spec"];
    assert_eq!(spec["nodeSelector"], json!({ "a": "1", "b": "2" }));
    assert_eq!(spec["tolerations"], json!([{ "key": "b" }]));
    assert_eq!(spec["schedulingGates"], json!([{ "name": "h" }, { "name": "g" }]));
}

#[test]
fn progress_reporting_depends_on_the_feature_gate() {
    let runtime = runtime(json!({ "torch": {} }), vec![node()]);
    let on = Facts { train_job_status: true, ..facts(Compatibility::Upstream) };
    let objects = build(&runtime, &train_job(json!({ "trainer": {} })), &on).unwrap();
    assert_eq!(
        (&objects[0]["metadata"]["name"], &objects[0]["data"]["ca.crt"]),
        (&json!("a-tls-config"), &json!("CA"))
    );
    let expected = "KUBEFLOW_TRAINER_SERVER_URL=https://kubeflow-trainer-controller-manager.kubeflow-system.svc:10443/apis/trainer.kubeflow.org/v1alpha1/namespaces/n/trainjobs/a/status";
    assert!(env(container(&objects[1])).contains(&expected.to_owned()));
    for (facts, error) in [
        (Facts { status_port: None, ..on.clone() }, "missing status server port"),
        (
            Facts { certificate_authority: Err("secrets \"s\" not found"), ..on.clone() },
            "failed to look up status server tls secret: secrets \"s\" not found",
        ),
        (
            Facts { certificate_authority: Ok(""), ..on.clone() },
            "failed to find status server ca.crt in tls secret",
        ),
    ] {
        assert_eq!(build(&runtime, &train_job(json!({})), &facts).unwrap_err().to_string(), error);
    }
}

#[test]
fn a_snapshot_builds_the_same_objects() {
    let mut runtime = runtime(json!({ "torch": {}, "numNodes": 2 }), vec![node()]);
    runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
        [0]["env"] = json!([{ "name": "ON", "value": "yes" }, { "name": "N", "value": "1e3" }]);
    let job = train_job(json!({ "trainer": {} }));
    let taken = snapshot::config_map(&runtime, RuntimeKind::Cluster, &job, None);
    let frozen = snapshot::runtime(&taken, &job).unwrap();
    for compatibility in [Compatibility::Upstream, Compatibility::Extended] {
        assert_eq!(built(&frozen, &job, compatibility), built(&runtime, &job, compatibility));
    }
}
