//! Gathering what the pipeline must know of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trainerd_cluster::{Cluster, RequestError, builtin};
use trainerd_pipeline::{BuildProfile, Compatibility, Facts, Lookup};

use crate::cache::Name;
use crate::keys::RandomKeys;
use crate::kinds;
use crate::settings::BuildSettings;
use crate::snapshots::Snapshots;
use crate::stores::Stores;

/// What is needed to find out about TrainJobs. Clones share it.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) cluster: Cluster,
    pub(crate) stores: Stores,
    pub(crate) snapshots: Snapshots,
    pub(crate) build: Arc<BuildSettings>,
    pub(crate) namespace: Arc<str>,
    /// Whether it was said that PriorityClasses cannot be read.
    pub(crate) told_priorities: Arc<AtomicBool>,
}

/// What there is of a TrainJob besides itself.
pub(crate) struct Seen {
    pub(crate) job_set: Option<Value>,
    coscheduling_pod_group: bool,
    volcano_pod_group: bool,
    ssh_secret: bool,
    authority: Result<String, String>,
    priority_classes: BTreeMap<String, Lookup>,
}

impl Context {
    /// Looks at what there is of a TrainJob, and at the PriorityClasses that are asked for.
    pub(crate) async fn see(&self, job: &Name, priority_classes: &[String]) -> Seen {
        let stores = &self.stores;
        let ssh_secret = Name::new(&job.namespace, &format!("{}-mpi-ssh-auth", job.name));
        let mut found = BTreeMap::new();
        for class in priority_classes {
            if let Some(lookup) = self.priority_class(class).await {
                found.insert(class.clone(), lookup);
            }
        }
        Seen {
            job_set: stores.job_sets.get(job),
            coscheduling_pod_group: stores.coscheduling_pod_groups.has(job),
            volcano_pod_group: stores.volcano_pod_groups.has(job),
            ssh_secret: stores.secrets.has(&ssh_secret),
            authority: self.authority().await,
            priority_classes: found,
        }
    }

    /// `ca.crt` of the webhook Secret, where it is needed at all: pods that report their progress trust it.
    async fn authority(&self) -> Result<String, String> {
        if !self.build.train_job_status {
            return Ok(String::new());
        }
        let (secret, namespace) = (&self.build.secret, &*self.namespace);
        match self.cluster.get(&builtin::secret(), Some(namespace), secret).await {
            Ok(found) => {
                let encoded = found["data"]["ca.crt"].as_str().unwrap_or_default();
                let bytes = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
                String::from_utf8(bytes).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks for a PriorityClass; `None` where there is none.
    async fn priority_class(&self, name: &str) -> Option<Lookup> {
        match self.cluster.get_metadata(&kinds::priority_class(), None, name).await {
            Ok(_) => Some(Lookup::Found),
            Err(error) if error.is_absent() => None,
            Err(error @ RequestError::Forbidden { .. }) => {
                if !self.told_priorities.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "PriorityClasses cannot be read: Volcano's are not checked");
                }
                Some(Lookup::Forbidden)
            }
            Err(error) => Some(Lookup::Failed(error.to_string())),
        }
    }

    pub(crate) fn compatibility(&self) -> Compatibility {
        self.build.compatibility
    }
}

impl Seen {
    /// As the pipeline takes it.
    pub(crate) fn facts<'a>(&'a self, context: &'a Context, profile: BuildProfile) -> Facts<'a> {
        Facts {
            compatibility: context.build.compatibility,
            profile,
            operator_namespace: &context.namespace,
            service_name: &context.build.service,
            status_port: context.build.status_port,
            train_job_status: context.build.train_job_status,
            certificate_authority: self.authority.as_deref().map_err(String::as_str),
            job_set: self.job_set.as_ref(),
            coscheduling_pod_group: self.coscheduling_pod_group,
            volcano_pod_group: self.volcano_pod_group,
            ssh_secret: self.ssh_secret,
            priority_classes: &self.priority_classes,
            keys: &RandomKeys,
        }
    }
}
