//! What each framework's TrainJobs become, and that their ends are told.

use serde_json::{Value, json};
use trainerd_integration::reconciler::Start;
use trainerd_integration::stack::{config_map, job_set, runtime, secret, train_job, training_runtime};
use trainerd_plan::object::Resource;

use crate::objects::{a_condition, a_job, a_runtime, condition, node};
use crate::world::{BOUND, NS, Result, World};

const ANCESTOR: &str = "trainer.kubeflow.org/trainjob-ancestor-step";

fn pod_group(group: &str, version: &str) -> Resource {
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: "PodGroup".to_owned(),
        plural: "podgroups".to_owned(),
        namespaced: true,
    }
}

/// Variables as `NAME=value`; of those that are taken from a field, the field.
fn env(container: &Value) -> Vec<String> {
    let one = |variable: &Value| {
        let name = variable["name"].as_str().unwrap_or_default();
        let value = variable["value"].as_str().or(variable["valueFrom"]["fieldRef"]["fieldPath"].as_str());
        format!("{name}={}", value.unwrap_or_default())
    };
    container["env"].as_array().into_iter().flatten().map(one).collect()
}

fn pods(set: &Value, job: usize) -> &Value {
    &set["spec"]["replicatedJobs"][job]["template"]["spec"]["template"]["spec"]
}

/// How many pods each replicated Job has, by name.
fn counts(set: &Value) -> Vec<(String, Value, Value)> {
    let jobs = set["spec"]["replicatedJobs"].as_array().into_iter().flatten();
    jobs.map(|job| {
        let spec = &job["template"]["spec"];
        let name = job["name"].as_str().unwrap_or_default().to_owned();
        (name, spec["parallelism"].clone(), spec["completions"].clone())
    })
    .collect()
}

/// A runtime with a launcher and nodes.
fn with_launcher(name: &str, policy: &Value) -> Value {
    let mut all = a_runtime(name, policy);
    let jobs = &mut all["spec"]["template"]["spec"]["replicatedJobs"];
    let mut launcher = jobs[0].clone();
    launcher["name"] = json!("launcher");
    if let Some(labels) = jobs[0]["template"]["metadata"]["labels"].as_object_mut() {
        labels.remove(ANCESTOR);
    }
    *jobs = json!([launcher, jobs[0]]);
    all
}

impl World {
    fn with_runtime(&self, runtime_object: &Value, name: &str, spec: Value) -> Result<(Value, Value)> {
        self.cluster.create(&runtime(), runtime_object)?;
        let mut spec = spec;
        spec["runtimeRef"] = json!({"name": runtime_object["metadata"]["name"]});
        let job = self.create(name, spec)?;
        Ok((job, self.wait_for_job_set(name)?))
    }

    /// An object that a TrainJob controls.
    fn owned(&self, resource: &Resource, name: &str, job: &Value) -> Result<Value> {
        let found = self.wait(resource, name, |_| true)?;
        let owner = &found["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["uid"], &owner["controller"]), (&job["metadata"]["uid"], &json!(true)), "{name}");
        Ok(found)
    }

    /// A JobSet's end is its TrainJob's, of each kind, and the counts of its Jobs are.
    fn ends(&self, complete: &str, failed: &str, spec: &Value) -> Result {
        self.create(failed, spec.clone())?;
        self.wait_for_job_set(failed)?;
        for (name, theirs, ours, reason) in [
            (complete, "Completed", "Complete", "AllJobsCompleted"),
            (failed, "Failed", "Failed", "FailedJobs"),
        ] {
            let counts =
                json!({"name": "node", "ready": 0, "succeeded": 1, "failed": 0, "active": 0, "suspended": 0});
            let status =
                json!({"conditions": [a_condition(theirs, reason)], "replicatedJobsStatus": [counts]});
            self.job_set_status(name, &status)?;
            let job = self.wait_for_condition(name, ours, "True")?;
            assert_eq!(condition(&job, ours).ok_or("no condition")?["reason"], reason);
            assert_eq!(job["status"]["jobsStatus"], json!([counts]));
        }
        Ok(())
    }
}

#[test]
fn every_framework_creates_its_objects_and_completes() -> Result {
    let world = World::new(&Start::default())?;
    let user = json!([{"name": "MINE", "value": "1"}]);
    let rank = "metadata.annotations['batch.kubernetes.io/job-completion-index']";

    // PlainML, in a gang.
    let mut plain = a_runtime("gang", &json!({"numNodes": 2}));
    plain["spec"]["podGroupPolicy"] = json!({"coscheduling": {}});
    pods_of(&mut plain)["containers"][0]["resources"] = json!({"requests": {"cpu": "500m"}});
    let (job, set) = world.with_runtime(
        &plain,
        "plain-1",
        json!({"trainer": {"numNodes": 3, "env": user, "args": ["a"]}}),
    )?;
    assert_eq!(counts(&set), [("node".to_owned(), json!(3), json!(3))]);
    assert_eq!((env(node(&set)), &node(&set)["args"]), (vec!["MINE=1".to_owned()], &json!(["a"])));
    let group = world.owned(&pod_group("scheduling.x-k8s.io", "v1alpha1"), "plain-1", &job)?;
    assert_eq!(
        group["spec"],
        json!({"minMember": 3, "minResources": {"cpu": "1500m"}, "scheduleTimeoutSeconds": 60})
    );
    let labels = &set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["scheduling.x-k8s.io/pod-group"], "plain-1");
    world.ends("plain-1", "plain-2", &json!({"runtimeRef": {"name": "gang"}}))?;
    // Once it has ended it holds no place in a queue any more.
    let groups = pod_group("scheduling.x-k8s.io", "v1alpha1");
    world.cluster.wait_until("the PodGroup to go", BOUND, || {
        Ok(world.cluster.get(&groups, NS, "plain-1")?.is_none())
    })?;

