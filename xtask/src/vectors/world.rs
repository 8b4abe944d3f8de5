//! The cluster of a case: objects in memory, and what the pipeline is given of them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trainerd_pipeline::config::{Config, FeatureGates};
use trainerd_pipeline::{
    BuildProfile, Compatibility, Facts, FixedSshKey, Lookup, RuntimeError, names, not_found, runtime_kind,
    runtime_location, runtime_not_found, snapshot,
};

/// Namespace of the controller.
const OPERATOR_NAMESPACE: &str = "kubeflow-system";

/// Objects, configuration and gates of a case.
pub(super) struct World {
    pub(super) objects: Vec<Value>,
    pub(super) compatibility: Compatibility,
    config: Config,
    gates: FeatureGates,
    authority: Result<String, String>,
    classes: BTreeMap<String, Lookup>,
}

impl World {
    pub(super) fn of(case: &Value, compatibility: Compatibility) -> Self {
        let options = &case["options"];
        let config = options["config"].as_str().and_then(|text| Config::read(text).ok()).unwrap_or_default();
        let mut gates = FeatureGates::default();
        let set = options["featureGates"].as_object().into_iter().flatten();
        // Cases name gates that exist.
        let _ = gates.set(set.filter_map(|(gate, on)| Some((gate.as_str(), on.as_bool()?))));
        let mut objects: Vec<Value> = case["existing"].as_array().cloned().unwrap_or_default();
        objects.extend(Some(&case["runtime"]).filter(|runtime| runtime.is_object()).cloned());
        let mut world = Self {
            objects,
            compatibility,
            config,
            gates,
            authority: Ok(String::new()),
            classes: BTreeMap::new(),
        };
        world.authority = world.read_authority();
        let classes = world.objects.iter().filter(|object| object["kind"] == "PriorityClass");
        world.classes = classes.map(|object| (names::name(object).to_owned(), Lookup::Found)).collect();
        world
    }

    pub(super) fn find(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| {
            object["kind"] == kind
                && object["apiVersion"].as_str().is_some_and(|version| version.starts_with(api_version))
                && names::namespace(object) == namespace
                && names::name(object) == name
        })
    }

    fn read_authority(&self) -> Result<String, String> {
        let (_, _, secret) = self.config.certificates();
        let found = self.find("v1", "Secret", OPERATOR_NAMESPACE, secret);
        let found = found.ok_or_else(|| not_found("secrets", secret))?;
        let encoded = found["data"]["ca.crt"].as_str().unwrap_or_default();
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn job_set(&self, train_job: &Value) -> Option<&Value> {
        self.find("jobset.x-k8s.io", "JobSet", names::namespace(train_job), names::name(train_job))
    }

    fn snapshot(&self, train_job: &Value) -> Option<&Value> {
        let name = snapshot::config_map_name(train_job);
        self.find("v1", "ConfigMap", names::namespace(train_job), &name)
    }

    /// The live runtime of a TrainJob.
    pub(super) fn live_runtime(&self, train_job: &Value) -> Result<Value, RuntimeError> {
        let Ok(kind) = runtime_kind(train_job) else { return Ok(Value::Null) };
        let (namespace, name) = runtime_location(kind, train_job);
        let found = self.find(names::GROUP, kind.as_str(), namespace.unwrap_or_default(), name);
        found.cloned().ok_or_else(|| RuntimeError::Live { kind, answer: runtime_not_found(kind, train_job) })
    }

    /// The runtime to build from, and the snapshot to write first, if any.
    pub(super) fn runtime(&self, train_job: &Value) -> Result<(Value, Option<Value>), RuntimeError> {
        let Ok(kind) = runtime_kind(train_job) else { return Ok((Value::Null, None)) };
        let (_, pin) = self.profile(train_job);
        if let Some(found) = self.snapshot(train_job) {
            let runtime = snapshot::runtime(found, train_job)
                .map_err(|cause| RuntimeError::Snapshot { kind, cause })?;
            return Ok((runtime, pin.map(|profile| snapshot::with_profile(found, train_job, profile))));
        }
        let runtime = self.live_runtime(train_job)?;
        let written = snapshot::config_map(&runtime, kind, train_job, pin);
        Ok((runtime, Some(written)))
    }

    fn profile(&self, train_job: &Value) -> (BuildProfile, Option<BuildProfile>) {
        snapshot::profile(self.compatibility, self.snapshot(train_job), self.job_set(train_job), train_job)
    }

    pub(super) fn facts(&self, train_job: &Value) -> Facts<'_> {
        let (namespace, name) = (names::namespace(train_job), names::name(train_job));
        let has = |group: &str, kind: &str, name: &str| self.find(group, kind, namespace, name).is_some();
        let (_, service_name, _) = self.config.certificates();
        Facts {
            compatibility: self.compatibility,
            profile: self.profile(train_job).0,
            operator_namespace: OPERATOR_NAMESPACE,
            service_name,
            status_port: Some(self.config.status_port().into()),
            train_job_status: self.gates.train_job_status(),
            certificate_authority: self.authority.as_deref().map_err(String::as_str),
            job_set: self.job_set(train_job),
            coscheduling_pod_group: has("scheduling.x-k8s.io", "PodGroup", name),
            volcano_pod_group: has("scheduling.volcano.sh", "PodGroup", name),
            ssh_secret: has("v1", "Secret", &format!("{name}-mpi-ssh-auth")),
            priority_classes: &self.classes,
            keys: &FixedSshKey,
        }
    }

    /// Puts an applied object into the store. Of one that exists, what is not applied stays.
    pub(super) fn apply(&mut self, object: &Value) {
        let same = |known: &&mut Value| {
            known["kind"] == object["kind"]
                && known["apiVersion"] == object["apiVersion"]
                && names::namespace(known) == names::namespace(object)
                && names::name(known) == names::name(object)
        };
        match self.objects.iter_mut().find(same) {
            Some(known) => {
                for (key, value) in object.as_object().into_iter().flatten() {
                    known[key] = value.clone();
                }
            }
            None => self.objects.push(object.clone()),
        }
    }
}

/// What a list of objects looks like in a case.
pub(super) fn sorted(mut objects: Vec<Value>) -> Value {
    let key = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    objects.sort_by_key(|object| {
        (key(object, "kind"), names::name(object).to_owned(), key(object, "apiVersion"))
    });
    json!(objects)
}
