//! Exit codes, and a hint for each failure.

use trainerd_causes::one_line;
use trainerd_cluster::{ConnectError, RequestError};

use crate::error::Error;
use crate::{config, provision, run};

/// What kind of failure ends the process: whether a retry is of use depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Unclassified.
    Internal = 1,
    /// Invalid configuration or URI.
    Invalid = 2,
    /// Not allowed.
    Denied = 3,
    /// Not found, or nothing matched.
    NotFound = 4,
    /// Network or service.
    Network = 5,
    /// Wrong bytes, or a source that changed.
    Integrity = 6,
    /// The disk of this machine.
    Disk = 7,
    /// The cache is not there in time.
    Cache = 8,
}

impl Class {
    /// The exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A failure as it is told: what, why, and what to do.
pub fn told(error: &run::Error) -> String {
    let text = one_line(error);
    match hint(error) {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// The class of a failure.
pub fn class(error: &run::Error) -> Class {
    match error {
        run::Error::Config(_) => Class::Invalid,
        run::Error::Fetch(error) => fetch(error),
        run::Error::Provision(error) => provisioning(error),
    }
}

fn fetch(error: &Error) -> Class {
    match error {
        Error::Denied { .. } | Error::Gated(_) => Class::Denied,
        Error::NotFound { .. } | Error::NothingMatched { .. } => Class::NotFound,
        Error::Refused { .. } | Error::Name(_) | Error::Clash(..) | Error::Source { .. } => Class::Invalid,
        Error::Busy { .. }
        | Error::Interrupted { .. }
        | Error::Unreachable { .. }
        | Error::Absent { .. }
        | Error::Exhausted { .. }
        | Error::Answer { .. } => Class::Network,
        Error::Changed { .. } | Error::Digest { .. } => Class::Integrity,
        Error::Space { .. } | Error::Link(_) | Error::Disk { .. } => Class::Disk,
        Error::Task(_) => Class::Internal,
    }
}

fn provisioning(error: &provision::Error) -> Class {
    match error {
        provision::Error::Late { .. } | provision::Error::Gone(_) => Class::Cache,
        provision::Error::Foreign { .. } => Class::Invalid,
        provision::Error::Uid(_) => Class::Internal,
        provision::Error::Connect(error) => match error {
            ConnectError::Unauthorized { .. } | ConnectError::Credentials { .. } => Class::Denied,
            ConnectError::NoKubeconfig { .. }
            | ConnectError::BadKubeconfig { .. }
            | ConnectError::UnknownContext { .. }
            | ConnectError::NoCurrentContext { .. } => Class::Invalid,
            _ => Class::Network,
        },
        provision::Error::Request { source, .. } => request(source),
    }
}

fn request(error: &RequestError) -> Class {
    match error {
        RequestError::Forbidden { .. }
        | RequestError::Unauthorized { .. }
        | RequestError::AdmissionDenied { .. } => Class::Denied,
        RequestError::NotFound { .. } | RequestError::NotServed { .. } => Class::NotFound,
        RequestError::Invalid { .. } | RequestError::BadRequest { .. } => Class::Invalid,
        error if error.retry().is_some() => Class::Network,
        _ => Class::Internal,
    }
}

/// What to do about a failure.
fn hint(error: &run::Error) -> Option<&'static str> {
    Some(match error {
        run::Error::Config(config::Error::Offline) => {
            "unset HF_HUB_OFFLINE, or name files that are here with file://"
        }
        run::Error::Config(_) => return None,
        run::Error::Fetch(error) => match error {
            Error::Gated(_) => {
                "accept the repository's terms on the hub, and set ACCESS_TOKEN to a token of that user"
            }
            Error::Denied { .. } => "check the token, the keys or the role, and what they may read",
            Error::NotFound { .. } => "check STORAGE_URI; what is private is not shown without a token",
            Error::NothingMatched { .. } => "check ALLOW_PATTERNS and IGNORE_PATTERNS",
            Error::Exhausted { .. } | Error::Busy { .. } | Error::Interrupted { .. } => {
                "check the network; what was fetched is kept, and another attempt goes on from there"
            }
            Error::Unreachable { .. } | Error::Absent { .. } => {
                "check that it runs and that its address is right, or raise SOURCE_WAIT_SECONDS"
            }
            Error::Changed { .. } => "fetch again: the files are listed anew",
            Error::Digest { .. } => {
                "fetch again; if it stays, what is stored is damaged, and VERIFY=size accepts it as it is"
            }
            Error::Space { .. } => {
                "give the volume more room, or fewer files by ALLOW_PATTERNS and IGNORE_PATTERNS"
            }
            Error::Link(_) => "remove the link, or name another OUTPUT_PATH",
            Error::Disk { .. } => "check that the volume is mounted and may be written to",
            Error::Name(_) | Error::Clash(..) => {
                "leave the file out with IGNORE_PATTERNS, or rename it at the source"
            }
            Error::Refused { .. } | Error::Source { .. } => "check ENDPOINT, REGION and the credentials",
            Error::Answer { .. } | Error::Task(_) => return None,
        },
        run::Error::Provision(error) => match error {
            provision::Error::Late { .. } => {
                "look at the pods of the LeaderWorkerSet, or raise CACHE_READY_TIMEOUT_SECONDS"
            }
            provision::Error::Foreign { .. } => "delete it, or use it with CACHE_NAME",
            provision::Error::Request { source: RequestError::Forbidden { .. }, .. } => {
                "bind the ClusterRole kubeflow-trainer-cache-initializer to the initializer's ServiceAccount in this namespace"
            }
            provision::Error::Request { source: RequestError::NotServed { .. }, .. } => {
                "install LeaderWorkerSet and the Trainer first"
            }
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_code() {
        let what = || "x".to_owned();
        let cases = [
            (Error::Denied { what: what(), why: what() }, 3),
            (Error::Gated(what()), 3),
            (Error::NotFound { what: what(), why: what() }, 4),
            (Error::NothingMatched { uri: what(), listed: 1 }, 4),
            (Error::Busy { what: what(), status: 503, after: None }, 5),
            (Error::Unreachable { what: what(), source: "refused".into() }, 5),
            (Error::Changed { what: what(), why: what() }, 6),
            (Error::Space { target: what(), needed: 2, free: 1 }, 7),
            (Error::Link("x".into()), 7),
            (Error::Clash(what(), what()), 2),
        ];
        for (error, code) in cases {
            let error = run::Error::Fetch(error);
            assert_eq!(class(&error).code(), code, "{error}");
            assert!(hint(&error).is_some(), "{error}");
        }
        assert_eq!(class(&run::Error::Config(config::Error::Offline)).code(), 2);
        let late = provision::Error::Late { object: what(), seconds: 1, reason: what() };
        assert_eq!(class(&run::Error::Provision(late)).code(), 8);
    }
}