    // Volcano.
    let mut volcano = a_runtime("volcano", &json!({"numNodes": 2}));
    volcano["spec"]["podGroupPolicy"] = json!({"volcano": {}});
    volcano["spec"]["template"]["metadata"] =
        json!({"annotations": {"scheduling.volcano.sh/queue-name": "q"}});
    let (job, set) = world.with_runtime(&volcano, "volcano-1", json!({}))?;
    let group = world.owned(&pod_group("scheduling.volcano.sh", "v1beta1"), "volcano-1", &job)?;
    assert_eq!((&group["spec"]["minMember"], &group["spec"]["queue"]), (&json!(2), &json!("q")));
    let pod = &set["spec"]["replicatedJobs"][0]["template"]["spec"]["template"];
    assert_eq!(pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"], "volcano-1");

    // Torch.
    let torch = a_runtime("torch", &json!({"numNodes": 1, "torch": {}}));
    let spec = json!({"trainer": {"numNodes": 3, "numProcPerNode": 4, "env": user}});
    let (_, set) = world.with_runtime(&torch, "torch-1", spec)?;
    assert_eq!(
        env(node(&set)),
        [
            "MINE=1",
            "PET_NNODES=3",
            "PET_NPROC_PER_NODE=4",
            &format!("PET_NODE_RANK={rank}"),
            "PET_MASTER_ADDR=torch-1-node-0-0.torch-1",
            "PET_MASTER_PORT=29500",
        ]
    );
    assert_eq!(node(&set)["ports"], json!([{"containerPort": 29500, "protocol": "TCP"}]));
    assert_eq!(counts(&set), [("node".to_owned(), json!(3), json!(3))]);
    world.ends("torch-1", "torch-2", &json!({"runtimeRef": {"name": "torch"}}))?;

    // JAX.
    let jax = a_runtime("jax", &json!({"numNodes": 1, "jax": {}}));
    let (_, set) = world.with_runtime(&jax, "jax-1", json!({"trainer": {"numNodes": 2, "env": user}}))?;
    let mut found = env(node(&set));
    found.sort();
    assert_eq!(
        found,
        [
            "JAX_COORDINATOR_ADDRESS=jax-1-node-0-0.jax-1:29500",
            "JAX_NUM_PROCESSES=2",
            &format!("JAX_PROCESS_ID={rank}"),
            "MINE=1",
        ]
    );
    world.ends("jax-1", "jax-2", &json!({"runtimeRef": {"name": "jax"}}))?;

    // XGBoost, with two workers a GPU pair.
    let xgboost = a_runtime("xgboost", &json!({"numNodes": 1, "xgboost": {}}));
    let resources = json!({"limits": {"nvidia.com/gpu": "2"}});
    let spec = json!({"trainer": {"numNodes": 2, "env": user, "resourcesPerNode": resources}});
    let (_, set) = world.with_runtime(&xgboost, "xgb-1", spec)?;
    assert_eq!(
        env(node(&set)),
        [
            "MINE=1",
            "DMLC_TRACKER_URI=xgb-1-node-0-0.xgb-1",
            "DMLC_TRACKER_PORT=29500",
            &format!("DMLC_TASK_ID={rank}"),
            "DMLC_NUM_WORKER=4",
        ]
    );
    assert_eq!(node(&set)["resources"]["limits"], json!({"nvidia.com/gpu": "2"}));
    world.ends("xgb-1", "xgb-2", &json!({"runtimeRef": {"name": "xgboost"}}))?;
    mpi(&world, &user)?;
    flux(&world)
}

fn mpi(world: &World, user: &Value) -> Result {
    let policy = json!({"numNodes": 1, "mpi": {"numProcPerNode": 2, "runLauncherAsNode": true}});
    let all = with_launcher("mpi", &policy);
    let (job, set) = world.with_runtime(&all, "mpi-1", json!({"trainer": {"numNodes": 3, "env": user}}))?;
    assert_eq!(
        counts(&set),
        [("launcher".to_owned(), json!(1), json!(1)), ("node".to_owned(), json!(2), json!(2))]
    );
    let launcher = &pods(&set, 0)["containers"][0];
    assert_eq!(
        env(launcher),
        [
            "OMPI_MCA_orte_default_hostfile=/etc/mpi/hostfile",
            "OMPI_MCA_orte_keep_fqdn_hostnames=true",
            "OMPI_MCA_orte_set_default_slots=2",
            "OMPI_MCA_plm_rsh_args=-o ConnectionAttempts=10",
            "MINE=1",
        ]
    );
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.map(|it| it["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&pods(&set, 0)["volumes"]), ["mpi-ssh-auth", "mpi-hostfile"]);
    assert_eq!(names(&pods(&set, 1)["volumes"]), ["mpi-ssh-auth"]);
    let hosts = world.owned(&config_map(), "mpi-1-mpi-hostfile", &job)?;
    assert_eq!(
        hosts["data"]["hostfile"],
        "mpi-1-launcher-0-0.mpi-1 slots=2\nmpi-1-node-0-0.mpi-1 slots=2\nmpi-1-node-0-1.mpi-1 slots=2\n"
    );
    let keys = world.owned(&secret(), "mpi-1-mpi-ssh-auth", &job)?;
    assert_eq!((&keys["type"], &keys["immutable"]), (&json!("kubernetes.io/ssh-auth"), &json!(true)));
    assert!(keys["data"]["ssh-privatekey"].is_string() && keys["data"]["ssh-publickey"].is_string());
    world.ends("mpi-1", "mpi-2", &json!({"runtimeRef": {"name": "mpi"}}))?;
    // Whatever is looked at again, the keys stay.
    let later = world.owned(&secret(), "mpi-1-mpi-ssh-auth", &job)?;
    assert_eq!(later["metadata"]["resourceVersion"], keys["metadata"]["resourceVersion"]);
    Ok(())
}

fn flux(world: &World) -> Result {
    let all = a_runtime("flux", &json!({"numNodes": 1, "flux": {"numProcPerNode": 2}}));
    let spec = json!({"trainer": {"numNodes": 2, "command": ["lmp"], "args": ["-in", "a"]}});
    let (job, set) = world.with_runtime(&all, "flux-1", spec)?;
    let command = &node(&set)["command"];
    assert_eq!(*command, json!(["/bin/bash", "/etc/flux-config/entrypoint.sh", "lmp -in a"]));
    let installer = &pods(&set, 0)["initContainers"][0];
    assert_eq!(installer["name"], "flux-installer");
    assert_eq!(installer["command"], json!(["/bin/bash", "/etc/flux-config/init.sh"]));
    let scripts = world.owned(&config_map(), "flux-1-flux-entrypoint", &job)?;
    let entrypoint = scripts["data"]["entrypoint.sh"].as_str().unwrap_or_default();
    assert!(entrypoint.contains("-N 2 -n 4"), "{entrypoint}");
    let init = scripts["data"]["init.sh"].as_str().unwrap_or_default();
    assert!(init.contains("flux-1-node-0-[0-1]"), "{init}");
    assert!(world.owned(&secret(), "flux-1-flux-curve", &job)?["data"]["curve.cert"].is_string());
    world.ends("flux-1", "flux-2", &json!({"runtimeRef": {"name": "flux"}}))
}

fn pods_of(runtime: &mut Value) -> &mut Value {
    &mut runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
}

#[test]
fn both_kinds_of_runtimes_are_recorded_and_can_be_deleted() -> Result {
    let world = World::new(&Start::default())?;
    let mut namespaced = a_runtime("mine", &json!({"numNodes": 2}));
    namespaced["kind"] = json!("TrainingRuntime");
    namespaced["metadata"]["namespace"] = json!(NS);
    namespaced["metadata"]["finalizers"] = json!(["trainer.kubeflow.org/resource-in-use"]);
    world.cluster.create(&training_runtime(), &namespaced)?;
    let reference = json!({"runtimeRef": {"name": "mine", "kind": "TrainingRuntime"}, "suspend": true});
    let job = world.create("frozen", reference)?;
    world.wait_for_job_set("frozen")?;
    let snapshot = world.owned(&config_map(), "frozen-runtime-snapshot", &job)?;
    let kept: Value = serde_yaml::from_str(snapshot["data"]["runtime"].as_str().unwrap_or_default())?;
    let id =
        |it: &Value| [&it["kind"], &it["metadata"]["name"], &it["metadata"]["namespace"]].map(Value::clone);
    assert_eq!(id(&kept), [json!("TrainingRuntime"), json!("mine"), json!(NS)]);
    world.wait(&training_runtime(), "mine", |it| {
        it["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
    })?;

    // A snapshot that somebody deletes is taken again from what there is now.
    world.cluster.patch(&training_runtime(), NS, "mine", &json!({"spec": {"mlPolicy": {"numNodes": 5}}}))?;
    world.cluster.delete(&config_map(), NS, "frozen-runtime-snapshot")?;
    let uid = &snapshot["metadata"]["uid"];
    let again = world.wait(&config_map(), "frozen-runtime-snapshot", |it| it["metadata"]["uid"] != *uid)?;
    let now: Value = serde_yaml::from_str(again["data"]["runtime"].as_str().unwrap_or_default())?;
    assert_eq!(now["spec"]["mlPolicy"]["numNodes"], 5);

    // The runtime goes although it is used, and what was built from it continues.
    world.cluster.delete(&training_runtime(), NS, "mine")?;
    assert_eq!(world.get(&training_runtime(), "mine")?, None);
    world.patch("frozen", &json!({"spec": {"suspend": false}}))?;
    world.wait(&job_set(), "frozen", |set| set["spec"]["suspend"] == false)?;

    // One that another object has taken the place of is told, and not built.
    world.cluster.create(
        &config_map(),
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken-runtime-snapshot", "namespace": NS}}),
    )?;
    world.create("taken", json!({}))?;
    let job = world.wait_for_condition("taken", "ResourcesCreationFailed", "True")?;
    let told = &condition(&job, "ResourcesCreationFailed").ok_or("no condition")?["message"];
    let text = "invalid runtime snapshot: a snapshot configmap exists but is owned by another object";
    assert!(told.as_str().is_some_and(|told| told.contains(text)), "{told}");
    assert_eq!(world.get(&job_set(), "taken")?, None);
    Ok(())
}

/// While it is suspended a patch reaches the pods, and what is no patch stays as it is.
#[test]
fn patches_reach_the_pods_and_deleted_train_jobs_are_not_reconciled() -> Result {
    let world = World::new(&Start::default())?;
    let patch = json!({"manager": "acme.io/grace", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [{
        "name": "node",
        "template": {"spec": {"template": {"spec": {
            "terminationGracePeriodSeconds": 7, "serviceAccountName": "trainer",
            "containers": [{"name": "node", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }}}},
    }]}}}});
    world.create("patched", json!({"runtimePatches": [patch]}))?;
    let set = world.wait_for_job_set("patched")?;
    assert_eq!(pods(&set, 0)["terminationGracePeriodSeconds"], 7);
    assert_eq!(pods(&set, 0)["serviceAccountName"], "trainer");
    assert_eq!(node(&set)["volumeMounts"], json!([{"name": "v", "mountPath": "/v"}]));

    // A TrainJob that is being deleted is not built again, and goes once whoever holds it lets it.
    let mut held = a_job("held", json!({"suspend": true}));
    held["metadata"]["finalizers"] = json!(["somebody.example/holds"]);
    world.cluster.create(&train_job(), &held)?;
    world.wait_for_job_set("held")?;
    world.cluster.delete(&train_job(), NS, "held")?;
    // The controller hears of both by watches of their own: it knows of the first before the second happens.
    std::thread::sleep(crate::world::QUIET);
    world.cluster.delete(&job_set(), NS, "held")?;
    std::thread::sleep(crate::world::QUIET);
    assert_eq!(world.get(&job_set(), "held")?, None);
    world.patch("held", &json!({"metadata": {"finalizers": null}}))?;
    world.cluster.wait_until("the TrainJob to go", BOUND, || {
        Ok(world.cluster.get(&train_job(), NS, "held")?.is_none())
    })?;
    Ok(())
}
