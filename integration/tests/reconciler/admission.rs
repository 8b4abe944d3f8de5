//! What is admitted: by the schema and its CEL rules, which refuse with 422, and by the webhooks, which refuse with 403.

use serde_json::{Value, json};
use trainerd_cluster::{CreateParams, RequestError};
use trainerd_integration::reconciler::Start;
use trainerd_integration::stack::{runtime, train_job, training_runtime};
use trainerd_plan::object::Resource;

use crate::objects::{a_job, a_runtime};
use crate::world::{NS, Result, World};

/// The outcome of a request.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Admitted,
    /// By a webhook, 403; with this in its words.
    Denied(&'static str),
    /// By the API server, 422; with this in its words.
    Invalid(&'static str),
}
use Verdict::{Admitted, Denied, Invalid};

fn judge<T>(what: &str, answer: std::result::Result<T, RequestError>, expected: Verdict) -> Result {
    match (answer, expected) {
        (Ok(_), Admitted) => Ok(()),
        (Err(RequestError::AdmissionDenied { code: 403, message, .. }), Denied(text))
        | (Err(RequestError::Invalid { message, .. }), Invalid(text)) => {
            if message.contains(text) {
                Ok(())
            } else {
                Err(format!("{what}: {message}, and not {text}").into())
            }
        }
        (Ok(_), expected) => Err(format!("{what} was admitted, and not {expected:?}").into()),
        (Err(error), expected) => Err(format!("{what} is not {expected:?}: {error:?}").into()),
    }
}

impl World {
    fn asks(&self, what: &str, resource: &Resource, object: &Value, expected: Verdict) -> Result {
        let params = CreateParams { dry_run: true, ..CreateParams::default() };
        judge(what, self.cluster.block_on(self.cluster.api().create(resource, object, params)), expected)
    }

    /// A create of a TrainJob of that name.
    fn asks_for(&self, name: &str, spec: &Value, expected: Verdict) -> Result {
        let what: String = format!("{name} {spec}").chars().take(300).collect();
        self.asks(&what, &train_job(), &a_job(name, spec.clone()), expected)
    }

    /// An update of a TrainJob.
    fn changes(&self, name: &str, patch: &Value, expected: Verdict) -> Result {
        judge(&format!("{name} {patch}"), self.patch(name, patch), expected)
    }
}

/// A runtime of a framework that has initializers of these kinds.
fn with_initializers(name: &str, kinds: &[&str]) -> Value {
    let mut all = a_runtime(name, &json!({"numNodes": 1, "torch": {}}));
    let jobs = &mut all["spec"]["template"]["spec"]["replicatedJobs"];
    let initializer = |kind: &&str| {
        let container = json!({"name": kind, "image": "example.com/init:v1", "volumeMounts": [{"name": "initializer", "mountPath": "/workspace"}]});
        json!({
            "name": kind,
            "template": {
                "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": kind}},
                "spec": {"template": {"spec": {"containers": [container], "volumes": [{"name": "initializer", "emptyDir": {}}]}}},
            },
        })
    };
    let all_jobs: Vec<Value> = kinds.iter().map(initializer).chain([jobs[0].clone()]).collect();
    *jobs = json!(all_jobs);
    all
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn train_job_admission_equals_upstream() -> Result {
    let world = World::new(&Start::default())?;
    let make = |object: &Value| world.cluster.create(&runtime(), object);
    make(&a_runtime("torch", &json!({"numNodes": 1, "torch": {}})))?;
    make(&a_runtime("mpi", &json!({"numNodes": 1, "mpi": {"runLauncherAsNode": true}})))?;
    make(&a_runtime("xgboost", &json!({"numNodes": 1, "xgboost": {}})))?;
    make(&a_runtime("torchtune-llama3.2-1b", &json!({"numNodes": 1, "torch": {}})))?;
    make(&with_initializers("both", &["dataset-initializer", "model-initializer"]))?;
    let mut flux = a_runtime("flux", &json!({"numNodes": 1, "flux": {}}));
    flux["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["initContainers"] =
        json!([{"name": "flux-installer", "image": "example.com/x:v1"}]);
    make(&flux)?;
    let of = |name: &str, more: Value| {
        let mut spec = more;
        spec["runtimeRef"] = json!({"name": name});
        spec
    };
    let env = |name: &str| json!({"trainer": {"env": [{"name": name, "value": "1"}]}});
    let long = |length: usize| "a".repeat(length);
    let uri = |uri: &str| json!({"runtimeRef": {"name": "both"}, "initializer": {"dataset": {"storageUri": uri}, "model": {"storageUri": uri}}});
    let patch = |manager: &str, spec: Value| {
        let job = json!({"name": "node", "template": {"spec": {"template": {"spec": spec}}}});
        json!({"runtimePatches": [{"manager": manager, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}]})
    };
    let reserved = "must not have reserved envs, invalid envs configured: ";
    let name_rule = "metadata.name must match RFC 1035 DNS label format";
    let uri_rule = "storageUri may be empty, or it must be a valid URI (scheme://...)";
    let owner_rule =
        "ManagedBy must be trainer.kubeflow.org/trainjob-controller or kueue.x-k8s.io/multikueue if set";
    let cases: Vec<(&str, Value, Verdict)> = vec![
        ("here", json!({}), Admitted),
        (
            "absent",
            json!({"runtimeRef": {"name": "gone"}}),
            Denied("specified clusterTrainingRuntime must be created before"),
        ),
        (
            "absent-too",
            json!({"runtimeRef": {"name": "gone", "kind": "TrainingRuntime"}}),
            Denied("specified trainingRuntime must be created before"),
        ),
        (
            "unknown",
            json!({"runtimeRef": {"name": "plain", "kind": "Pod"}}),
            Denied("unsupported runtime: Pod.trainer.kubeflow.org"),
        ),
        (
            "foreign",
            json!({"runtimeRef": {"name": "plain", "apiGroup": "acme.io"}}),
            Denied("unsupported runtime: ClusterTrainingRuntime.acme.io"),
        ),
        ("nameless", json!({"runtimeRef": {"name": ""}}), Invalid("spec.runtimeRef.name")),
        ("nodes", json!({"trainer": {"numNodes": 0}}), Admitted),
        ("procs", json!({"trainer": {"numProcPerNode": 1}}), Admitted),
        ("mpi", of("mpi", json!({"trainer": {"numNodes": 1}})), Admitted),
        (
            "mpi",
            of("mpi", json!({"trainer": {"numNodes": 2}})),
            Denied(
                "must have 1 when MPI trainingRuntime with enabled runLauncherAsNode does not have either launcher and node",
            ),
        ),
        (
            "dataset",
            json!({"initializer": {"dataset": {}}}),
            Denied("must have dataset-initializer job when trainJob is configured with input datasetConfig"),
        ),
        (
            "model",
            json!({"initializer": {"model": {}}}),
            Denied("must have model-initializer job when trainJob is configured with input modelConfig"),
        ),
        (
            "neither",
            json!({"initializer": {"dataset": {}, "model": {}}}),
            Denied("datasetConfig, spec.runtimeRef: Invalid value"),
        ),
        ("both", of("both", json!({"initializer": {"dataset": {}, "model": {}}})), Admitted),
        ("uri", uri(""), Admitted),
        ("uri", uri("hf://owner/name"), Admitted),
        ("uri", uri("s3+a.b-c://x"), Admitted),
        ("uri", uri("no-scheme"), Invalid(uri_rule)),
        ("uri", uri("1s://x"), Invalid(uri_rule)),
        ("uri", uri("hf://"), Invalid(uri_rule)),
        ("env", of("torch", env("PET_NNODES")), Denied("invalid envs configured: [PET_NNODES]")),
        ("env", of("torch", env("PET_NODE_RANK")), Denied(reserved)),
        ("env", of("torch", env("PET_OTHER")), Admitted),
        ("env", of("mpi", env("OMPI_MCA_orte_keep_fqdn_hostnames")), Denied(reserved)),
        (
            "env",
            of("xgboost", env("DMLC_TASK_ID")),
            Denied("spec.trainer.env[0]: Forbidden: DMLC_TASK_ID is reserved for the XGBoost runtime"),
        ),
        ("env", env("PET_NNODES"), Admitted),
        (
            "env-twice",
            json!({"trainer": {"env": [{"name": "A"}, {"name": "A"}]}}),
            Invalid("Duplicate value"),
        ),
        ("flux", of("flux", json!({})), Denied("InitContainer 'flux-installer' is reserved")),
        (
            "tune",
            of("torchtune-llama3.2-1b", json!({"trainer": {"command": ["tune", "run"], "numNodes": 2}})),
            Denied("must be 1 for llama3_2/1B model"),
        ),
        (
            "tune",
            of("torch", json!({"trainer": {"command": ["tune", "run"]}})),
            Denied("must have a supported pretrained model"),
        ),
        ("command", json!({"trainer": {"command": [long(1000)], "args": [long(1000)]}}), Admitted),
        ("command", json!({"trainer": {"command": vec!["a"; 128], "args": vec!["a"; 128]}}), Admitted),
        ("command", json!({"trainer": {"command": vec!["a"; 129]}}), Invalid("spec.trainer.command")),
        ("args", json!({"trainer": {"args": vec!["a"; 129]}}), Invalid("spec.trainer.args")),
        ("args", json!({"trainer": {"args": [long(1_048_577)]}}), Invalid("spec.trainer.args")),
        ("image", json!({"trainer": {"image": long(501)}}), Invalid("spec.trainer.image")),
        ("a", json!({}), Admitted),
        ("a-1", json!({}), Admitted),
        ("1-digit", json!({}), Invalid(name_rule)),
        ("a.b", json!({}), Invalid(name_rule)),
        ("ends-", json!({}), Invalid("metadata.name")),
        ("Upper", json!({}), Invalid("metadata.name")),
        ("owner", json!({"managedBy": "trainer.kubeflow.org/trainjob-controller"}), Admitted),
        ("owner", json!({"managedBy": "kueue.x-k8s.io/multikueue"}), Admitted),
        ("owner", json!({"managedBy": "acme.io/other"}), Invalid(owner_rule)),
        ("deadline", json!({"activeDeadlineSeconds": 1}), Admitted),
        ("deadline", json!({"activeDeadlineSeconds": 0}), Invalid("spec.activeDeadlineSeconds")),
        ("manager", patch("acme.io/foo", json!({})), Admitted),
        (
            "manager",
            patch("foo", json!({})),
            Denied("spec.runtimePatches.manager: Invalid value: \"foo\": must be a domain-prefixed path"),
        ),
        ("manager", patch("Acme_io/foo", json!({})), Denied("spec.runtimePatches.manager")),
        (
            "manager",
            json!({"runtimePatches": [{"manager": "a.io/b"}, {"manager": "a.io/b"}]}),
            Invalid("Duplicate value"),
        ),
        ("manager", json!({"runtimePatches": [{"manager": ""}]}), Invalid("spec.runtimePatches[0].manager")),
        ("grace", patch("acme.io/foo", json!({"terminationGracePeriodSeconds": 0})), Admitted),
        (
            "grace",
            patch("acme.io/foo", json!({"terminationGracePeriodSeconds": -1})),
            Invalid("terminationGracePeriodSeconds"),
        ),
        (
            "patch-env",
            patch("acme.io/foo", json!({"containers": [{"name": "node", "env": [{"name": "A"}]}]})),
            Denied("must not have envs for the dataset-initializer, model-initializer, node containers"),
        ),
        (
            "patch-container",
            patch("acme.io/foo", json!({"containers": [{"name": "gone"}]})),
            Denied("must not have container that doesn't exist in the runtime job node"),
        ),
        (
            "patch-init",
            patch("acme.io/foo", json!({"initContainers": [{"name": "gone"}]})),
            Denied("must not have initContainer that doesn't exist in the runtime job node"),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, spec, expected) in &cases {
        wrong.extend(world.asks_for(name, spec, *expected).err());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (length, expected) in
        [(63, Admitted), (64, Invalid("metadata.name must be no more than 63 characters"))]
    {
        world.asks_for(&long(length), &json!({}), expected)?;
    }
    let unknown = json!([{"manager": "acme.io/foo", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [{"name": "gone"}]}}}}]);
    let gone = Denied("must not have replicated job that doesn't exist in the runtime job template");
    world.asks_for("patch-job", &json!({"runtimePatches": unknown}), gone)?;
    println!("{} creates of TrainJobs were judged as expected", cases.len() + 3);
    Ok(())
}

