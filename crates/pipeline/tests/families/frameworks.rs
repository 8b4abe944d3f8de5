use super::*;

const BOTH: [Compatibility; 2] = [Compatibility::Upstream, Compatibility::Extended];

#[test]
fn plain_runtimes_take_nodes_and_variables() {
    for (policy, trainer, count) in [
        (Value::Null, json!({ "numNodes": 3 }), 3),
        (json!({ "numNodes": 2 }), json!({}), 2),
        (json!({ "numNodes": 2 }), json!({ "numNodes": 0 }), 0),
        (json!({}), Value::Null, 1),
    ] {
        for compatibility in BOTH {
            let mut spec = json!({});
            if !trainer.is_null() {
                spec["trainer"] = trainer.clone();
                spec["trainer"]["env"] = json!([{ "name": "A", "value": "2" }, { "name": "B" }]);
            }
            let template = job(
                "node",
                Some("trainer"),
                json!({ "name": "node", "env": [{ "name": "A", "value": "1" }] }),
            );
            let set = job_set(&runtime(policy.clone(), vec![template]), &train_job(spec), compatibility);
            assert_eq!(
                set["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"], count,
                "{policy} {trainer}"
            );
            let expected: &[&str] = if trainer.is_null() { &["A=1"] } else { &["A=2", "B="] };
            assert_eq!(env(container(&set)), expected);
        }
    }
}

#[test]
fn torch_sets_the_number_of_processes() {
    let gpu = |kind: &str| json!({ kind: { "nvidia.com/gpu": "2" } });
    for (runtime_resources, trainer, expected) in [
        (json!({}), json!({}), "1"),
        (json!({}), json!({ "numProcPerNode": 4 }), "4"),
        (gpu("requests"), json!({}), "auto"),
        (gpu("limits"), json!({}), "auto"),
        (json!({ "requests": { "cpu": "2500m" } }), json!({}), "3"),
        (json!({ "limits": { "cpu": "3" }, "requests": { "cpu": "0" } }), json!({}), "3"),
        // Resources of the TrainJob hide those of the runtime.
        (gpu("limits"), json!({ "resourcesPerNode": { "requests": { "cpu": "2" } } }), "2"),
    ] {
        for compatibility in BOTH {
            let template =
                job("node", Some("trainer"), json!({ "name": "node", "resources": runtime_resources }));
            let set = job_set(
                &runtime(json!({ "torch": {}, "numNodes": 2 }), vec![template]),
                &train_job(json!({ "trainer": trainer })),
                compatibility,
            );
            let expected = [
                "PET_NNODES=2",
                &format!("PET_NPROC_PER_NODE={expected}"),
                "PET_NODE_RANK",
                "PET_MASTER_ADDR=a-node-0-0.a",
                "PET_MASTER_PORT=29500",
            ];
            assert_eq!(env(container(&set)), expected, "{runtime_resources} {trainer}");
            assert_eq!(container(&set)["ports"], json!([{ "containerPort": 29500 }]));
        }
    }
}

#[test]
fn without_a_trainer_upstream_injects_nothing() {
    for (policy, variables) in [("torch", 5), ("jax", 3), ("xgboost", 4)] {
        let runtime = runtime(json!({ policy: {} }), vec![node()]);
        let count =
            |compatibility| env(container(&job_set(&runtime, &train_job(json!({})), compatibility))).len();
        assert_eq!(
            (count(Compatibility::Upstream), count(Compatibility::Extended)),
            (0, variables),
            "{policy}"
        );
    }
}

#[test]
fn injection_includes_sidecars_and_reports_missing_containers() {
    let mut template = node();
    template["template"]["spec"]["template"]["spec"]["initContainers"] = json!([{ "name": "check" }]);
    let policy = |name: &str| json!({ "torch": { "envInjection": { "targets": [{ "jobName": "node", "containerNames": [name] }] } } });
    let set = job_set(
        &runtime(policy("check"), vec![template.clone()]),
        &train_job(json!({ "trainer": {} })),
        Compatibility::Upstream,
    );
    let init = &set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(env(init).len(), 5);
    let error = built(&runtime(policy("no"), vec![template]), &train_job(json!({})), Compatibility::Upstream)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "envInjection target podSet \"node\" container \"no\" not found in runtime template"
    );
}

