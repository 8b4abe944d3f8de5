//! What a manager is started with: the configuration file and the flags, put together.

mod load;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use trainerd_pipeline::Compatibility;
use trainerd_serve::TlsSettings;

use crate::election::Election;
pub use load::SettingsError;

/// Where a manager runs.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Folder for temporary files, below which the certificate is looked for.
    pub temporary: PathBuf,
    /// Namespace of the pod.
    pub namespace: String,
    /// Where it is no pod but a process of the daemon.
    pub hosted: Option<Hosted>,
}

/// What the daemon tells a process that it hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosted {
    /// Context of the kubeconfig; its current one where none is named.
    pub context: Option<String>,
    /// As whom it holds the lease. The daemon names one that no other has, and hosts one process at a time: that is how the
    /// next one continues without waiting for the lease to run out.
    pub holder: Option<String>,
}

/// The variables by which the daemon tells.
impl Hosted {
    /// That it is hosted, and in which namespace.
    pub const NAMESPACE: &str = "TRAINERD_HOSTED_NAMESPACE";
    /// See [`Hosted::context`].
    pub const CONTEXT: &str = "TRAINERD_HOSTED_CONTEXT";
    /// See [`Hosted::holder`].
    pub const HOLDER: &str = "TRAINERD_HOSTED_HOLDER";
}

/// Namespace where nobody says one.
const NAMESPACE: &str = "kubeflow-system";
/// Where a pod finds its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

impl Environment {
    /// Of this process.
    pub fn of_this_process() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let temporary = std::env::temp_dir();
        if let Some(namespace) = variable(Hosted::NAMESPACE) {
            let hosted = Hosted { context: variable(Hosted::CONTEXT), holder: variable(Hosted::HOLDER) };
            return Self { temporary, namespace, hosted: Some(hosted) };
        }
        let namespace = std::fs::read_to_string(NAMESPACE_FILE).unwrap_or_default();
        let namespace = match namespace.trim() {
            "" => NAMESPACE,
            namespace => namespace,
        };
        Self { temporary, namespace: namespace.to_owned(), hosted: None }
    }
}

/// What a manager does, and where.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Address of the webhooks.
    pub(crate) webhook: String,
    /// `None`: no other manager is reckoned with.
    pub(crate) election: Option<Election>,
    /// `None`: no metrics.
    pub(crate) metrics: Option<MetricsSettings>,
    /// Address of the probes; `None`: no probes.
    pub(crate) health: Option<String>,
    /// Paths of the probes.
    pub(crate) readiness: Vec<String>,
    pub(crate) liveness: Vec<String>,
    /// Workers by kind, such as `TrainJob.trainer.kubeflow.org`.
    pub(crate) concurrency: BTreeMap<String, u32>,
    /// `None`: somebody else puts the certificate in place.
    pub(crate) rotation: Option<RotationSettings>,
    pub(crate) client: Rate,
    pub(crate) build: Arc<BuildSettings>,
    /// `None`: pods do not report their progress.
    pub(crate) status_server: Option<StatusSettings>,
    pub(crate) tls: TlsSettings,
}

/// What the objects of a TrainJob depend on.
#[derive(Clone, Debug)]
pub(crate) struct BuildSettings {
    pub(crate) compatibility: Compatibility,
    /// Name of the Service of webhooks and status server.
    pub(crate) service: String,
    /// Name of the Secret with the certificate.
    pub(crate) secret: String,
    pub(crate) status_port: Option<i32>,
    /// Whether the gate is on.
    pub(crate) train_job_status: bool,
}

/// The metrics port.
#[derive(Clone, Debug)]
pub(crate) struct MetricsSettings {
    pub(crate) address: String,
    pub(crate) secure: bool,
    pub(crate) authenticate: bool,
}

/// The certificate that is ours to keep.
#[derive(Clone, Debug)]
pub(crate) struct RotationSettings {
    pub(crate) service: String,
    pub(crate) secret: String,
}

/// The status server.
#[derive(Clone, Debug)]
pub(crate) struct StatusSettings {
    pub(crate) address: String,
    pub(crate) rate: Rate,
}

/// Requests a second, and at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) a_second: f64,
    pub(crate) burst: u32,
}
