//! The reasons of an installation's status, and how `juju status` shows each: pure.
//!
//! The daemon sends one as `{"code", "args"}`; the charm adds those that only it can know.

use serde::{Deserialize, Serialize};

use crate::tools::Status;

/// Juju's status values, most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusValue {
    /// A person has to do something.
    Blocked,
    /// Something else has to happen first.
    Waiting,
    /// An operation is in progress.
    Maintenance,
    /// Everything is as configured.
    Active,
}

impl StatusValue {
    /// Its name in Juju.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Waiting => "waiting",
            Self::Maintenance => "maintenance",
            Self::Active => "active",
        }
    }
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
}

/// The reason of the installation's status, sorted by status value; of several reasons the first one is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", content = "args", rename_all_fields = "kebab-case")]
#[expect(missing_docs, reason = "the fields are the words of the message that each variant becomes")]
pub enum Reason {
    /// An option is invalid, and so are `more` others.
    InvalidConfig { option: String, rule: String, more: usize },
    /// Permissions are missing.
    Forbidden,
    /// Daemon and charm are of different releases.
    ApiMismatch { daemon: String, charm: String },
    /// An object has another owner.
    OwnedByOther { kind: String, name: String, owner: String },
    /// A CRD change would break what is stored.
    CrdUnsafe { crd: String, objects: usize },
    /// A version in between must not be skipped.
    VersionSkew { component: String, from: String, to: String, through: String },
    /// An older version was asked for.
    DowngradeRefused { from: String, to: String },
    /// A field cannot be changed in place.
    Immutable { kind: String, name: String },
    /// An upgrade failed and was rolled back.
    UpgradeFailed { to: String, back: String, cause: String },
    /// There was no progress for too long.
    Deadline { seconds: u64, cause: String },
    /// An image cannot be pulled.
    ImagePull { component: String, image: String },
    /// A container crashes repeatedly.
    CrashLoop { component: String, restarts: i64 },
    /// The plan was refused for another reason.
    Refused { cause: String },
    /// A plan failed for another reason.
    Failed { cause: String },
    /// The charm panicked.
    Panic,
    /// The workload container was never started.
    NoSocket,
    /// The daemon does not answer.
    NoDaemon,
    /// The API server does not answer.
    ApiUnavailable { cause: String },
    /// Another process holds the lease.
    LeaseHeld { holder: String },
    /// A CRD is not served yet.
    CrdEstablished { crd: String },
    /// A Deployment has no ready pod.
    DeploymentReady { deployment: String, ready: i64, wanted: i64 },
    /// An object is not ready.
    ObjectReady { name: String, message: String },
    /// A webhook has no endpoints.
    WebhookEndpoint { service: String },
    /// A webhook has no certificate yet.
    WebhookCert { service: String },
    /// Calls of a webhook fail.
    WebhookCall { service: String, cause: String },
    /// A workload that the daemon hosts is not ready.
    HostedDegraded { workload: String, cause: String },
    /// An external component is missing.
    MissingComponent { component: String, range: String },
    /// The service mesh's API is missing.
    MeshApi,
    /// Nothing is known yet.
    Starting,
    /// A first installation.
    Installing { version: String, progress: Progress },
    /// A first installation of mostly existing objects.
    Adopting { objects: usize },
    /// A change within a version.
    Changing { progress: Progress },
    /// Another version; a daemon that has just started may not know the current one.
    Upgrading {
        #[serde(with = "text_or_empty")]
        from: Option<String>,
        to: String,
        progress: Progress,
    },
    /// A rollback.
    RollingBack { revision: u64, progress: Progress },
    /// Drift is repaired.
    Repairing { objects: usize },
    /// The installation is removed.
    Removing,
    /// The daemon finishes its operation and stops.
    Draining,
    /// An upgrade waits for approval.
    Staged { version: String },
    /// The daemon is paused.
    Paused { revision: u64 },
    /// Drift is reported, not repaired.
    DriftSeen { objects: usize, first: String },
    /// Only some of a component's pods are ready.
    Degraded { component: String, ready: i64, wanted: i64 },
    /// Another unit leads.
    Standby,
    /// The installation matches the options.
    Settled,
}

impl Reason {
    /// The status value that Juju shows.
    pub fn value(&self) -> StatusValue {
        match self {
            Self::InvalidConfig { .. }
            | Self::Forbidden
            | Self::ApiMismatch { .. }
            | Self::OwnedByOther { .. }
            | Self::CrdUnsafe { .. }
            | Self::VersionSkew { .. }
            | Self::DowngradeRefused { .. }
            | Self::Immutable { .. }
            | Self::UpgradeFailed { .. }
            | Self::Deadline { .. }
            | Self::ImagePull { .. }
            | Self::CrashLoop { .. }
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::Panic => StatusValue::Blocked,
            Self::NoSocket
            | Self::NoDaemon
            | Self::ApiUnavailable { .. }
            | Self::LeaseHeld { .. }
            | Self::CrdEstablished { .. }
            | Self::DeploymentReady { .. }
            | Self::ObjectReady { .. }
            | Self::WebhookEndpoint { .. }
            | Self::WebhookCert { .. }
            | Self::WebhookCall { .. }
            | Self::HostedDegraded { .. }
            | Self::MissingComponent { .. }
            | Self::MeshApi => StatusValue::Waiting,
            Self::Starting
            | Self::Installing { .. }
            | Self::Adopting { .. }
            | Self::Changing { .. }
            | Self::Upgrading { .. }
            | Self::RollingBack { .. }
            | Self::Repairing { .. }
            | Self::Removing
            | Self::Draining => StatusValue::Maintenance,
            Self::Staged { .. }
            | Self::Paused { .. }
            | Self::DriftSeen { .. }
            | Self::Degraded { .. }
            | Self::Standby
            | Self::Settled => StatusValue::Active,
        }
    }

