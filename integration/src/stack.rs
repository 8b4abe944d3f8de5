//! What the tests know of an installation: where it is, what it is made of, what it writes down of itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
pub use trainerd_cluster::builtin::{config_map, deployment, event, lease, namespace, pod, secret};
use trainerd_cluster::{ApplyParams, CreateParams, DeleteParams};
use trainerd_plan::object::Resource;

use crate::Error;
use crate::cluster::TestCluster;
use crate::product::Run;

/// The default namespace.
pub const NAMESPACE: &str = "kubeflow-system";
/// Name of the Secret with the record, and of the lease, of the default installation.
pub const RECORD: &str = "trainerd-kubeflow-trainer";
/// Label of every member of an installation.
pub const INSTALLATION: &str = "trainerd.dev/installation";
/// Options for a test: little room, and no waiting for what is ready.
pub const QUICK: [&str; 4] = ["--set", "small-footprint=true", "--set", "settle=0"];

fn resource(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Resource {
    let own = str::to_owned;
    Resource { group: own(group), version: own(version), kind: own(kind), plural: own(plural), namespaced }
}

/// Custom resource definitions.
pub fn crd() -> Resource {
    let (kind, plural) = ("CustomResourceDefinition", "customresourcedefinitions");
    resource("apiextensions.k8s.io", "v1", kind, plural, false)
}

/// TrainJobs.
pub fn train_job() -> Resource {
    resource("trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs", true)
}

/// OptimizationJobs.
pub fn optimization_job() -> Resource {
    resource("trainer.kubeflow.org", "v1alpha1", "OptimizationJob", "optimizationjobs", true)
}

/// JobSets.
pub fn job_set() -> Resource {
    resource("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets", true)
}

/// ClusterTrainingRuntimes.
pub fn runtime() -> Resource {
    let (kind, plural) = ("ClusterTrainingRuntime", "clustertrainingruntimes");
    resource("trainer.kubeflow.org", "v1alpha1", kind, plural, false)
}

/// TrainingRuntimes.
pub fn training_runtime() -> Resource {
    let (kind, plural) = ("TrainingRuntime", "trainingruntimes");
    resource("trainer.kubeflow.org", "v1alpha1", kind, plural, true)
}

/// Nodes.
pub fn node() -> Resource {
    resource("", "v1", "Node", "nodes", false)
}

/// Services.
pub fn service() -> Resource {
    resource("", "v1", "Service", "services", true)
}

/// Both kinds of webhook configurations.
pub fn webhook_configurations() -> [Resource; 2] {
    let group = "admissionregistration.k8s.io";
    let mutating = ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
    let validating = ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    [mutating, validating].map(|(kind, plural)| resource(group, "v1", kind, plural, false))
}

/// The webhook configurations of JobSet, mutating and validating.
pub const JOBSET_WEBHOOKS: [&str; 2] =
    ["jobset-mutating-webhook-configuration", "jobset-validating-webhook-configuration"];

impl TestCluster {
    /// The ports of their Services by which webhooks are called, each once; one that none is named of counts as 443.
    pub fn webhook_ports(&self, configurations: [&str; 2]) -> Result<BTreeSet<u64>, Error> {
        let mut ports = BTreeSet::new();
        for (kind, name) in webhook_configurations().iter().zip(configurations) {
            let found = self.get(kind, "", name)?.unwrap_or_default();
            let webhooks = found["webhooks"].as_array().into_iter().flatten();
            let port = |webhook: &Value| webhook["clientConfig"]["service"]["port"].as_u64().unwrap_or(443);
            ports.extend(webhooks.map(port));
        }
        Ok(ports)
    }

    /// Installs that version of the trainer, with [`QUICK`] and further arguments, until everything is ready.
    pub fn install(&self, version: &str, more: &[&str]) -> Result<Run, Error> {
        let version = format!("trainer-version={version}");
        let mut arguments = vec!["up", "--yes", "--timeout", "3m", "--set", &version];
        arguments.extend(QUICK);
        arguments.extend(more);
        self.run(&arguments)?.expect_code(0)
    }

    /// The record that the installation keeps, `None` where there is none.
    pub fn record(&self) -> Result<Option<Value>, Error> {
        let Some(secret) = self.get(&secret(), NAMESPACE, RECORD)? else { return Ok(None) };
        let text = secret["data"]["record"].as_str().unwrap_or_default();
        let bytes = STANDARD.decode(text).map_err(|error| Error::Missing(format!("a record ({error})")))?;
        serde_json::from_slice(&bytes).map(Some).map_err(Error::json("the record"))
    }

    /// Who holds the installation's lease.
    pub fn lease_holder(&self) -> Result<Option<String>, Error> {
        let lease = self.get(&lease(), NAMESPACE, RECORD)?;
        let holder = lease.and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned));
        Ok(holder.filter(|holder| !holder.is_empty()))
    }

    /// As [`Self::has_image`], where a node that has just started may not have told of its images yet.
    pub fn wait_for_image(&self, image: &str) -> Result<bool, Error> {
        let start = Instant::now();
        // A kubelet tells of them every ten seconds.
        let bound = if self.is_local() { Duration::ZERO } else { Duration::from_secs(30) };
        while !self.has_image(image)? {
            if start.elapsed() >= bound {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(true)
    }

    /// Whether a node has that image already; the stand-in's have none.
    pub fn has_image(&self, image: &str) -> Result<bool, Error> {
        let nodes = if self.is_local() { Vec::new() } else { self.list(&node(), None)? };
        Ok(nodes.iter().any(|node| {
            let images = node["status"]["images"].as_array().into_iter().flatten();
            images.flat_map(|it| it["names"].as_array().into_iter().flatten()).any(|name| name == image)
        }))
    }

    /// Creates an object and returns it as stored.
    pub fn create(&self, resource: &Resource, object: &Value) -> Result<Value, Error> {
        Ok(self.block_on(self.api().create(resource, object, CreateParams::default()))?)
    }

    /// Applies an object as the field manager of these tests and returns it as stored.
    pub fn apply(&self, resource: &Resource, object: &Value) -> Result<Value, Error> {
        let params = ApplyParams { force: true, ..ApplyParams::default() };
        Ok(self.block_on(self.api().apply(resource, object, &params))?)
    }

    /// Deletes the installation's pods: those that come in their place are treated as the stand-in behaves now.
    pub fn delete_pods(&self) -> Result<(), Error> {
        for pod in self.list(&self::pod(), None)? {
            if pod["metadata"]["namespace"] == NAMESPACE {
                self.delete(&self::pod(), NAMESPACE, pod["metadata"]["name"].as_str().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Deletes an object; one that is not there is fine.
    pub fn delete(&self, resource: &Resource, namespace: &str, name: &str) -> Result<(), Error> {
        let params = DeleteParams::default();
        match self.block_on(self.api().delete(resource, Some(namespace), name, &params)) {
            Ok(_) => Ok(()),
            Err(error) if error.is_absent() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A TrainJob of the torch runtime, in namespace `default`.
pub fn a_train_job(name: &str) -> Value {
    json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"runtimeRef": {"name": "torch-distributed"}},
    })
}

/// A JobSet with one job of one container, in namespace `default`.
pub fn a_job_set(name: &str) -> Value {
    json!({
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicatedJobs": [{"name": "a", "template": {"spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "example.com/never/run:v1"}],
        }}}}}]},
    })
}
