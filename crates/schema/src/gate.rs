//! When a line of the table holds: versions of what brought or took a field.

use std::collections::BTreeMap;
use std::fmt;

use semver::Version;

/// One version for each axis that gates speak of, for example `k8s` 1.36.0 and `jobset` 0.12.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels(BTreeMap<String, Version>);

impl Levels {
    /// The levels of these axes. The last one counts where an axis comes twice.
    pub fn new<'a>(levels: impl IntoIterator<Item = (&'a str, Version)>) -> Self {
        Self(levels.into_iter().map(|(axis, version)| (axis.to_owned(), version)).collect())
    }
}

/// A gate on an axis that the levels do not have: whether it holds cannot be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to decide `{gate}`: the levels do not have that axis")]
pub struct UnknownAxis {
    /// The gate as the table spells it, for example `jobset>=0.12.0`.
    pub gate: String,
}

/// A condition on one axis: `k8s>=1.34` or `k8s<1.36`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    axis: String,
    since: bool,
    version: Version,
}

impl Gate {
    /// Reads `axis>=version` or `axis<version`; missing parts of the version are 0. `None` when it is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (axis, version, since) = match text.split_once(">=") {
            Some((axis, version)) => (axis, version, true),
            None => text.split_once('<').map(|(axis, version)| (axis, version, false))?,
        };
        if axis.is_empty() || !axis.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return None;
        }
        let mut parts = [0; 3];
        let mut given = version.split('.');
        for (slot, part) in parts.iter_mut().zip(given.by_ref()) {
            *slot = part.parse().ok()?;
        }
        if given.next().is_some() {
            return None;
        }
        let [major, minor, patch] = parts;
        Some(Self { axis: axis.to_owned(), since, version: Version::new(major, minor, patch) })
    }

    /// Whether the gate holds at these levels. A pre-release counts as older than its release.
    pub(crate) fn holds(&self, levels: &Levels) -> Result<bool, UnknownAxis> {
        let level = levels.0.get(&self.axis).ok_or_else(|| UnknownAxis { gate: self.to_string() })?;
        Ok((*level >= self.version) == self.since)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.axis, if self.since { ">=" } else { "<" }, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_from_the_version_on_or_before_it() {
        for (gate, level, holds) in [
            ("k8s>=1.36", Version::new(1, 36, 0), true),
            ("k8s>=1.36", Version::new(1, 35, 9), false),
            ("k8s>=1.36.2", Version::new(1, 36, 1), false),
            ("k8s<1.36", Version::new(1, 35, 9), true),
            ("k8s<1.36", Version::new(1, 36, 0), false),
            ("k8s>=2", Version::parse("2.0.0-rc.1").unwrap(), false),
        ] {
            let levels = Levels::new([("k8s", level.clone())]);
            assert_eq!(Gate::parse(gate).unwrap().holds(&levels), Ok(holds), "{gate} at {level}");
        }
    }

    #[test]
    fn names_the_missing_axis() {
        let gate = Gate::parse("jobset<0.12").unwrap();
        let missing = gate.holds(&Levels::new([("k8s", Version::new(1, 36, 0))])).unwrap_err();
        assert_eq!(missing.gate, "jobset<0.12.0");
    }

    #[test]
    fn rejects_invalid_gates() {
        for text in ["k8s", "k8s>=", "k8s>1.2", ">=1.2", "k8s>=1.2.3.4", "k8s>=one", "k8s<=1.2", "k 8<1"] {
            assert_eq!(Gate::parse(text), None, "{text}");
        }
    }
}