    /// The message that Juju shows, for an application of that name.
    pub fn message(&self, application: &str) -> String {
        match self {
            Self::InvalidConfig { option, rule, more: 0 } => format!("Invalid config {option}: {rule}"),
            Self::InvalidConfig { option, rule, more } => {
                format!("Invalid config {option}: {rule} (+{more} more)")
            }
            Self::Forbidden => {
                format!("Missing cluster access; run: juju trust {application} --scope=cluster")
            }
            Self::ApiMismatch { daemon, charm } => {
                format!("trainerd-image {daemon} does not fit charm {charm}; attach the matching resource")
            }
            Self::OwnedByOther { kind, name, owner } => {
                format!("{kind} {name} belongs to {owner}; see action diff")
            }
            Self::CrdUnsafe { crd, objects } => {
                format!("Upgrade refused: {crd} change breaks {objects} objects; see action diff")
            }
            Self::VersionSkew { component: _, from, to, through } => {
                format!("Upgrade refused: {from} to {to} must pass through {through}")
            }
            Self::DowngradeRefused { from, to } => {
                format!("Downgrade refused: {from} to {to}; use action rollback")
            }
            Self::Immutable { kind, name } => {
                format!("{kind} {name} must be recreated; run force-reconcile recreate=true")
            }
            Self::UpgradeFailed { to, back, cause } => {
                format!("Upgrade to {to} failed, rolled back to {back}: {cause}")
            }
            Self::Deadline { seconds, cause } => format!("No progress for {seconds}s: {cause}"),
            Self::ImagePull { component, image } => format!("{component}: cannot pull {image}"),
            Self::CrashLoop { component, restarts } => {
                format!("{component}: crash loop, {restarts} restarts")
            }
            Self::Refused { cause } => format!("Refused: {cause}"),
            Self::Failed { cause } => format!("Failed: {cause}"),
            Self::Panic => "Internal error; run action collect-diagnostics".to_owned(),
            Self::NoSocket => "Waiting for container trainerd".to_owned(),
            Self::NoDaemon => "Waiting for trainerd daemon".to_owned(),
            Self::ApiUnavailable { cause } => format!("Waiting for Kubernetes API: {cause}"),
            Self::LeaseHeld { holder } => format!("Waiting for lease held by {holder}"),
            Self::CrdEstablished { crd } => format!("Waiting for CRD {crd}"),
            Self::DeploymentReady { deployment, ready, wanted } => {
                format!("Waiting for {deployment}: {ready}/{wanted} ready")
            }
            Self::ObjectReady { name, message } => format!("Waiting for {name}: {message}"),
            Self::WebhookEndpoint { service } => format!("Waiting for webhook {service}: no endpoints"),
            Self::WebhookCert { service } => format!("Waiting for webhook {service}: certificate"),
            Self::WebhookCall { service, cause } => format!("Waiting for webhook {service}: {cause}"),
            Self::HostedDegraded { workload, cause } => format!("Degraded: hosted {workload}: {cause}"),
            Self::MissingComponent { component, range } => {
                format!("Waiting for {component} {range} in the cluster")
            }
            Self::MeshApi => "Waiting for service mesh API".to_owned(),
            Self::Starting => "Applying configuration".to_owned(),
            Self::Installing { version, progress: Progress { done, total } } => {
                format!("Installing {version}: {done}/{total}")
            }
            Self::Adopting { objects } => format!("Adopting {objects} objects"),
            Self::Changing { progress: Progress { done, total } } => {
                format!("Applying configuration: {done}/{total}")
            }
            Self::Upgrading { from: None, to, progress: Progress { done, total } } => {
                format!("Upgrading to {to}: {done}/{total}")
            }
            Self::Upgrading { from: Some(from), to, progress: Progress { done, total } } => {
                format!("Upgrading {from} to {to}: {done}/{total}")
            }
            Self::RollingBack { revision, progress: Progress { done, total } } => {
                format!("Rolling back to revision {revision}: {done}/{total}")
            }
            Self::Repairing { objects } => format!("Repairing {objects} objects"),
            Self::Removing => "Removing".to_owned(),
            Self::Draining => "Stopping".to_owned(),
            Self::Staged { version } => format!("Upgrade to {version} staged; run action upgrade"),
            Self::Paused { revision } => format!("Paused at revision {revision}"),
            Self::DriftSeen { objects, first } => format!("Drift on {objects} objects, first {first}"),
            Self::Degraded { component, ready, wanted } => format!("{component} {ready}/{wanted} ready"),
            Self::Standby => "Standby".to_owned(),
            Self::Settled => String::new(),
        }
    }

