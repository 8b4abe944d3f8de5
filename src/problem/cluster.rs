//! What goes wrong between here and the API server.

use trainerd_cluster::lease::{LeaseError, LeaseLost};
use trainerd_cluster::{ConnectError, RequestError, TransportFailure};

use super::Problem;
use crate::problem::Exit;

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        (&error).into()
    }
}

impl From<&ConnectError> for Problem {
    fn from(error: &ConnectError) -> Self {
        let (exit, code, hint) = match error {
            ConnectError::NoKubeconfig { paths } if paths.is_empty() => (
                Exit::Cluster,
                "no-kubeconfig",
                "name one with --kubeconfig or KUBECONFIG, or run in a pod with a service account",
            ),
            ConnectError::NoKubeconfig { .. } => {
                (Exit::Input, "no-kubeconfig", "check the path after --kubeconfig, or those in KUBECONFIG")
            }
            ConnectError::BadKubeconfig { .. } => {
                (Exit::Input, "bad-kubeconfig", "check it with `kubectl config view`")
            }
            ConnectError::UnknownContext { .. } => {
                (Exit::Input, "unknown-context", "give one of these with --context")
            }
            ConnectError::NoCurrentContext { .. } => (
                Exit::Input,
                "no-current-context",
                "give one with --context, or choose one with `kubectl config use-context NAME`",
            ),
            ConnectError::BadProxy { .. } => {
                (Exit::Input, "bad-proxy", "correct it; NO_PROXY lists the servers that need no proxy")
            }
            ConnectError::BadUserAgent { .. } => (Exit::Failed, "user-agent", "please report this defect"),
            ConnectError::Credentials { .. } => {
                (Exit::Cluster, "credentials", "log in again, or check the token file and the exec plugin")
            }
            ConnectError::Unreachable { proxy: None, .. } => (
                Exit::Cluster,
                "unreachable",
                "check that the server is running and that its address is reachable",
            ),
            ConnectError::Unreachable { proxy: Some(_), .. } => (
                Exit::Cluster,
                "unreachable",
                "check that the proxy is running and allows the connection; NO_PROXY lists the servers that need no proxy",
            ),
            ConnectError::Busy { .. } => {
                (Exit::Cluster, "server-busy", "run the command again when the API server is less busy")
            }
            ConnectError::Tls { .. } => (
                Exit::Cluster,
                "tls",
                "check the certificate-authority of the kubeconfig, and the clock of this machine",
            ),
            ConnectError::Unauthorized { .. } => (
                Exit::Cluster,
                "unauthorized",
                "log in again: the token or client certificate may have expired",
            ),
            ConnectError::NotKubernetes { .. } => {
                (Exit::Cluster, "not-kubernetes", "check the server address in the kubeconfig")
            }
        };
        let problem = Problem::of(exit, code, error).hint(hint);
        match error {
            ConnectError::NoKubeconfig { paths } => problem.because(match paths.as_slice() {
                [] => "neither KUBECONFIG, nor ~/.kube/config, nor a pod's service account is there",
                [_] => "the file does not exist",
                _ => "none of these files exists",
            }),
            ConnectError::UnknownContext { name, known } => Problem {
                message: format!("the kubeconfig has no context {name:?}"),
                ..problem.because(contexts(known))
            },
            ConnectError::NoCurrentContext { known } => Problem {
                message: "the kubeconfig has no current context".to_owned(),
                ..problem.because(contexts(known))
            },
            _ => problem,
        }
    }
}

fn contexts(known: &[String]) -> String {
    match known {
        [] => "the kubeconfig has no contexts".to_owned(),
        [one] => format!("its only context is {one}"),
        known => format!("its contexts are {}", known.join(", ")),
    }
}

/// How a refusal of the API server ends the process, its kind for scripts, and what to do about it.
pub(super) fn of_request(error: &RequestError) -> (Exit, &'static str, &'static str) {
    const AGAIN: &str = "run the command again";
    const REPORT: &str = "please report this with the output of -vv";
    match error {
        RequestError::NotFound { .. } | RequestError::NotServed { .. } => {
            (Exit::Failed, "not-found", "somebody deleted it in the meantime: run the command again")
        }
        RequestError::AlreadyExists { .. } | RequestError::Conflict { .. } | RequestError::Expired { .. } => {
            (Exit::Failed, "conflict", "somebody else is changing the same objects: run the command again")
        }
        RequestError::Invalid { .. } => {
            (Exit::Failed, "invalid", "the API server rejected the object: check the options that affect it")
        }
        RequestError::AdmissionDenied { .. } => (
            Exit::Failed,
            "admission-denied",
            "ask the owner of the policy or webhook that the message names",
        ),
        RequestError::Forbidden { .. } => (
            Exit::Cluster,
            "forbidden",
            "ask for the permission, or for more quota, and run the command again",
        ),
        RequestError::Unauthorized { .. } => {
            (Exit::Cluster, "unauthorized", "log in again: the token or client certificate may have expired")
        }
        RequestError::NamespaceTerminating { .. } => (
            Exit::Refused,
            "namespace-terminating",
            "wait until the namespace is gone, then run the command again",
        ),
        RequestError::TooManyRequests { .. }
        | RequestError::ServerBusy { .. }
        | RequestError::Timeout { .. } => {
            (Exit::Cluster, "server-busy", "run the command again when the API server is less busy")
        }
        RequestError::Internal { .. } => (Exit::Failed, "server-error", AGAIN),
        RequestError::Unexplained { .. } => (
            Exit::Failed,
            "server-error",
            "check the webhooks that the message names, then run the command again",
        ),
        RequestError::Unreachable { failure, .. } => match failure {
            TransportFailure::Connect | TransportFailure::Broken => {
                (Exit::Cluster, "unreachable", "check that the server is running, then run the command again")
            }
            TransportFailure::Tls => {
                (Exit::Cluster, "tls", "check certificates and the clock of this machine")
            }
            TransportFailure::Credentials => (Exit::Cluster, "credentials", "log in again"),
        },
        RequestError::Decode { .. } | RequestError::Address { .. } | RequestError::BadRequest { .. } => {
            (Exit::Failed, "protocol", REPORT)
        }
        RequestError::Other { .. } => (Exit::Failed, "refused-by-server", AGAIN),
    }
}

/// As [`of_request`], for the lease.
pub(super) fn of_lease(error: &LeaseError) -> (Exit, &'static str, &'static str) {
    match error {
        LeaseError::Held { .. } => (
            Exit::Held,
            "lease-held",
            "wait until it is done; the lease of a process that died expires within seconds",
        ),
        LeaseError::Request { source, .. } => of_request(source),
    }
}

/// As [`of_lease`], for a lease that was ours.
pub(super) fn of_lost_lease(error: &LeaseLost) -> (Exit, &'static str, &'static str) {
    let code = match error {
        LeaseLost::Taken { .. } | LeaseLost::Removed | LeaseLost::Released | LeaseLost::Yielded { .. } => {
            "lease-lost"
        }
        LeaseLost::Expired { .. } => "lease-expired",
    };
    (Exit::Held, code, "the plan is journalled: run the same command again to continue it")
}
