//! What must be in the cluster although it is not installed here.

use std::fmt;

use semver::{Version, VersionReq};
use thiserror::Error;

/// A component that must be there although it is not installed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The component that needs it.
    pub by: String,
    /// That component's version.
    pub version: Version,
    /// The versions that fit.
    pub range: VersionReq,
}

/// A component that is left to others is absent from the cluster, or at a version that does not fit.
#[derive(Debug, Error)]
#[error("{}", Shown(self))]
pub struct UnmetNeed {
    /// The component.
    pub component: String,
    /// What needs it, and which versions fit.
    pub needed: Needed,
    /// The version in the cluster, `None` if it is not there.
    pub found: Option<Version>,
}

/// `jobset is not in the cluster; trainer 2.3.0 needs >=0.12.0, <0.13.0`.
struct Shown<'a>(&'a UnmetNeed);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnmetNeed { component, needed, found } = self.0;
        match found {
            Some(version) => write!(f, "{component} {version} in the cluster does not fit")?,
            None => write!(f, "{component} is not in the cluster")?,
        }
        write!(f, "; {} {} needs {}", needed.by, needed.version, needed.range)
    }
}
