//! What can become of a request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a request asks for, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many objects.
    List,
    /// Follow changes.
    Watch,
    /// Create an object.
    Create,
    /// Replace an object.
    Update,
    /// Change an object, server-side apply included.
    Patch,
    /// Delete an object.
    Delete,
}

impl Verb {
    /// As RBAC spells it, for example `list`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One cause of a refusal, as `Status.details.causes` carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable kind, for example `FieldValueInvalid`; empty when the server gave none.
    pub reason: String,
    /// Path of the field, for example `spec.replicas`; empty when the server gave none.
    pub field: String,
    /// Text for people.
    pub message: String,
}

/// A field that another manager owns and a server-side apply wanted to set differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldConflict {
    /// Path as the API server prints it, for example `.spec.replicas` or
    /// `.spec.template.spec.containers[name="manager"].image`.
    pub field: String,
    /// Text for people that names the manager, for example `conflict with "kubectl" using apps/v1`. The
    /// server sends the manager nowhere else: to decide by it, read the object's `managedFields`.
    pub detail: String,
}

/// Why the API server answered 409.
///
/// The server sends field conflicts as typed causes. The others it tells apart in text only; they are named
/// after the preconditions that the request carried, since those are all that can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// Other managers own fields that a server-side apply without force would change.
    FieldManager {
        /// The fields; never empty.
        fields: Vec<FieldConflict>,
    },
    /// The object is not the one meant: it was deleted and created again.
    Uid,
    /// The object changed since it was read.
    ResourceVersion,
    /// The request carried both preconditions and one of them failed.
    UidOrResourceVersion,
    /// The request carried no precondition: the server lost a race of its own, or the kind has rules of its
    /// own for 409.
    Other,
}

/// How a request failed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportFailure {
    /// No connection: refused, no route, unknown host name, or no answer to the connection attempt.
    Connect,
    /// The connection broke during the request: whether the server acted is unknown.
    Broken,
    /// The server's certificate was not accepted, or it did not accept ours.
    Tls,
    /// The credentials could not be had: a token file that cannot be read, a failing exec plugin.
    Credentials,
}