#[test]
fn train_jobs_are_defaulted_and_immutable_fields_enforced() -> Result {
    let world = World::new(&Start::default())?;
    let manager = json!([{"manager": "acme.io/foo"}]);
    let job =
        world.create("free", json!({"runtimePatches": manager, "trainer": {"image": "example.com/a:v1"}}))?;
    let spec = &job["spec"];
    assert_eq!(
        [&spec["managedBy"], &spec["suspend"], &spec["runtimeRef"]["kind"], &spec["runtimeRef"]["apiGroup"]],
        [
            &json!("trainer.kubeflow.org/trainjob-controller"),
            &json!(false),
            &json!("ClusterTrainingRuntime"),
            &json!("trainer.kubeflow.org"),
        ]
    );
    let time = spec["runtimePatches"][0]["time"].as_str().ok_or("no time")?.to_owned();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.len() == 20, "{time}");
    // A time that somebody gave stays.
    let given = json!([{"manager": "acme.io/foo", "time": "2026-01-02T03:04:05Z"}]);
    let job = world.create("timed", json!({"runtimePatches": given, "suspend": true}))?;
    assert_eq!(job["spec"]["runtimePatches"][0]["time"], "2026-01-02T03:04:05Z");

    let immutable = Invalid("field is immutable");
    let running = Denied(
        "spec.runtimePatches: Forbidden: RuntimePatches can only be modified when the TrainJob is suspended before or after the update",
    );
    let changes: Vec<(Value, Verdict)> = vec![
        (json!({"trainer": {"image": "example.com/b:v1"}}), immutable),
        (json!({"trainer": {"numNodes": 7}}), immutable),
        (json!({"runtimeRef": {"name": "other"}}), immutable),
        (json!({"managedBy": "kueue.x-k8s.io/multikueue"}), immutable),
        (json!({"runtimePatches": [{"manager": "acme.io/other"}]}), running),
        (json!({"runtimePatches": []}), running),
        (json!({"suspend": true}), Admitted),
        // While it is suspended patches may change, and come.
        (json!({"runtimePatches": [{"manager": "acme.io/other"}]}), Admitted),
        (
            json!({"runtimePatches": [{"manager": "acme.io/other"}, {"manager": "acme.io/foo"}], "suspend": false}),
            Admitted,
        ),
    ];
    for (spec, expected) in &changes {
        world.changes("free", &json!({"spec": spec}), *expected)?;
    }
    for (spec, change) in [
        (json!({"activeDeadlineSeconds": 60}), json!({"activeDeadlineSeconds": 61})),
        (
            json!({"trainer": {"env": [{"name": "A", "value": "1"}]}}),
            json!({"trainer": {"env": [{"name": "A", "value": "2"}]}}),
        ),
    ] {
        let name = format!("fixed-{}", spec["activeDeadlineSeconds"].as_i64().unwrap_or_default());
        world.create(&name, spec)?;
        world.changes(&name, &json!({"spec": change}), immutable)?;
    }
    println!("{} updates of TrainJobs were judged as expected", changes.len() + 2);
    Ok(())
}

