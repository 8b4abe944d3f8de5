//! What a cluster would say, from files.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use trainerd_pipeline::config::{Config, ConfigError, FeatureGates, GateError};
use trainerd_pipeline::{
    BuildProfile, Compatibility, Facts, FixedSshKey, Lookup, RuntimeError, SshKeySource, Verdict,
    is_runtime_of, names, priority_classes, runtime_kind, runtime_not_found, snapshot, validate,
};
use trainerd_reconciler::RandomKeys;

/// The file: all of it may be left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct FactsFile {
    /// Namespace of the controller.
    operator_namespace: String,
    /// Text of the manager's configuration file.
    config: String,
    /// Gates that are on or off.
    feature_gates: BTreeMap<String, bool>,
    /// `ca.crt` of the webhook Secret.
    certificate_authority: String,
    /// The JobSet, if there is one.
    job_set: Option<Value>,
    /// Whether the PodGroup of scheduler-plugins exists.
    coscheduling_pod_group: bool,
    /// Whether Volcano's PodGroup exists.
    volcano_pod_group: bool,
    /// Whether the SSH Secret exists.
    ssh_secret: bool,
    /// PriorityClasses that exist; all of them where none are named.
    priority_classes: Option<Vec<String>>,
    /// Whether MPI's key is the same in every run: one that is published, and good for comparisons only.
    deterministic_keys: bool,
    /// The profile that is pinned.
    profile: Option<String>,
}

