//! Which Kubernetes a stack runs on.

use std::collections::BTreeMap;

use semver::{Version, VersionReq};

use crate::catalog::Catalog;
use crate::component::KUBERNETES;
use crate::error::CatalogError;
use crate::resolve::Resolution;

impl Catalog {
    /// The ranges of Kubernetes versions that the components run on, by component.
    pub fn kubernetes_ranges(
        &self,
        resolution: &Resolution,
    ) -> Result<BTreeMap<String, VersionReq>, CatalogError> {
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
    /// [`CatalogError::Kubernetes`] for the first component that does not, in order of name;
    /// [`CatalogError::KubernetesVersion`] for a text that is no version.
    pub fn check_kubernetes(&self, resolution: &Resolution, git_version: &str) -> Result<(), CatalogError> {
        let text = git_version.trim().trim_start_matches('v');
        let found = Version::parse(text)
            .map_err(|_| CatalogError::KubernetesVersion { text: git_version.to_owned() })
            .map(|version| Version::new(version.major, version.minor, version.patch))?;
        for (component, range) in self.kubernetes_ranges(resolution)? {
            if !range.matches(&found) {
                let version = resolution.components.get(&component).map(|resolved| resolved.version.clone());
                let version = version.unwrap_or_else(|| Version::new(0, 0, 0));
                return Err(CatalogError::Kubernetes { component, version, range: Box::new(range), found });
            }
        }
        Ok(())
    }
}
