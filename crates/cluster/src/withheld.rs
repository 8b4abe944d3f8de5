//! What the API server says of a Secret that it refused is withheld: validation, admission webhooks and policies may
//! quote what it holds, and an error goes into Events, records, status views and logs, which more people read.

use crate::error::{Cause, RequestError, Verb};

/// The same error without words that may quote the object that was sent. What kind of refusal it is and which fields
/// it is about stay.
pub(crate) fn without_words(verb: Verb, path: &str, code: u16, error: RequestError) -> RequestError {
    if !sends_secret(verb, path) {
        return error;
    }
    match error {
        RequestError::Invalid { causes, .. } => {
            let message = told(code, &causes);
            RequestError::Invalid { causes: wordless(causes), message }
        }
        RequestError::AdmissionDenied { code, causes, .. } => {
            let message = told(code, &causes);
            RequestError::AdmissionDenied { code, causes: wordless(causes), message }
        }
        RequestError::BadRequest { .. } => RequestError::BadRequest { message: told(code, &[]) },
        RequestError::Internal { .. } => RequestError::Internal { message: told(code, &[]) },
        RequestError::Unexplained { .. } => RequestError::Unexplained { message: told(code, &[]) },
        RequestError::Other { code, reason, .. } => {
            RequestError::Other { code, reason, message: told(code, &[]) }
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

fn told(code: u16, causes: &[Cause]) -> String {
    let fields: Vec<&str> =
        causes.iter().map(|cause| cause.field.as_str()).filter(|field| !field.is_empty()).collect();
    let about = if fields.is_empty() { String::new() } else { format!(", about {}", fields.join(", ")) };
    format!(
        "the API server refused the Secret ({code}{about}); its words are withheld, for they may quote what it holds"
    )
}

fn wordless(causes: Vec<Cause>) -> Vec<Cause> {
    causes.into_iter().map(|cause| Cause { message: String::new(), ..cause }).collect()
}