#[test]
fn runtime_admission_equals_upstream() -> Result {
    let world = World::new(&Start::default())?;
    let policies = [
        ("torch", json!({})),
        ("mpi", json!({})),
        ("jax", json!({})),
        ("xgboost", json!({})),
        ("flux", json!({})),
    ];
    let one = "Only one of the policy can be configured";
    let mut cases: Vec<(Value, Verdict)> = vec![(json!({"numNodes": 1}), Admitted)];
    for (at, (name, policy)) in policies.iter().enumerate() {
        cases.push((json!({"numNodes": 1, (*name): policy}), Admitted));
        for (other, second) in &policies[at + 1..] {
            cases.push((json!({(*name): policy, (*other): second}), Invalid(one)));
        }
    }
    cases.push((json!({"mpi": {"mpiImplementation": "MPICH"}}), Invalid("mpiImplementation")));
    cases
        .push((json!({"flux": {"numProcPerNode": 0}}), Invalid("NumProcPerNode in fluxPolicy must be >= 1")));
    let targets = json!([{"jobName": "node", "containerNames": ["node"]}]);
    cases.push((
        json!({"torch": {"envInjection": {"targets": targets}}}),
        Invalid("containerNames must not include the main node container"),
    ));
    let as_kinds = |name: &str, policy: &Value| {
        let wide = a_runtime(name, policy);
        let mut namespaced = wide.clone();
        namespaced["kind"] = json!("TrainingRuntime");
        namespaced["metadata"]["namespace"] = json!(NS);
        [(runtime(), wide), (training_runtime(), namespaced)]
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for (policy, expected) in &cases {
        for (resource, object) in as_kinds("asked", policy) {
            wrong.extend(
                world.asks(&format!("{} {policy}", resource.kind), &resource, &object, *expected).err(),
            );
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let replicas = "spec.template.spec.replicatedJobs[0].replicas: Invalid value: 2: always must be 1";
    let container = "must contain the required container for the ancestor: trainer";
    for (resource, object) in as_kinds("asked", &json!({"numNodes": 1})) {
        let mut two = object.clone();
        two["spec"]["template"]["spec"]["replicatedJobs"][0]["replicas"] = json!(2);
        world.asks("two replicas", &resource, &two, Denied(replicas))?;
        let mut other = object.clone();
        let job = &mut other["spec"]["template"]["spec"]["replicatedJobs"][0];
        job["template"]["spec"]["template"]["spec"]["containers"][0]["name"] = json!("other");
        world.asks("another container", &resource, &other, Denied(container))?;
        // What is refused at its creation is refused as a change, of both kinds.
        world.cluster.create(&resource, &object)?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let jobs = two["spec"]["template"]["spec"]["replicatedJobs"].clone();
        let patch = json!({"spec": {"template": {"spec": {"replicatedJobs": jobs}}}});
        let changed = world.cluster.patch(&resource, namespace, "asked", &patch);
        judge("two replicas by a change", changed, Denied(replicas))?;
        count += 3;
    }
    // What is defaulted.
    let mpi = a_runtime("defaults", &json!({"mpi": {}}));
    let stored = world.cluster.create(&runtime(), &mpi)?;
    assert_eq!(
        stored["spec"]["mlPolicy"]["mpi"],
        json!({"numProcPerNode": 1, "mpiImplementation": "OpenMPI", "sshAuthMountPath": "/root/.ssh", "runLauncherAsNode": false})
    );
    println!("{count} runtimes were judged as expected");
    Ok(())
}