/// Why a request did not succeed.
///
/// Told apart by HTTP status, `Status.reason`, `Status.details` and the type of a transport error; never by
/// message text, which is carried for people.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// The object, or the namespace it was to be created in, does not exist.
    #[error("{message}")]
    NotFound {
        /// Plural of what is missing, for example `namespaces`.
        resource: String,
        /// Its name.
        name: String,
        /// The server's message.
        message: String,
    },
    /// The server does not serve this kind in this version: a CRD is absent or not yet established.
    #[error("the API server does not serve {path}")]
    NotServed {
        /// Path of the request.
        path: String,
    },
    /// A create met an object of that name, or one that is still being deleted.
    #[error("{message}")]
    AlreadyExists {
        /// The server's message.
        message: String,
    },
    /// A precondition failed or another field manager owns the fields.
    #[error("{message}")]
    Conflict {
        /// Which.
        kind: ConflictKind,
        /// The server's message.
        message: String,
    },
    /// The object breaks a rule of its kind.
    #[error("{message}")]
    Invalid {
        /// Each broken rule; empty when the server named none.
        causes: Vec<Cause>,
        /// The server's message.
        message: String,
    },
    /// The server could not understand the request: wrong types, or unknown fields under strict validation.
    /// A server-side apply with such fields is [`Self::Unexplained`].
    #[error("{message}")]
    BadRequest {
        /// The server's message.
        message: String,
    },
    /// An admission webhook or a ValidatingAdmissionPolicy said no. A webhook that answers as the API server
    /// itself would, naming the kind, is taken for it.
    #[error("{message}")]
    AdmissionDenied {
        /// HTTP status that the webhook or policy chose.
        code: u16,
        /// What it found wrong, where it says so field by field.
        causes: Vec<Cause>,
        /// The server's message, which names the webhook or policy.
        message: String,
    },
    /// RBAC, or an admission plugin of the server itself (quota, pod security, limit ranges), said no. The
    /// server tells these apart in text only: [`crate::permissions::missing`] decides whether it was RBAC.
    #[error("{message}")]
    Forbidden {
        /// What was asked for.
        verb: Verb,
        /// API group; empty for the core group.
        group: String,
        /// Plural, for example `deployments`.
        resource: String,
        /// Name; empty for a list or a create.
        name: String,
        /// The server's message.
        message: String,
    },
    /// The credentials were not accepted, for example an expired token.
    #[error("{message}")]
    Unauthorized {
        /// The server's message.
        message: String,
    },
    /// The namespace is being deleted and takes no new objects.
    #[error("{message}")]
    NamespaceTerminating {
        /// The server's message.
        message: String,
    },
    /// The resourceVersion or continue token is too old: list again.
    #[error("{message}")]
    Expired {
        /// The server's message.
        message: String,
    },
    /// The server limits its load (429).
    #[error("{message}")]
    TooManyRequests {
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
        /// The server's message.
        message: String,
    },
    /// The server cannot answer now (502, 503, storage unreachable).
    #[error("{message}")]
    ServerBusy {
        /// HTTP status.
        code: u16,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
        /// The server's message.
        message: String,
    },
    /// The server failed inside (500). A webhook with `failurePolicy: Fail` that could not be called comes as
    /// this, and nothing but the message would tell it from other failures.
    #[error("{message}")]
    Internal {
        /// The server's message.
        message: String,
    },
    /// The server failed (500) and gave no reason. It does so for a server-side apply whose manifest does not
    /// fit the kind's schema (an unknown field, a wrong type), for a webhook that denies with 500, and for
    /// trouble with its storage: nothing but the message tells which.
    #[error("{message}")]
    Unexplained {
        /// The server's message.
        message: String,
    },
    /// No answer in time, ours or the server's (504): whether the server acted is unknown.
    #[error("{message}")]
    Timeout {
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
        /// Whether it was the server, or what stands before it, that said so.
        answered: bool,
        /// Whose time was up, after how long.
        message: String,
    },
    /// The request got no answer.
    #[error("failed to reach the API server at {server}")]
    Unreachable {
        /// URL of the server.
        server: String,
        /// How.
        failure: TransportFailure,
        /// What went wrong underneath.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The server answered success with something that is not what was asked for.
    #[error("failed to decode the response to {verb} {path}")]
    Decode {
        /// What was asked for.
        verb: Verb,
        /// Path of the request.
        path: String,
        /// What was wrong with the body.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// The request could not be built: a namespaced object without a namespace, a manifest without a name.
    #[error("failed to address the request: {what} is missing")]
    Address {
        /// What is missing, for example `metadata.name`.
        what: &'static str,
    },
    /// Any other refusal.
    #[error("{message}")]
    Other {
        /// HTTP status.
        code: u16,
        /// `Status.reason`; empty when the server gave none.
        reason: String,
        /// The server's message.
        message: String,
    },
}

/// That a request is worth sending again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The least time to wait, when the server named one; otherwise the caller's backoff decides.
    pub after: Option<Duration>,
    /// The answer may as well stay: try a few times only.
    pub doubtful: bool,
}

impl RequestError {
    /// Whether the same request may succeed later without anybody changing anything, and how long the server
    /// asked to wait.
    ///
    /// `None` for refusals that stay (invalid, forbidden, failed preconditions) and for [`Self::Expired`], after
    /// which another request is due, not the same. Internal errors are worth a retry: a webhook that is still
    /// starting comes as one.
    pub fn retry(&self) -> Option<Retry> {
        let (after, doubtful) = match self {
            Self::TooManyRequests { retry_after, .. }
            | Self::ServerBusy { retry_after, .. }
            | Self::Timeout { retry_after, .. } => (*retry_after, false),
            Self::Internal { .. }
            | Self::Unreachable { failure: TransportFailure::Connect | TransportFailure::Broken, .. } => {
                (None, false)
            }
            Self::Unexplained { .. } | Self::Conflict { kind: ConflictKind::Other, .. } => (None, true),
            _ => return None,
        };
        Some(Retry { after, doubtful })
    }

    /// Whether what was asked for does not exist: the object is absent, or its kind is not served.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NotServed { .. })
    }
}
