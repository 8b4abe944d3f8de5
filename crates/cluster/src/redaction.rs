//! Redacts what the API server says of a Secret that it refused: validation, admission webhooks and policies may quote
//! its data, and an error goes into Events, records, status views and logs, which more people can read.

use crate::error::{Cause, RequestError, Verb};

/// The same error without messages that may quote the object that was sent. The kind of refusal and the fields that it
/// is about stay.
pub(crate) fn redacted(verb: Verb, path: &str, code: u16, error: RequestError) -> RequestError {
    if !sends_secret(verb, path) {
        return error;
    }
    match error {
        RequestError::Invalid { causes, .. } => {
            let message = message(code, &causes);
            RequestError::Invalid { causes: without_messages(causes), message }
        }
        RequestError::AdmissionDenied { code, causes, .. } => {
            let message = message(code, &causes);
            RequestError::AdmissionDenied { code, causes: without_messages(causes), message }
        }
        RequestError::BadRequest { .. } => RequestError::BadRequest { message: message(code, &[]) },
        RequestError::Internal { .. } => RequestError::Internal { message: message(code, &[]) },
        RequestError::Unexplained { .. } => RequestError::Unexplained { message: message(code, &[]) },
        RequestError::Other { code, reason, .. } => {
            RequestError::Other { code, reason, message: message(code, &[]) }
        }
        // These are the server's own, of who asks, what is there and how it is: quota and permissions are among them.
        error @ (RequestError::NotFound { .. }
        | RequestError::NotServed { .. }
        | RequestError::AlreadyExists { .. }
        | RequestError::Conflict { .. }
        | RequestError::Forbidden { .. }
        | RequestError::Unauthorized { .. }
        | RequestError::NamespaceTerminating { .. }
        | RequestError::Expired { .. }
        | RequestError::TooManyRequests { .. }
        | RequestError::ServerBusy { .. }
        | RequestError::Timeout { .. }
        | RequestError::Unreachable { .. }
        | RequestError::Decode { .. }
        | RequestError::Address { .. }) => error,
    }
}

/// Whether a request sends what a Secret shall hold.
fn sends_secret(verb: Verb, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let mut segments = path.trim_start_matches('/').split('/');
    let is_core = segments.next() == Some("api");
    // /api/v1/namespaces/NAMESPACE/secrets/NAME
    let is_secret = is_core && segments.nth(3) == Some("secrets");
    is_secret && matches!(verb, Verb::Create | Verb::Update | Verb::Patch)
}

fn message(code: u16, causes: &[Cause]) -> String {
    let fields: Vec<&str> =
        causes.iter().map(|cause| cause.field.as_str()).filter(|field| !field.is_empty()).collect();
    let about = if fields.is_empty() { String::new() } else { format!(", about {}", fields.join(", ")) };
    format!(
        "the API server refused the Secret ({code}{about}); its message is withheld because it may quote the data of the Secret"
    )
}

fn without_messages(causes: Vec<Cause>) -> Vec<Cause> {
    causes.into_iter().map(|cause| Cause { message: String::new(), ..cause }).collect()
}
