#![allow(clippy::needless_pass_by_value, reason = "values are written in place")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn train_job(spec: Value) -> Value {
    json!({"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "a"}, "spec": spec})
}

fn errors(object: &Value, old: Option<&Value>, part: Part) -> Vec<String> {
    store(object, old, part).unwrap().errors
}

const BLOCKED: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
                       correct the existing errors to complete validation";

#[test]
fn defaults_are_filled_in_and_unknown_fields_dropped() {
    let job = train_job(
        json!({"runtimeRef": {"name": "r", "x": 1}, "suspend": null, "trainer": {"y": {}}, "z": 2}),
    );
    let stored = store(&job, None, Part::Main).unwrap();
    assert_eq!(stored.errors, Vec::<String>::new());
    assert_eq!(stored.pruned, ["spec.runtimeRef.x", "spec.trainer.y", "spec.z"]);
    let expected = json!({
        "runtimeRef": {"name": "r", "kind": "ClusterTrainingRuntime", "apiGroup": "trainer.kubeflow.org"},
        "managedBy": "trainer.kubeflow.org/trainjob-controller", "suspend": false, "trainer": {},
    });
    assert_eq!(stored.object["spec"], expected);
}

#[test]
fn errors_are_those_of_the_api_server() {
    let with = |extra: Value| {
        let mut spec = json!({"runtimeRef": {"name": "r"}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        train_job(spec)
    };
    let env = json!([{"name": "A"}, {"name": "A"}]);
    for (object, expected) in [
        (train_job(json!({})), vec!["spec.runtimeRef: Required value", BLOCKED]),
        (
            with(json!({"trainer": {"numProcPerNode": "auto"}})),
            vec![
                "spec.trainer.numProcPerNode: Invalid value: \"string\": spec.trainer.numProcPerNode in body must be of type integer: \"string\"",
                BLOCKED,
            ],
        ),
        (
            with(json!({"trainer": {"numNodes": -1}})),
            vec![
                "spec.trainer.numNodes: Invalid value: -1: spec.trainer.numNodes in body should be greater than or equal to 0",
            ],
        ),
        (
            with(json!({"trainer": {"numProcPerNode": 0}})),
            vec![
                "spec.trainer.numProcPerNode: Invalid value: 0: numProcPerNode must be greater than or equal to 1",
            ],
        ),
        (
            with(json!({"trainer": {"env": env}})),
            vec!["spec.trainer.env[1]: Duplicate value: {\"name\":\"A\"}"],
        ),
        (
            with(json!({"managedBy": "me"})),
            vec![
                "spec.managedBy: Invalid value: \"me\": ManagedBy must be trainer.kubeflow.org/trainjob-controller or kueue.x-k8s.io/multikueue if set",
            ],
        ),
        (
            with(json!({"initializer": {"dataset": {"storageUri": "nothing"}}})),
            vec![
                "spec.initializer.dataset.storageUri: Invalid value: \"nothing\": storageUri may be empty, or it must be a valid URI (scheme://...)",
            ],
        ),
        (
            with(json!({"trainer": {"image": "i".repeat(501)}})),
            vec!["spec.trainer.image: Too long: may not be more than 500 bytes", BLOCKED],
        ),
    ] {
        assert_eq!(errors(&object, None, Part::Main), expected, "{object}");
    }
}

#[test]
fn transition_rules_need_an_old_value() {
    let old = train_job(json!({"runtimeRef": {"name": "r"}, "trainer": {"numNodes": 1}}));
    let changed = train_job(json!({"runtimeRef": {"name": "r"}, "trainer": {"numNodes": 2}}));
    let absent = train_job(json!({"runtimeRef": {"name": "r"}}));
    let renamed = train_job(json!({"runtimeRef": {"name": "s"}, "trainer": {"numNodes": 1}}));
    for (old, new, expected) in [
        (&old, &changed, vec!["spec.trainer: Invalid value: field is immutable"]),
        (&old, &absent, vec![]),
        (&absent, &old, vec![]),
        (&old, &renamed, vec!["spec.runtimeRef: Invalid value: field is immutable"]),
    ] {
        assert_eq!(errors(new, Some(old), Part::Main), expected, "{new}");
    }
}

#[test]
fn a_status_update_changes_only_the_status() {
    let old = train_job(json!({"runtimeRef": {"name": "r"}}));
    let mut new = train_job(json!({"runtimeRef": {"name": "ignored"}}));
    new["status"] =
        json!({"trainerStatus": {"progressPercentage": 101, "lastUpdatedTime": "2026-01-01T00:00:00Z"}});
    let expected = "status.trainerStatus.progressPercentage: Invalid value: 101: trainerStatus.progressPercentage in body should be less than or equal to 100";
    assert_eq!(errors(&new, Some(&old), Part::Status), [expected]);
    new["status"] = json!({"trainerStatus": {"progressPercentage": 1}});
    let expected =
        "status.trainerStatus: Invalid value: lastUpdatedTime is required when trainerStatus is present";
    assert_eq!(errors(&new, Some(&old), Part::Status), [expected]);
    new["status"]["trainerStatus"]["lastUpdatedTime"] = json!("2026-01-01T00:00:00Z");
    let stored = store(&new, Some(&old), Part::Status).unwrap();
    assert_eq!((stored.errors, &stored.object["spec"]["runtimeRef"]["name"]), (vec![], &json!("r")));
}

#[test]
fn only_one_policy_is_allowed() {
    let runtime = |policy: Value| json!({"kind": "TrainingRuntime", "metadata": {"name": "a"}, "spec": {"mlPolicy": policy, "template": {"spec": {"replicatedJobs": []}}}});
    assert_eq!(errors(&runtime(json!({"torch": {}})), None, Part::Main), Vec::<String>::new());
    let expected = ["spec.mlPolicy: Invalid value: Only one of the policy can be configured"];
    assert_eq!(errors(&runtime(json!({"torch": {}, "jax": {}})), None, Part::Main), expected);
    let expected =
        ["spec.mlPolicy.mpi.numProcPerNode: Invalid value: 0: NumProcPerNode in mpiPolicy must be >= 1"];
    assert_eq!(errors(&runtime(json!({"mpi": {"numProcPerNode": 0}})), None, Part::Main), expected);
}

#[test]
fn other_kinds_are_unknown() {
    assert_eq!(store(&json!({"kind": "Pod"}), None, Part::Main), Err(ApiError::UnknownKind("Pod".into())));
}

fn any_spec() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 32, 5, |inner| {
        let key = prop::sample::select(vec![
            "runtimeRef",
            "trainer",
            "initializer",
            "runtimePatches",
            "env",
            "name",
            "numNodes",
            "manager",
            "trainingRuntimeSpec",
            "template",
            "spec",
            "replicatedJobs",
            "containers",
            "metadata",
            "mlPolicy",
            "torch",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_object_is_handled(new in any_spec(), old in any_spec(), kind in prop::sample::select(vec!["TrainJob", "TrainingRuntime"])) {
        let object = |spec: Value| json!({"kind": kind, "metadata": {"name": "a"}, "spec": spec});
        let stored = store(&object(new), Some(&object(old)), Part::Main).unwrap();
        // What is stored is stored again as it is.
        let again = store(&stored.object, None, Part::Main).unwrap();
        prop_assert_eq!((again.object, again.pruned.len()), (stored.object, 0));
    }
}
