//! Names of the form `acme.io/foo`, as Kubernetes checks them.

use crate::field_error::{Cause, FieldError};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
/// Bytes of a name in DNS (RFC 1123).
const MAX_HOST_LEN: usize = 253;

/// What is wrong with a domain-prefixed path.
pub(crate) fn check(path: &str, value: &str) -> Vec<FieldError> {
    if value.is_empty() {
        return vec![FieldError { path: path.to_owned(), cause: Cause::Required }];
    }
    let (host, rest) = value.split_once('/').unwrap_or((value, ""));
    if host.is_empty() || rest.is_empty() {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![FieldError::invalid_text(path, value, detail)];
    }
    let mut errors: Vec<_> = subdomain_errors(host)
        .into_iter()
        .map(|detail| FieldError::invalid_text(path, host, detail))
        .collect();
    if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte)) {
        let detail = format!("Invalid path (regex used for validation is '{PATH}')");
        errors.push(FieldError::invalid_text(path, rest, detail));
    }
    errors
}

/// What is wrong with a name in DNS (RFC 1123), in Kubernetes' words.
pub(crate) fn subdomain_errors(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > MAX_HOST_LEN {
        errors.push(format!("must be no more than {MAX_HOST_LEN} characters"));
    }
    if !name.split('.').all(is_label) {
        errors.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{LABEL}(\\.{LABEL})*')"
        ));
    }
    errors
}

fn is_label(label: &str) -> bool {
    let is_end =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = label.as_bytes();
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// Whether a name is one of RFC 1035, which begins with a letter.
pub(crate) fn is_rfc1035_label(name: &str) -> bool {
    is_label(name) && name.starts_with(|first: char| first.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_invalid_part() {
        for (value, expected) in [
            ("acme.io/foo", &[][..]),
            ("kueue.x-k8s.io/manager", &[]),
            ("", &["p: Required value"]),
            ("nodomain", &["p: Invalid value: \"nodomain\": must be a domain-prefixed path"]),
            ("/x", &["p: Invalid value: \"/x\": must be a domain-prefixed path"]),
            ("Acme.io/x", &["p: Invalid value: \"Acme.io\": a lowercase RFC 1123 subdomain"]),
            (
                "a..b/x y",
                &[
                    "p: Invalid value: \"a..b\": a lowercase",
                    "p: Invalid value: \"x y\": Invalid path (regex",
                ],
            ),
        ] {
            let errors: Vec<_> = check("p", value).iter().map(ToString::to_string).collect();
            assert_eq!(errors.len(), expected.len(), "{value}: {errors:?}");
            assert!(errors.iter().zip(expected).all(|(error, start)| error.starts_with(start)), "{errors:?}");
        }
    }
}
