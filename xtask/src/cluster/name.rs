//! The name of a cluster.

use std::fmt;
use std::str::FromStr;

/// A cluster's name: 1 to 32 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit, so that
/// it can be part of a host name, a folder and a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// Longest name: cgroup, namespace and socket paths that contain it stay within their bounds.
const LONGEST: usize = 32;

/// A text that is no cluster name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a cluster's name has 1 to {LONGEST} of a-z, 0-9 and '-', and begins and ends with a letter or digit"
)]
pub struct Invalid;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=LONGEST).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid { Ok(Self(text.to_owned())) } else { Err(Invalid) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "default", "test-1", &"a".repeat(32)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a b", &"a".repeat(33)] {
            assert_eq!(bad.parse::<Name>(), Err(Invalid), "{bad}");
        }
    }
}
