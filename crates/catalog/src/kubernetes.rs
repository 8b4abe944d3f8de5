//! Which Kubernetes a stack runs on.

use std::collections::BTreeMap;

use semver::{Version, VersionReq};
use thiserror::Error;

use crate::catalog::{Catalog, LookupError};
use crate::component::KUBERNETES;
use crate::resolve::Resolution;

/// Why a stack does not run on a cluster.
#[derive(Debug, Error)]
pub enum KubernetesError {
    /// The catalog does not have a part of it.
    #[error(transparent)]
    Unknown(#[from] LookupError),
    /// A component does not run on the cluster's Kubernetes.
    #[error("Kubernetes {found} is out of range for {component} {version}, which needs {range}")]
    OutOfRange {
        /// The component.
        component: String,
        /// Its version.
        version: Version,
        /// The versions it runs on.
        range: Box<VersionReq>,
        /// The cluster's version.
        found: Version,
    },
    /// The cluster's version cannot be read.
    #[error("failed to read the Kubernetes version {text:?}")]
    NotAVersion {
        /// The version as the server gives it.
        text: String,
    },
}

impl Catalog {
    /// The ranges of Kubernetes versions that the components run on, by component.
    pub fn kubernetes_ranges(
        &self,
        resolution: &Resolution,
    ) -> Result<BTreeMap<String, VersionReq>, LookupError> {
        let mut ranges = BTreeMap::new();
        for (name, resolved) in &resolution.components {
            let manifest = &self.component(name, &resolved.version)?.manifest;
            if let Some(range) = manifest.needs.get(KUBERNETES) {
                ranges.insert(name.clone(), range.clone());
            }
        }
        Ok(ranges)
    }

    /// Whether every component runs on the cluster's Kubernetes, given as the server's `gitVersion`: `v1.36.0`,
    /// `v1.33.5-gke.1080000`. What vendors append does not count.
    ///
    /// # Errors
    /// [`KubernetesError::OutOfRange`] for the first component that does not, in order of name;
    /// [`KubernetesError::NotAVersion`] for a text that is no version.
    pub fn check_kubernetes(
        &self,
        resolution: &Resolution,
        git_version: &str,
    ) -> Result<(), KubernetesError> {
        let text = git_version.trim().trim_start_matches('v');
        let found = Version::parse(text)
            .map_err(|_| KubernetesError::NotAVersion { text: git_version.to_owned() })
            .map(|version| Version::new(version.major, version.minor, version.patch))?;
        for (component, range) in self.kubernetes_ranges(resolution)? {
            if !range.matches(&found) {
                let version = resolution.components.get(&component).map(|resolved| resolved.version.clone());
                let version = version.unwrap_or_else(|| Version::new(0, 0, 0));
                return Err(KubernetesError::OutOfRange {
                    component,
                    version,
                    range: Box::new(range),
                    found,
                });
            }
        }
        Ok(())
    }
}
