use super::*;
use trainerd_pipeline::{RuntimeError, RuntimeKind, needs_runtime, runtime_admission, validate};

fn errors(runtime: &Value, old: Option<&Value>, new: &Value, compatibility: Compatibility) -> Vec<String> {
    validate(Ok(runtime), old, new, &facts(compatibility)).errors
}

#[test]
fn every_rule_has_its_text() {
    let torch = runtime(json!({ "torch": {} }), vec![node()]);
    let reference = r#"{"name":"r","apiGroup":"trainer.kubeflow.org","kind":"ClusterTrainingRuntime"}"#;
    for (runtime, spec, expected) in [
        (&torch, json!({ "trainer": { "numNodes": 2 } }), vec![]),
        (
            &torch,
            json!({ "trainer": { "env": [{ "name": "PET_NNODES", "value": "1" }, { "name": "PET_MASTER_ADDR" }] } }),
            vec![r#"spec.trainer.env: Invalid value: [{"name":"PET_NNODES","value":"1"},{"name":"PET_MASTER_ADDR"}]: must not have reserved envs, invalid envs configured: [PET_MASTER_ADDR PET_NNODES]"#.to_owned()],
        ),
        (
            &torch,
            json!({ "initializer": { "dataset": {}, "model": {} } }),
            vec![
                format!("spec.runtimeRef: Invalid value: {reference}: must have dataset-initializer job when trainJob is configured with input datasetConfig"),
                format!("spec.runtimeRef: Invalid value: {reference}: must have model-initializer job when trainJob is configured with input modelConfig"),
            ],
        ),
        (
            &runtime(json!({ "xgboost": {} }), vec![node()]),
            json!({ "trainer": { "env": [{ "name": "A" }, { "name": "DMLC_TASK_ID" }] } }),
            vec!["spec.trainer.env[1]: Forbidden: DMLC_TASK_ID is reserved for the XGBoost runtime".to_owned()],
        ),
        (
            &runtime(json!({ "flux": {} }), vec![node()]),
            json!({ "trainer": { "numProcPerNode": 0 } }),
            vec!["spec.trainer.numProcPerNode: Invalid value: 0: must be greater than or equal to 1 for Flux TrainJob".to_owned()],
        ),
        (
            &runtime(json!({ "flux": { "numProcPerNode": 0 } }), vec![node()]),
            json!({ "trainer": { "numProcPerNode": 1 } }),
            vec![],
        ),
        (
            &runtime(json!({ "mpi": { "runLauncherAsNode": true } }), vec![node()]),
            json!({ "trainer": { "numNodes": 2 } }),
            vec!["spec.trainer.numNodes: Invalid value: 2: must have 1 when MPI trainingRuntime with enabled runLauncherAsNode does not have either launcher and node".to_owned()],
        ),
    ] {
        for compatibility in [Compatibility::Upstream, Compatibility::Extended] {
            assert_eq!(errors(runtime, None, &train_job(spec.clone()), compatibility), expected, "{spec}");
        }
    }
}

#[test]
fn patches_of_unknown_targets_are_rejected_in_native_mode() {
    let runtime = runtime(json!({ "torch": {} }), vec![node()]);
    let patch = |job: Value| json!({ "runtimePatches": [{ "manager": "a.b/c", "trainingRuntimeSpec": { "template": { "spec": { "replicatedJobs": [job] } } } }] });
    let inside = |spec: Value| {
        patch(json!({ "name": "node", "template": { "spec": { "template": { "spec": spec } } } }))
    };
    for (spec, expected) in [
        (
            patch(json!({ "name": "no" })),
            "must not have replicated job that doesn't exist in the runtime job template",
        ),
        (
            inside(json!({ "containers": [{ "name": "no" }] })),
            "must not have container that doesn't exist in the runtime job node",
        ),
        (
            inside(json!({ "initContainers": [{ "name": "no" }] })),
            "must not have initContainer that doesn't exist in the runtime job node",
        ),
    ] {
        assert_eq!(
            errors(&runtime, None, &train_job(spec.clone()), Compatibility::Upstream),
            Vec::<String>::new()
        );
        let ours = errors(&runtime, None, &train_job(spec), Compatibility::Extended);
        assert!(
            ours.len() == 1
                && ours[0].starts_with("spec.runtimePatches: Invalid value: [{\"manager\"")
                && ours[0].ends_with(expected),
            "{ours:?}"
        );
    }
    let reserved = errors(
        &runtime,
        None,
        &train_job(inside(json!({ "containers": [{ "name": "node", "env": [{ "name": "A" }] }] }))),
        Compatibility::Upstream,
    );
    assert!(
        reserved[0]
            .ends_with("must not have envs for the dataset-initializer, model-initializer, node containers"),
        "{reserved:?}"
    );
}

#[test]
fn patches_change_only_while_suspended() {
    let runtime = runtime(json!({ "torch": {} }), vec![node()]);
    let job = |suspend: bool, label: &str| {
        let patch = json!({ "manager": "a.b/c", "trainingRuntimeSpec": { "template": { "metadata": { "labels": { "l": label } } } } });
        train_job(json!({ "suspend": suspend, "runtimePatches": [patch] }))
    };
    let active = json!({ "status": { "replicatedJobsStatus": [{ "name": "node", "active": 1 }] } });
    let running = "spec.runtimePatches: Forbidden: RuntimePatches can only be modified when the TrainJob is suspended before or after the update";
    let left = "spec.runtimePatches: Forbidden: RuntimePatches cannot be modified when the JobSet's ReplicatedJob node is still active";
    for (before, after, live, expected) in [
        (job(false, "1"), job(false, "1"), None, vec![]),
        (job(false, "1"), job(false, "2"), None, vec![running]),
        (job(true, "1"), job(false, "2"), None, vec![]),
        (job(false, "1"), job(true, "2"), Some(&active), vec![left]),
    ] {
        let facts = Facts { job_set: live, ..facts(Compatibility::Upstream) };
        assert_eq!(validate(Ok(&runtime), Some(&before), &after, &facts).errors, expected);
    }
}

#[test]
fn suspending_needs_no_runtime_in_native_mode() {
    let (before, after) = (train_job(json!({ "suspend": false })), train_job(json!({ "suspend": true })));
    let other = train_job(json!({ "suspend": true, "trainer": {} }));
    assert!(needs_runtime(Compatibility::Upstream, Some(&before), &after));
    assert!(!needs_runtime(Compatibility::Extended, Some(&before), &after));
    assert!(
        needs_runtime(Compatibility::Extended, Some(&before), &other)
            && needs_runtime(Compatibility::Extended, None, &after)
    );
    let gone = RuntimeError::Live { kind: RuntimeKind::Cluster, answer: "gone".to_owned() };
    let verdict = validate(Err(&gone), Some(&before), &after, &facts(Compatibility::Upstream));
    let expected = r#"spec.RuntimeRef: Invalid value: {"name":"r","apiGroup":"trainer.kubeflow.org","kind":"ClusterTrainingRuntime"}: gone: specified clusterTrainingRuntime must be created before the TrainJob is created"#;
    assert_eq!(verdict.message().as_deref(), Some(expected));
    assert_eq!(validate(Err(&gone), Some(&before), &after, &facts(Compatibility::Extended)).message(), None);
}

#[test]
fn updates_of_namespaced_runtimes_are_validated_in_native_mode() {
    let mut bad = runtime(Value::Null, vec![job("node", Some("trainer"), json!({ "name": "x" }))]);
    bad["metadata"]["labels"] = json!({ "trainer.kubeflow.org/support": "deprecated" });
    let count = |runtime: &Value, update, compatibility| {
        let verdict = runtime_admission::validate(runtime, update, compatibility);
        (verdict.warnings.len(), verdict.errors.len())
    };
    assert_eq!(count(&bad, false, Compatibility::Upstream), (1, 1));
    assert_eq!(count(&bad, true, Compatibility::Upstream), (0, 1));
    bad["kind"] = json!("TrainingRuntime");
    assert_eq!(count(&bad, false, Compatibility::Upstream), (0, 1));
    assert_eq!(count(&bad, true, Compatibility::Upstream), (0, 0));
    assert_eq!(count(&bad, true, Compatibility::Extended), (0, 1));
}

#[test]
fn volcano_asks_for_priority_classes() {
    let mut template = node();
    template["template"]["spec"]["template"]["spec"]["priorityClassName"] = json!("p");
    let mut runtime = runtime(json!({ "torch": {} }), vec![template]);
    runtime["spec"]["podGroupPolicy"] = json!({ "volcano": {} });
    let job = train_job(json!({}));
    assert_eq!(trainerd_pipeline::priority_classes(&runtime, &job), ["p"]);
    for (lookup, compatibility, expected) in [
        (None, Compatibility::Extended, (0, 1)),
        (Some(Lookup::Found), Compatibility::Extended, (0, 0)),
        (Some(Lookup::Forbidden), Compatibility::Extended, (1, 0)),
        (Some(Lookup::Forbidden), Compatibility::Upstream, (0, 1)),
    ] {
        let classes: BTreeMap<_, _> = lookup.into_iter().map(|lookup| ("p".to_owned(), lookup)).collect();
        let verdict =
            validate(Ok(&runtime), None, &job, &Facts { priority_classes: &classes, ..facts(compatibility) });
        assert_eq!((verdict.warnings.len(), verdict.errors.len()), expected);
    }
}
