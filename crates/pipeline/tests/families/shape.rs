use proptest::prelude::*;

use super::*;

/// What quota and scheduling depend on.
fn shape(job_set: &Value) -> Value {
    let jobs = job_set["spec"]["replicatedJobs"].as_array().unwrap().iter().map(|job| {
        let (template, pod) = (&job["template"]["spec"], &job["template"]["spec"]["template"]);
        let resources = |list: &str| -> Vec<Value> {
            pod["spec"][list].as_array().into_iter().flatten().map(|one| one["resources"].clone()).collect()
        };
        let keep: Map<String, Value> = [
            "nodeSelector",
            "affinity",
            "tolerations",
            "schedulingGates",
            "overhead",
            "runtimeClassName",
            "priorityClassName",
        ]
        .iter()
        .map(|key| ((*key).to_owned(), pod["spec"][*key].clone()))
        .collect();
        json!([
            job["name"],
            job["replicas"],
            template["parallelism"],
            template["completions"],
            pod["metadata"],
            resources("containers"),
            keep
        ])
    });
    json!([jobs.collect::<Vec<_>>(), job_set["spec"]["suspend"]])
}

fn any_policy() -> impl Strategy<Value = Value> {
    let framework = prop::sample::select(vec!["torch", "mpi", "jax", "xgboost", "flux", ""]);
    (framework, prop::option::of(0..4_i32)).prop_map(|(framework, nodes)| {
        let mut policy = json!({});
        if !framework.is_empty() {
            policy[framework] = json!({});
        }
        if let Some(nodes) = nodes {
            policy["numNodes"] = nodes.into();
        }
        policy
    })
}

fn any_spec() -> impl Strategy<Value = Value> {
    let trainer = prop::option::of((prop::option::of(0..4_i32), prop::option::of(1..4_i32), any::<bool>()));
    (trainer, any::<bool>(), any::<bool>()).prop_map(|(trainer, suspend, patched)| {
        let mut spec = json!({ "suspend": suspend });
        if let Some((nodes, processes, resources)) = trainer {
            spec["trainer"] = json!({ "env": [{ "name": "A", "valueFrom": { "fileKeyRef": { "key": "k", "path": "p", "volumeName": "v" } } }] });
            if let Some(nodes) = nodes {
                spec["trainer"]["numNodes"] = nodes.into();
            }
            if let Some(processes) = processes {
                spec["trainer"]["numProcPerNode"] = processes.into();
            }
            if resources {
                spec["trainer"]["resourcesPerNode"] = json!({ "requests": { "cpu": "3", "x.gpu": 2 } });
            }
        }
        if patched {
            let job = json!({ "name": "node", "template": { "spec": { "template": { "spec": { "nodeSelector": { "a": "b" } } } } } });
            spec["runtimePatches"] = json!([{ "manager": "a/b", "trainingRuntimeSpec": { "template": { "spec": { "replicatedJobs": [job] } } } }]);
        }
        spec
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn native_mode_does_not_change_the_objects(policy in any_policy(), spec in any_spec(), gang in any::<bool>()) {
        let mut runtime = runtime(policy, vec![job("launcher", None, json!({ "name": "node" })), node()]);
        if gang {
            runtime["spec"]["podGroupPolicy"] = json!({ "coscheduling": {}, "volcano": {} });
        }
        let job = train_job(spec);
        let ours = built(&runtime, &job, Compatibility::Extended).unwrap();
        prop_assert_eq!(&ours, &built(&runtime, &job, Compatibility::Extended).unwrap(), "the same arguments give the same objects");
        // Flux without sizes builds only in our compatibility.
        if let Ok(theirs) = built(&runtime, &job, Compatibility::Upstream) {
            prop_assert_eq!(shape(ours.last().unwrap()), shape(theirs.last().unwrap()));
        }
    }
}