impl Default for FactsFile {
    fn default() -> Self {
        Self {
            operator_namespace: "kubeflow-system".to_owned(),
            config: String::new(),
            feature_gates: BTreeMap::new(),
            certificate_authority: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned(),
            job_set: None,
            coscheduling_pod_group: false,
            volcano_pod_group: false,
            ssh_secret: false,
            priority_classes: None,
            deterministic_keys: false,
            profile: None,
        }
    }
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FactsError {
    /// Its form.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// The configuration in it.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A gate in it.
    #[error("{0}")]
    Gate(#[from] GateError),
    /// The profile in it.
    #[error("profile must be upstream or extended, not {0:?}")]
    Profile(String),
}

impl FactsFile {
    /// Reads the file's document.
    pub(super) fn read(document: &Value) -> Result<Self, FactsError> {
        let file: Self = match document {
            Value::Null => Self::default(),
            document => Self::deserialize(document)?,
        };
        Config::read(&file.config)?;
        file.gates(&Config::default())?;
        match file.profile.as_deref() {
            None | Some("upstream" | "extended") => Ok(file),
            Some(other) => Err(FactsError::Profile(other.to_owned())),
        }
    }

    /// With what follows from objects that exist, for that TrainJob.
    pub(super) fn with_existing(
        mut self,
        existing: &[Value],
        train_job: &Value,
        compatibility: Compatibility,
    ) -> Self {
        let (name, namespace) = (names::name(train_job), names::namespace(train_job));
        let find = |kind: &str, group: &str, namespace: &str, name: &str| {
            existing.iter().find(|object| {
                object["kind"] == kind
                    && object["apiVersion"].as_str().is_some_and(|version| version.starts_with(group))
                    && names::name(object) == name
                    && names::namespace(object) == namespace
            })
        };
        let job_set = find("JobSet", "jobset.x-k8s.io/", namespace, name);
        self.coscheduling_pod_group |= find("PodGroup", "scheduling.x-k8s.io/", namespace, name).is_some();
        self.volcano_pod_group |= find("PodGroup", "scheduling.volcano.sh/", namespace, name).is_some();
        self.ssh_secret |= find("Secret", "v1", namespace, &format!("{name}-mpi-ssh-auth")).is_some();
        let classes = existing.iter().filter(|object| object["kind"] == "PriorityClass");
        let classes: Vec<String> = classes.map(|object| names::name(object).to_owned()).collect();
        if !classes.is_empty() {
            self.priority_classes.get_or_insert_default().extend(classes);
        }
        let kept = find("ConfigMap", "v1", namespace, &snapshot::config_map_name(train_job));
        if self.profile.is_none() && (job_set.is_some() || kept.is_some()) {
            let (profile, _) = snapshot::profile(compatibility, kept, job_set, train_job);
            self.profile = Some(profile.as_str().to_owned());
        }
        self.job_set = self.job_set.or_else(|| job_set.cloned());
        self
    }

    fn gates(&self, config: &Config) -> Result<FeatureGates, GateError> {
        let mut gates = FeatureGates::default();
        gates.set(config.feature_gates())?;
        gates.set(self.feature_gates.iter().map(|(gate, on)| (gate.as_str(), *on)))?;
        Ok(gates)
    }

    /// Calls with the facts.
    pub(super) fn with<T>(
        &self,
        runtime: &Value,
        train_job: &Value,
        compatibility: Compatibility,
        call: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        // Both were read when the file was.
        let config = Config::read(&self.config).unwrap_or_default();
        let gates = self.gates(&config).unwrap_or_default();
        let existing = self.priority_classes.clone().unwrap_or_else(|| priority_classes(runtime, train_job));
        let classes = existing.into_iter().map(|name| (name, Lookup::Found)).collect();
        let profile = match (compatibility, self.profile.as_deref()) {
            (Compatibility::Upstream, _) | (Compatibility::Extended, Some("upstream")) => {
                BuildProfile::Upstream
            }
            (Compatibility::Extended, _) => BuildProfile::Extended,
        };
        let (_, service_name, _) = config.certificates();
        let keys: &dyn SshKeySource = if self.deterministic_keys { &FixedSshKey } else { &RandomKeys };
        call(&Facts {
            compatibility,
            profile,
            operator_namespace: &self.operator_namespace,
            service_name,
            status_port: Some(config.status_port().into()),
            train_job_status: gates.train_job_status(),
            certificate_authority: Ok(&self.certificate_authority),
            job_set: self.job_set.as_ref(),
            coscheduling_pod_group: self.coscheduling_pod_group,
            volcano_pod_group: self.volcano_pod_group,
            ssh_secret: self.ssh_secret,
            priority_classes: &classes,
            keys,
        })
    }

    /// What admission says.
    pub(super) fn validate(
        &self,
        runtime: &Value,
        old: Option<&Value>,
        new: &Value,
        compatibility: Compatibility,
    ) -> Verdict {
        let missing = runtime_kind(new)
            .ok()
            .map(|kind| RuntimeError::Live { kind, answer: runtime_not_found(kind, new) })
            .filter(|_| !is_runtime_of(runtime, new));
        let found = missing.as_ref().map_or(Ok(runtime), Err);
        self.with(runtime, new, compatibility, |facts| validate(found, old, new, facts))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_in_a_file_are_reported() {
        for (document, expected) in [
            (json!({"x": 1}), "unknown field `x`"),
            (json!({"featureGates": {"X": true}}), "unrecognized feature gate: X"),
            (json!({"config": "webhook: {port: 0}"}), "invalid configuration: webhook.port"),
            (json!({"profile": "mine"}), "profile must be upstream or extended"),
        ] {
            let error = FactsFile::read(&document).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(FactsFile::read(&Value::Null).is_ok());
    }

    #[test]
    fn facts_follow_from_objects_of_the_same_name_and_namespace() {
        let object = |api_version: &str, kind: &str, namespace: &str, name: &str| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        let job = object("trainer.kubeflow.org/v1alpha1", "TrainJob", "a", "j");
        let existing = [
            object("jobset.x-k8s.io/v1alpha2", "JobSet", "a", "j"),
            object("scheduling.x-k8s.io/v1alpha1", "PodGroup", "b", "j"),
            object("scheduling.volcano.sh/v1beta1", "PodGroup", "a", "j"),
            object("v1", "Secret", "a", "j-mpi-ssh-auth"),
        ];
        let facts = FactsFile::default().with_existing(&existing, &job, Compatibility::Extended);
        assert!(facts.ssh_secret && facts.volcano_pod_group && !facts.coscheduling_pod_group);
        assert_eq!(facts.job_set.as_ref(), Some(&existing[0]));
        // A JobSet that names no owner is not one that upstream's controller built for this job.
        assert_eq!(facts.profile.as_deref(), Some("extended"));
    }

    #[test]
    fn keys_are_random_unless_reproducible_output_is_requested() {
        let key = |text: &str| {
            let facts = FactsFile::read(&serde_yaml::from_str(text).unwrap()).unwrap();
            let (runtime, job) = (json!({}), json!({}));
            facts.with(&runtime, &job, Compatibility::Extended, |facts| facts.keys.generate().unwrap())
        };
        assert_ne!(key("{}"), key("{}"));
        assert_eq!(key("deterministicKeys: true"), key("deterministicKeys: true"));
    }
}
