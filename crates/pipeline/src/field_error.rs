//! An error of a field, as Kubernetes' API machinery words it.

use std::fmt;

use crate::go;

/// What is wrong with a field of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct FieldError {
    /// The field, for example `spec.trainer.env[0]`.
    pub path: String,
    /// What is wrong with it.
    pub cause: Cause,
}

/// Kinds of errors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A value that may not be.
    Invalid {
        /// The value, as it is printed.
        value: String,
        /// Why not.
        detail: String,
    },
    /// Something that may not be done.
    Forbidden(String),
    /// Something that must be there.
    Required,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { value, detail } => write!(f, "Invalid value: {value}: {detail}"),
            Self::Forbidden(detail) => write!(f, "Forbidden: {detail}"),
            Self::Required => f.write_str("Required value"),
        }
    }
}

impl FieldError {
    /// An invalid value, printed as it is given: a number, or JSON.
    pub(crate) fn invalid(
        path: impl Into<String>,
        value: impl fmt::Display,
        detail: impl Into<String>,
    ) -> Self {
        let cause = Cause::Invalid { value: value.to_string(), detail: detail.into() };
        Self { path: path.into(), cause }
    }

    /// An invalid text, which is quoted.
    pub(crate) fn invalid_text(path: impl Into<String>, value: &str, detail: impl Into<String>) -> Self {
        Self::invalid(path, go::quoted(value), detail)
    }

    pub(crate) fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), cause: Cause::Forbidden(detail.into()) }
    }
}

/// Several errors as one text: identical ones once, one alone as it is, several as `[a, b]`. `None` when there are none.
pub fn aggregate(errors: impl IntoIterator<Item = impl ToString>) -> Option<String> {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_those_of_kubernetes() {
        let invalid = FieldError::invalid("spec.trainer.numNodes", 2, "must be 1");
        let text = FieldError::invalid_text("spec.runtimeRef.name", "a\"b", "no");
        let forbidden = FieldError::forbidden("spec.runtimePatches", "not now");
        for (errors, expected) in [
            (vec![], None),
            (
                vec![invalid.clone(), invalid.clone()],
                Some("spec.trainer.numNodes: Invalid value: 2: must be 1"),
            ),
            (
                vec![text, forbidden],
                Some(
                    r#"[spec.runtimeRef.name: Invalid value: "a\"b": no, spec.runtimePatches: Forbidden: not now]"#,
                ),
            ),
        ] {
            assert_eq!(aggregate(errors).as_deref(), expected);
        }
    }
}