#[test]
fn torchtune_completes_its_command() {
    let mut runtime = runtime(
        json!({ "torch": {} }),
        vec![job(
            "node",
            Some("trainer"),
            json!({ "name": "node", "command": ["tune", "run", "output_dir=/o", "x=1", "tokenizer.path=/t"] }),
        )],
    );
    runtime["metadata"]["name"] = json!("torchtune-llama3.2-1b");
    let mut job = train_job(
        json!({ "trainer": { "command": ["tune", "run"], "numProcPerNode": 2, "args": ["model.lora_attn_modules=[q]"] } }),
    );
    job["spec"]["runtimeRef"]["name"] = json!("torchtune-llama3.2-1b");
    let expected = json!([
        "tune",
        "run",
        "--rdzv_endpoint=a-node-0-0.a:29500",
        "lora_finetune_distributed",
        "--config",
        "llama3_2/1B_lora",
        "output_dir=/o",
        "tokenizer.path=/t"
    ]);
    assert_eq!(container(&job_set(&runtime, &job, Compatibility::Upstream))["command"], expected);
}

#[test]
fn mpi_has_a_hostfile_and_keys() {
    let launcher = || job("launcher", Some("trainer"), json!({ "name": "node" }));
    let worker = || job("node", None, json!({ "name": "node" }));
    for (launcher_is_node, nodes, hosts) in [
        (true, 1, "a-launcher-0-0.a slots=2\na-node-0-0.a slots=2\n"),
        (true, 3, "a-launcher-0-0.a slots=2\na-node-0-0.a slots=2\na-node-0-1.a slots=2\n"),
        (false, 2, "a-node-0-0.a slots=2\na-node-0-1.a slots=2\n"),
        (false, 0, ""),
    ] {
        let runtime = runtime(
            json!({ "mpi": { "runLauncherAsNode": launcher_is_node, "numProcPerNode": 2 } }),
            vec![launcher(), worker()],
        );
        let objects =
            built(&runtime, &train_job(json!({ "trainer": { "numNodes": nodes } })), Compatibility::Upstream)
                .unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Secret", "ConfigMap", "JobSet"]);
        assert_eq!(objects[1]["data"]["hostfile"], hosts);
    }
    let empty = runtime(json!({ "mpi": { "mpiImplementation": "" } }), vec![launcher(), worker()]);
    let error = built(&empty, &train_job(json!({})), Compatibility::Upstream).unwrap_err().to_string();
    assert!(error.starts_with("MPI implementation for"), "{error}");
    let many = runtime(json!({ "mpi": {} }), vec![launcher(), worker()]);
    let error =
        built(&many, &train_job(json!({ "trainer": { "numNodes": i32::MAX } })), Compatibility::Upstream)
            .unwrap_err();
    assert_eq!(error, BuildError::HostfileTooLarge { nodes: i32::MAX });
}

#[test]
fn frameworks_set_the_head_address() {
    let trainer = json!({ "trainer": { "numNodes": 2, "env": [{ "name": "JAX_PROCESS_ID", "value": "9" }], "resourcesPerNode": { "limits": { "amd.com/gpu": "4" } } } });
    let jax = job_set(
        &runtime(json!({ "jax": {} }), vec![node()]),
        &train_job(trainer.clone()),
        Compatibility::Upstream,
    );
    assert_eq!(
        env(container(&jax)),
        ["JAX_NUM_PROCESSES=2", "JAX_PROCESS_ID=9", "JAX_COORDINATOR_ADDRESS=a-node-0-0.a:29500"]
    );
    let xgboost = job_set(
        &runtime(json!({ "xgboost": {} }), vec![node()]),
        &train_job(trainer),
        Compatibility::Upstream,
    );
    assert_eq!(
        env(container(&xgboost)),
        [
            "JAX_PROCESS_ID=9",
            "DMLC_TRACKER_URI=a-node-0-0.a",
            "DMLC_TRACKER_PORT=29500",
            "DMLC_TASK_ID",
            "DMLC_NUM_WORKER=8"
        ]
    );
}

