//! Kinds by which the API server is extended.

use serde_json::Value;

use super::Readiness;
use super::fields::{conditions, list, text};

pub(super) fn crd(object: &Value) -> Readiness {
    for condition in conditions(object) {
        match (condition.kind, condition.status) {
            ("NamesAccepted", "False") => return Readiness::failed(condition.reason, condition.message),
            ("Established", "False") if condition.reason != "Installing" => {
                return Readiness::failed(condition.reason, condition.message);
            }
            ("Established", "True") => return Readiness::current("established"),
            _ => {}
        }
    }
    Readiness::in_progress("Installing", "not yet established")
}

pub(super) fn api_service(object: &Value) -> Readiness {
    match conditions(object).find(|c| c.kind == "Available") {
        Some(available) if available.status == "True" => Readiness::current("available"),
        Some(available) => Readiness::in_progress(available.reason, available.message),
        None => Readiness::in_progress("AvailableUnknown", "not yet checked by the API server"),
    }
}

/// A webhook reached through a Service speaks with a certificate of its own authority: without the
/// bundle every call to it fails. One reached by URL may have a publicly trusted certificate.
pub(super) fn webhook_configuration(object: &Value) -> Readiness {
    let missing: Vec<_> = list(object, "/webhooks")
        .iter()
        .filter(|w| w.pointer("/clientConfig/service").is_some_and(Value::is_object))
        .filter(|w| text(w, "/clientConfig/caBundle").is_none())
        .map(|w| text(w, "/name").unwrap_or("a webhook without a name"))
        .collect();
    if missing.is_empty() {
        Readiness::current("every webhook has its CA bundle")
    } else {
        Readiness::in_progress("CaBundleMissing", format!("no CA bundle yet for {}", missing.join(", ")))
    }
}
