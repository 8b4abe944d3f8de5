//! Why a step cannot continue: the same words in the CLI, the status API, metrics and the log.

use serde::{Deserialize, Serialize};

use crate::object::ObjectKey;
use crate::readiness::WorkloadStatus;

/// What a step, or the whole plan, is waiting for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
pub enum WaitingOn {
    /// A CRD is not yet established and served.
    #[error("{crd} to be established")]
    CrdEstablished {
        /// Name of the CRD.
        crd: String,
    },
    /// An object is not ready by its rule.
    #[error("{object}: {message}")]
    Ready {
        /// Which object.
        object: ObjectKey,
        /// What its readiness rule says, for example `Available: 0/1` or `Insufficient cpu`.
        message: String,
        /// The same of a workload, as values.
        #[serde(skip)]
        workload: Option<WorkloadStatus>,
    },
    /// A Service behind a webhook has no ready endpoint.
    #[error("an endpoint of Service {service}")]
    WebhookEndpoint {
        /// `namespace/name` of the Service.
        service: String,
    },
    /// A webhook configuration has no CA bundle yet.
    #[error("the CA bundle of {object}")]
    CaBundle {
        /// The webhook configuration.
        object: ObjectKey,
    },
    /// A webhook does not yet admit the objects it guards.
    #[error("{object} to admit requests: {message}")]
    Admission {
        /// The webhook configuration.
        object: ObjectKey,
        /// What the dry-run create was answered.
        message: String,
    },
    /// An object is being deleted.
    #[error("the end of {object}{}", list_finalizers(.finalizers))]
    Deleted {
        /// Which object.
        object: ObjectKey,
        /// Finalizers it still has.
        finalizers: Vec<String>,
    },
    /// Another writer holds the lease.
    #[error("the lease held by {holder}")]
    Lease {
        /// Its identity.
        holder: String,
    },
    /// Everything is ready and must stay so for a moment.
    #[error("everything to stay ready for {seconds} s")]
    Settling {
        /// Seconds.
        seconds: u64,
    },
}

impl WaitingOn {
    /// An object that is not ready by its rule, which says so in words.
    pub fn ready(object: ObjectKey, message: impl Into<String>) -> Self {
        Self::Ready { object, message: message.into(), workload: None }
    }

    /// What is waited for, where the object that waits is known already.
    pub fn text(&self) -> String {
        match self {
            Self::Ready { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    /// Every word that [`WaitingOn::word`] gives.
    pub const WORDS: [&'static str; 8] = [
        "CrdEstablished",
        "Ready",
        "WebhookEndpoint",
        "CaBundle",
        "Admission",
        "Deleted",
        "Lease",
        "Settling",
    ];

    /// The reason in one word, as JSON and metrics have it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::CrdEstablished { .. } => "CrdEstablished",
            Self::Ready { .. } => "Ready",
            Self::WebhookEndpoint { .. } => "WebhookEndpoint",
            Self::CaBundle { .. } => "CaBundle",
            Self::Admission { .. } => "Admission",
            Self::Deleted { .. } => "Deleted",
            Self::Lease { .. } => "Lease",
            Self::Settling { .. } => "Settling",
        }
    }
}

fn list_finalizers(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (finalizers {})", names.join(", ")) }
}