#[test]
fn flux_wraps_the_command() {
    let runtime = runtime(
        json!({ "flux": { "numProcPerNode": 2 }, "numNodes": 3 }),
        vec![job("node", Some("trainer"), json!({ "name": "node", "command": ["c"], "args": ["t"] }))],
    );
    for (trainer, command, args) in [
        (json!({ "numNodes": 2 }), "c", json!(["t"])),
        (json!({ "numNodes": 2, "command": ["x", "y"], "args": ["z"] }), "x y z", json!(["t"])),
        (json!({ "numNodes": 2, "args": ["z"] }), "c z", json!(["t"])),
    ] {
        let set = job_set(&runtime, &train_job(json!({ "trainer": trainer })), Compatibility::Upstream);
        assert_eq!(
            container(&set)["command"],
            json!(["/bin/bash", "/etc/flux-config/entrypoint.sh", command])
        );
        assert_eq!(container(&set)["args"], args);
        let spec = &set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"];
        assert_eq!(spec["initContainers"][0]["name"], "flux-installer");
        let volumes: Vec<_> =
            spec["volumes"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(
            volumes,
            ["spack-install", "flux-install", "a-flux-entrypoint", "shared-memory", "flux-curve"]
        );
    }
    for spec in [json!({}), json!({ "trainer": {} })] {
        assert!(matches!(
            built(&runtime, &train_job(spec.clone()), Compatibility::Upstream),
            Err(BuildError::FluxRequires(_))
        ));
        let objects = built(&runtime, &train_job(spec), Compatibility::Extended).unwrap();
        assert!(objects[0]["data"]["entrypoint.sh"].as_str().unwrap().contains("-N 3 -n 6"));
        assert_eq!(
            container(objects.last().unwrap())["command"],
            json!(["/bin/bash", "/etc/flux-config/entrypoint.sh", "c"])
        );
    }
}

#[test]
fn initializers_are_configured_by_the_train_job() {
    let initializer = job(
        "dataset-initializer",
        Some("dataset-initializer"),
        json!({ "name": "dataset-initializer", "envFrom": [{ "prefix": "P" }] }),
    );
    let runtime = runtime(json!({ "torch": {} }), vec![initializer, node()]);
    let dataset =
        json!({ "storageUri": "", "env": [{ "name": "A", "value": "1" }], "secretRef": { "name": "s" } });
    let set = job_set(
        &runtime,
        &train_job(json!({ "initializer": { "dataset": dataset } })),
        Compatibility::Upstream,
    );
    let container =
        &set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(env(container), ["STORAGE_URI=", "A=1"]);
    assert_eq!(container["envFrom"], json!([{ "prefix": "P" }, { "secretRef": { "name": "s" } }]));
}

#[test]
fn resources_override_the_template_without_claims() {
    let resources = json!({ "limits": { "cpu": "1000m" }, "requests": { "cpu": "0.5", "memory": "1024Mi" }, "claims": [{ "name": "c" }] });
    let template = job("node", Some("trainer"), json!({ "name": "node", "resources": resources }));
    let asked = json!({ "trainer": { "resourcesPerNode": { "requests": { "cpu": "2" }, "limits": { "a.b/c": 1 } } } });
    let set = job_set(
        &runtime(json!({ "torch": {} }), vec![template.clone()]),
        &train_job(asked.clone()),
        Compatibility::Upstream,
    );
    let expected =
        json!({ "limits": { "cpu": "1", "a.b/c": "1" }, "requests": { "cpu": "2", "memory": "1Gi" } });
    assert_eq!(container(&set)["resources"], expected);
    let set = job_set(&runtime(Value::Null, vec![template]), &train_job(asked), Compatibility::Upstream);
    assert_eq!(
        container(&set)["resources"]["requests"]["cpu"],
        "500m",
        "without a policy they have no effect"
    );
}