    /// Status value and message.
    pub fn status(&self, application: &str) -> Status {
        Status { status: self.value().name().to_owned(), message: self.message(application) }
    }
}

/// An optional text, which is empty on the wire if there is none.
mod text_or_empty {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text.as_deref().unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<String>, D::Error> {
        Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// One of each.
    fn all() -> Vec<Reason> {
        let own = str::to_owned;
        let progress = Progress { done: 31, total: 53 };
        vec![
            Reason::InvalidConfig { option: own("settle"), rule: own("must be 0 to 300 seconds"), more: 0 },
            Reason::InvalidConfig { option: own("settle"), rule: own("must be 0 to 300 seconds"), more: 1 },
            Reason::Forbidden,
            Reason::ApiMismatch { daemon: own("0.1.0"), charm: own("0.2.0") },
            Reason::OwnedByOther { kind: own("ClusterRole"), name: own("a"), owner: own("release b") },
            Reason::CrdUnsafe { crd: own("trainjobs.trainer.kubeflow.org"), objects: 3 },
            Reason::VersionSkew {
                component: own("trainer"),
                from: own("2.1.0"),
                to: own("2.3.0"),
                through: own("2.2.1"),
            },
            Reason::DowngradeRefused { from: own("2.3.0"), to: own("2.2.1") },
            Reason::Immutable { kind: own("Deployment"), name: own("a") },
            Reason::UpgradeFailed { to: own("2.3.0"), back: own("2.2.1"), cause: own("crash loop") },
            Reason::Deadline { seconds: 600, cause: own("Deployment a") },
            Reason::ImagePull { component: own("jobset"), image: own("r.example/jobset:v0.12.0") },
            Reason::CrashLoop { component: own("lws"), restarts: 4 },
            Reason::Refused { cause: own("namespace a is being deleted") },
            Reason::Failed { cause: own("Deployment a: quota") },
            Reason::Panic,
            Reason::NoSocket,
            Reason::NoDaemon,
            Reason::ApiUnavailable { cause: own("503") },
            Reason::LeaseHeld { holder: own("b") },
            Reason::CrdEstablished { crd: own("a") },
            Reason::DeploymentReady { deployment: own("a"), ready: 0, wanted: 1 },
            Reason::ObjectReady { name: own("a"), message: own("Available: 0/1") },
            Reason::WebhookEndpoint { service: own("a") },
            Reason::WebhookCert { service: own("a") },
            Reason::WebhookCall { service: own("a"), cause: own("timeout") },
            Reason::HostedDegraded {
                workload: own("reconciler"),
                cause: own("backoff; it exited with code 1"),
            },
            Reason::MissingComponent { component: own("jobset"), range: own(">=0.12.0") },
            Reason::MeshApi,
            Reason::Starting,
            Reason::Installing { version: own("2.3.0"), progress },
            Reason::Adopting { objects: 53 },
            Reason::Changing { progress },
            Reason::Upgrading { from: Some(own("2.2.1")), to: own("2.3.0"), progress },
            Reason::Upgrading { from: None, to: own("2.3.0"), progress },
            Reason::RollingBack { revision: 7, progress },
            Reason::Repairing { objects: 2 },
            Reason::Removing,
            Reason::Draining,
            Reason::Staged { version: own("2.3.0") },
            Reason::Paused { revision: 7 },
            Reason::DriftSeen { objects: 2, first: own("Deployment/a") },
            Reason::Degraded { component: own("lws"), ready: 1, wanted: 2 },
            Reason::Standby,
            Reason::Settled,
        ]
    }

    #[test]
    fn every_reason_has_its_exact_text_and_the_table_is_sorted_by_word() {
        let status: Vec<String> = all()
            .iter()
            .map(|reason| format!("{:<11} {}", reason.value().name(), reason.message("my-trainer")))
            .collect();
        insta::assert_snapshot!(status.join("\n"));
        assert!(all().is_sorted_by_key(Reason::value));
    }

    #[test]
    fn every_reason_round_trips() {
        for reason in all() {
            let text = serde_json::to_string(&reason).unwrap();
            assert_eq!(serde_json::from_str::<Reason>(&text).unwrap(), reason, "{text}");
        }
        let unknown =
            Reason::Upgrading { from: None, to: "2".to_owned(), progress: Progress { done: 0, total: 1 } };
        assert_eq!(serde_json::to_value(&unknown).unwrap()["args"]["from"], "");
        let lease = json!({"code": "LeaseHeld", "args": {"holder": "x"}});
        assert_eq!(
            serde_json::from_value::<Reason>(lease).unwrap(),
            Reason::LeaseHeld { holder: "x".into() }
        );
    }
}
