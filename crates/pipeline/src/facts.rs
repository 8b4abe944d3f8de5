//! What a build or an admission must know of the cluster and of this program's configuration.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Whose behaviour the controller has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// Upstream's, to the letter.
    Upstream,
    /// Ours: upstream's, with its known bugs fixed.
    #[default]
    Extended,
}

/// Whose content the objects of one TrainJob have. It is pinned at the first build, because JobSet refuses to change
/// the content of a suspended JobSet: a job that one controller made must be resumable by the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuildProfile {
    /// Upstream's.
    Upstream,
    /// With the fixed content.
    #[default]
    Extended,
}

impl BuildProfile {
    /// As the snapshot's annotation spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Extended => "extended",
        }
    }
}

impl fmt::Display for BuildProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What asking for an object gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It exists.
    Found,
    /// The API server refuses to say.
    Forbidden,
    /// Another error of the API server, in its words.
    Failed(String),
}

/// A key pair on the curve P-521.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    /// The private scalar: 66 bytes, big-endian.
    pub scalar: Vec<u8>,
    /// The public point: 133 bytes, uncompressed.
    pub point: Vec<u8>,
}

/// Where the keys of MPI's SSH come from.
pub trait SshKeySource {
    /// A new key pair.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn generate(&self) -> Result<SshKey, String>;
}

/// What the cluster and the configuration say. Everything about one TrainJob that is not in it or in its runtime.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts<'a> {
    /// Whose behaviour is asked for.
    pub compatibility: Compatibility,
    /// Whose content this TrainJob's objects have; [`crate::snapshot::profile`] tells it.
    pub profile: BuildProfile,
    /// Namespace of this program.
    pub operator_namespace: &'a str,
    /// Name of the Service of webhooks and status server (`certManagement.webhookServiceName`).
    pub service_name: &'a str,
    /// Port of the status server; `None` when the configuration has none.
    pub status_port: Option<i32>,
    /// Whether the gate `TrainJobStatus` is on.
    pub train_job_status: bool,
    /// `ca.crt` of the webhook Secret. `Err` holds the API server's words; an empty text is a Secret without the key.
    pub certificate_authority: Result<&'a str, &'a str>,
    /// The JobSet of the TrainJob's name, if there is one.
    pub job_set: Option<&'a Value>,
    /// Whether the PodGroup of scheduler-plugins exists.
    pub coscheduling_pod_group: bool,
    /// Whether Volcano's PodGroup exists.
    pub volcano_pod_group: bool,
    /// Whether the Secret `<name>-mpi-ssh-auth` exists.
    pub ssh_secret: bool,
    /// PriorityClasses that were asked for, by name ([`crate::priority_classes`] tells which are
    /// needed). One that is absent does not exist.
    pub priority_classes: &'a BTreeMap<String, Lookup>,
    /// Where SSH keys come from.
    pub keys: &'a dyn SshKeySource,
}
