//! The API server's version.

use std::fmt;

use semver::Version;

/// Version of a Kubernetes API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesVersion {
    release: Version,
    git_version: String,
}

/// A version that does not read like Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the server version {0:?}")]
pub struct VersionError(pub String);

impl KubernetesVersion {
    /// Reads `gitVersion` as `/version` reports it: `v1.36.3`, `v1.30.2+k3s1`, `v1.29.1-gke.1589018`.
    pub fn parse(git_version: &str) -> Result<Self, VersionError> {
        let bad = || VersionError(git_version.to_owned());
        let digits = git_version.strip_prefix('v').unwrap_or(git_version);
        let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let release = Version::parse(&digits[..end]).map_err(|_| bad())?;
        Ok(Self { release, git_version: git_version.to_owned() })
    }

    /// Major, minor and patch. Without the vendor's suffix, which semver would take for a pre-release that no
    /// range contains.
    pub fn semver(&self) -> &Version {
        &self.release
    }

    /// As the server spells it.
    pub fn git_version(&self) -> &str {
        &self.git_version
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.git_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_formats_of_vendors_are_parsed() {
        let cases = [
            ("v1.36.3", Some((1, 36, 3))),
            ("v1.30.2+k3s1", Some((1, 30, 2))),
            ("v1.29.1-gke.1589018", Some((1, 29, 1))),
            ("v1.31.0-rc.1", Some((1, 31, 0))),
            ("1.28.4", Some((1, 28, 4))),
            ("v1.28", None),
            ("", None),
            ("unknown", None),
        ];
        for (text, expected) in cases {
            let parsed = KubernetesVersion::parse(text).ok();
            let expected = expected.map(|(major, minor, patch)| Version::new(major, minor, patch));
            assert_eq!(parsed.as_ref().map(|version| version.semver().clone()), expected, "{text}");
            if let Some(version) = parsed {
                assert_eq!(version.to_string(), text);
            }
        }
    }
}
