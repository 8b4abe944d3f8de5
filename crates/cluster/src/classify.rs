//! From the API server's answer to a [`RequestError`], by status code, reason and typed details alone.

use std::time::Duration;

use kube::core::Status;

use crate::error::{Cause, ConflictKind, FieldConflict, RequestError, Verb};
use crate::redaction::redacted;

/// `StatusCause` type of a server-side apply conflict.
const FIELD_MANAGER_CONFLICT: &str = "FieldManagerConflict";
/// `StatusCause` type of a create in a namespace that is being deleted (`NamespaceTerminatingCause`).
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// What a request was about, as far as it tells responses apart.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    pub(crate) verb: Verb,
    pub(crate) path: String,
    /// The request carried a uid precondition.
    pub(crate) uid: bool,
    /// The request carried a resourceVersion precondition.
    pub(crate) resource_version: bool,
}

/// Reads an unsuccessful answer.
///
/// `code` is the HTTP status, `retry_after` the header of that name. A body that is no `Status`, from a proxy
/// or a path that is not served, is classified by its code. Words about a Secret that was sent are left out.
pub(crate) fn classify(
    info: &RequestInfo,
    code: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> RequestError {
    redacted(info.verb, &info.path, code, classify_body(info, code, retry_after, body))
}

fn classify_body(info: &RequestInfo, code: u16, retry_after: Option<Duration>, body: &[u8]) -> RequestError {
    let status = serde_json::from_slice::<Status>(body).ok().filter(Status::is_failure);
    let status = match (status, code) {
        (Some(status), _) => status,
        (None, 400 | 403 | 409 | 422) => {
            return RequestError::Other { code, reason: String::new(), message: plain(code, body) };
        }
        (None, _) => Status { code, message: plain(code, body), ..Status::default() },
    };
    classify_status(info, code, retry_after, status)
}

/// The first line of a body that is no `Status`. The page of a load balancer is for browsers: its code says as much.
fn plain(code: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    match text.trim().lines().next() {
        None | Some("") => answered(code),
        Some(line) if line.starts_with('<') => answered(code),
        Some(line) => line.to_owned(),
    }
}

fn answered(code: u16) -> String {
    let reason = http::StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason());
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("the server answered {code}{reason}")
}

/// Reads a `Status`, from an answer or from a watch.
pub(crate) fn classify_status(
    info: &RequestInfo,
    code: u16,
    retry_after: Option<Duration>,
    status: Status,
) -> RequestError {
    let details = status.details;
    let retry_after = retry_after.or_else(|| {
        let seconds = details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    });
    let (kind, name, group) = details
        .as_ref()
        .map(|details| (details.kind.clone(), details.name.clone(), details.group.clone()))
        .unwrap_or_default();
    let causes: Vec<Cause> = details
        .map(|details| details.causes)
        .unwrap_or_default()
        .into_iter()
        .map(|cause| Cause { reason: cause.reason, field: cause.field, message: cause.message })
        .collect();
    let message = status.message;
    let reason = status.reason;

    // A webhook's denial comes as the webhook's own Status, which names no kind, as the server's own refusals do.
    // A ValidatingAdmissionPolicy chooses reason and code freely, but its cause alone has neither type nor field.
    let by_policy = causes.iter().any(|cause| cause.reason.is_empty() && cause.field.is_empty());
    let foreign = kind.is_empty() && !(code == 400 && reason == "BadRequest");
    if matches!(code, 400 | 403 | 422) && (foreign || by_policy) {
        return RequestError::AdmissionDenied { code, causes, message };
    }

    match (code, reason.as_str()) {
        (404, _) if kind.is_empty() || name.is_empty() => RequestError::NotServed { path: info.path.clone() },
        (404, _) => RequestError::NotFound { resource: kind, name, message },
        (_, "AlreadyExists") => RequestError::AlreadyExists { message },
        (409, _) => RequestError::Conflict { kind: conflict(info, causes), message },
        // A patch that names another uid than the object has.
        (422, _)
            if info.uid && !causes.is_empty() && causes.iter().all(|cause| cause.field == "metadata.uid") =>
        {
            RequestError::Conflict { kind: ConflictKind::Uid, message }
        }
        (422, _) => RequestError::Invalid { causes, message },
        (403, _) if causes.iter().any(|cause| cause.reason == NAMESPACE_TERMINATING) => {
            RequestError::NamespaceTerminating { message }
        }
        (403, _) => RequestError::Forbidden { verb: info.verb, group, resource: kind, name, message },
        (400, _) => RequestError::BadRequest { message },
        (401, _) => RequestError::Unauthorized { message },
        (410, _) => RequestError::Expired { message },
        (429, _) => RequestError::TooManyRequests { retry_after, message },
        (504, _) => RequestError::Timeout { retry_after, answered: true, message },
        (500, "ServerTimeout") | (502 | 503, _) => RequestError::ServerBusy { code, retry_after, message },
        (500, "InternalError") => RequestError::Internal { message },
        (500, "") => RequestError::Unexplained { message },
        _ => RequestError::Other { code, reason, message },
    }
}

fn conflict(info: &RequestInfo, causes: Vec<Cause>) -> ConflictKind {
    let fields: Vec<FieldConflict> = causes
        .into_iter()
        .filter(|cause| cause.reason == FIELD_MANAGER_CONFLICT)
        .map(|cause| FieldConflict { field: cause.field, detail: cause.message })
        .collect();
    if !fields.is_empty() {
        return ConflictKind::FieldManager { fields };
    }
    match (info.uid, info.resource_version) {
        (true, true) => ConflictKind::UidOrResourceVersion,
        (true, false) => ConflictKind::Uid,
        (false, true) => ConflictKind::ResourceVersion,
        (false, false) => ConflictKind::Other,
    }
}

#[cfg(test)]
mod tests;
