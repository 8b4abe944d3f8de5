//! Bounds of the configuration, in upstream's order.

use serde_json::Value;

use crate::field_error::FieldError;
use crate::value::{at, int32};

/// What is out of bounds.
pub(super) fn check(document: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    port(document, "webhook", &mut errors);
    rate(document, "clientConnection", &mut errors);
    let concurrency = at(document, &["controller", "groupKindConcurrency"]).as_object();
    for (kind, count) in concurrency.into_iter().flatten() {
        if let Some(count) = int32(count, &[]).filter(|count| *count < 1) {
            let path = format!("controller.groupKindConcurrency[{kind}]");
            errors.push(FieldError::invalid(path, count, "must be greater than 0"));
        }
    }
    port(document, "statusServer", &mut errors);
    rate(document, "statusServer", &mut errors);
    if let Some(compatibility) = at(document, &["compatibility"])
        .as_str()
        .filter(|compatibility| !["upstream", "extended"].contains(compatibility))
    {
        errors.push(FieldError::invalid_text("compatibility", compatibility, "must be upstream or extended"));
    }
    errors
}

fn port(document: &Value, section: &str, errors: &mut Vec<FieldError>) {
    if let Some(port) = int32(document, &[section, "port"]).filter(|port| !(1..=65535).contains(port)) {
        errors.push(FieldError::invalid(format!("{section}.port"), port, "must be between 1 and 65535"));
    }
}

fn rate(document: &Value, section: &str, errors: &mut Vec<FieldError>) {
    for key in ["qps", "burst"] {
        let value = at(document, &[section, key]);
        if value.as_f64().is_some_and(|value| value < 0.0) {
            let path = format!("{section}.{key}");
            errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
        }
    }
}
