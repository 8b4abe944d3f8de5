//! Entries of the option `drift-ignore`: which fields are another manager's where one owns them.

use std::str::FromStr;

use crate::object::ObjectKey;

/// One entry: `Kind[/name]:/json/pointer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    kind: String,
    name: Option<String>,
    /// A JSON pointer (RFC 6901) into the manifest.
    pub pointer: String,
}

/// A text that is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not Kind[/name]:/json/pointer")]
pub struct NotAnEntry;

impl FromStr for Ignored {
    type Err = NotAnEntry;

    fn from_str(text: &str) -> Result<Self, NotAnEntry> {
        let (object, pointer) = text.split_once(':').ok_or(NotAnEntry)?;
        let (kind, name) = match object.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (object, None),
        };
        let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
        let is_kind =
            kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.chars().all(char::is_alphanumeric);
        let is_pointer =
            pointer.len() > 1 && pointer.starts_with('/') && is_word(pointer) && escapes(pointer);
        if !is_kind || !name.is_none_or(is_word) || !is_pointer {
            return Err(NotAnEntry);
        }
        Ok(Self { kind: kind.to_owned(), name: name.map(str::to_owned), pointer: pointer.to_owned() })
    }
}

/// Whether every `~` of a pointer is one of the two escapes.
fn escapes(pointer: &str) -> bool {
    pointer.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

impl Ignored {
    /// Reads the option: entries separated by commas.
    ///
    /// # Errors
    /// The number of the first that is none, counted from one.
    pub fn list(text: &str) -> Result<Vec<Self>, usize> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.enumerate().map(|(at, entry)| entry.parse().map_err(|NotAnEntry| at + 1)).collect()
    }

    /// Whether the entry is about that object.
    pub fn is_about(&self, key: &ObjectKey) -> bool {
        self.kind == key.kind && self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignore_entries_are_parsed_or_rejected() {
        let text = "Deployment:/spec/replicas, ConfigMap/a:/data/x~1y";
        let entries = Ignored::list(text).unwrap();
        assert_eq!(entries.len(), 2);
        let key = |kind: &str, name: &str| ObjectKey {
            group: String::new(),
            kind: kind.into(),
            namespace: None,
            name: name.into(),
        };
        assert!(entries[0].is_about(&key("Deployment", "any")));
        assert!(entries[1].is_about(&key("ConfigMap", "a")) && !entries[1].is_about(&key("ConfigMap", "b")));
        assert_eq!(Ignored::list("").unwrap(), []);
        for (text, at) in [
            ("Deployment", 1),
            ("Deployment:/a,deployment:/a", 2),
            ("Deployment/:/a", 1),
            ("Deployment:a", 1),
            ("Deployment:/", 1),
            ("Deployment:/a~2", 1),
            ("Deployment:/a,Secret:", 2),
        ] {
            assert_eq!(Ignored::list(text), Err(at), "{text}");
        }
    }
}
