//! Names of files below the target: only such as stay there.

use std::path::{Path, PathBuf};

/// Longest part of a name that file systems take, bytes.
const LONGEST: usize = 255;

/// Where our own records are, and the hub's, below the target.
pub const STATE: &str = ".cache/trainer-initializer";

/// A relative path that leads nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// A name that is no such path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be a file's name below the target: {why}")]
pub struct Error {
    /// As the source has it.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Name {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, Error> {
        let bad = |why| Err(Error { name: name.to_owned(), why });
        if name.is_empty() {
            return bad("it is empty");
        }
        if name.contains('\0') {
            return bad("it has a NUL");
        }
        for part in name.split('/') {
            match part {
                "" => return bad("a part of it is empty"),
                "." | ".." => return bad("it has the part . or .."),
                _ if part.len() > LONGEST => return bad("a part of it is longer than 255 bytes"),
                _ => {}
            }
        }
        if Path::new(name).starts_with(STATE) || Path::new(name).starts_with(".cache/huggingface") {
            return bad("downloads keep their records there");
        }
        Ok(Self(name.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Below a folder.
    pub fn below(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }

    /// The folders that it is in, outermost first.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "a".repeat(256);
        for name in [
            "",
            "/etc/passwd",
            "a//b",
            "a/",
            "..",
            "a/../b",
            "./a",
            "a\0b",
            &long,
            ".cache/trainer-initializer/x",
            ".cache/huggingface/x",
        ] {
            assert!(Name::new(name).is_err(), "{name}");
        }
        for name in ["a", "a/b.c", "...", "a/..b", ".cache/other", "sp ace/é"] {
            assert!(Name::new(name).is_ok(), "{name}");
        }
        assert_eq!(Name::new("a/b/c").unwrap().folders().collect::<Vec<_>>(), ["a", "a/b"]);
    }

    proptest! {
        #[test]
        fn what_is_accepted_stays_below_the_target(name in "[a./\\x00~ ]{0,12}") {
            if let Ok(name) = Name::new(&name) {
                let path = name.below(Path::new("/target"));
                prop_assert!(path.starts_with("/target"));
                prop_assert!(path.components().all(|part| !matches!(part, std::path::Component::ParentDir)));
            }
        }
    }
}
