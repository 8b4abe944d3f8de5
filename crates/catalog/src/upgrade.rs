//! Skew: which versions can be reached from which, and by what way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use semver::{Version, VersionReq};
use thiserror::Error;

use crate::catalog::{Catalog, LookupError};

const TRAINER: &str = "trainer";

/// Why there is no way from one version to another.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// The catalog does not have a version on it.
    #[error(transparent)]
    Unknown(#[from] LookupError),
    /// A newer version is installed; going back is for `rollback`.
    #[error("{component} {to} is older than the installed {from}")]
    Downgrade {
        /// The component.
        component: String,
        /// The installed version.
        from: Version,
        /// The version asked for.
        to: Version,
    },
    /// No sequence of upgrades leads from one version to the other.
    #[error("no upgrade path for {component} from {from} to {to}")]
    NoPath {
        /// The component.
        component: String,
        /// The installed version.
        from: Version,
        /// The version asked for.
        to: Version,
        /// What the version asked for can be reached from.
        upgrades_from: Box<VersionReq>,
    },
}

/// The versions of all components after one step of an upgrade; each step is a revision of its own.
pub type Versions = BTreeMap<String, Version>;

impl Catalog {
    /// The way from installed versions to others: what is installed after each step, `to` last. Empty if
    /// nothing changes. The trainer goes the shortest way that `upgradesFrom` allows; in between, the other
    /// components have the versions that go with it. A component that is new or goes away is no upgrade.
    ///
    /// # Errors
    /// [`UpgradeError::Downgrade`] where `to` is older (that is what `rollback` is for),
    /// [`UpgradeError::NoPath`] where no way leads there, [`LookupError::Version`] for a target that the
    /// catalog does not have.
    pub fn upgrade_path(&self, from: &Versions, to: &Versions) -> Result<Vec<Versions>, UpgradeError> {
        for (component, version) in to {
            self.component(component, version)?;
            if let Some(installed) = from.get(component).filter(|installed| *installed > version) {
                return Err(UpgradeError::Downgrade {
                    component: component.clone(),
                    from: installed.clone(),
                    to: version.clone(),
                });
            }
        }
        if from == to {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        if let (Some(start), Some(goal)) = (from.get(TRAINER), to.get(TRAINER)) {
            let mut way = self.shortest_way(start, goal)?;
            way.pop();
            for trainer in way {
                steps.push(self.companions(&trainer, to)?);
            }
        }
        steps.push(to.clone());
        let mut before = from;
        for after in &steps {
            self.check_step(before, after)?;
            before = after;
        }
        Ok(steps)
    }

    /// The versions of the trainer after `start` on the shortest way to `goal`.
    fn shortest_way(&self, start: &Version, goal: &Version) -> Result<Vec<Version>, UpgradeError> {
        let known: Vec<Version> =
            self.versions(TRAINER).into_iter().filter(|v| v > start && v <= goal).collect();
        let mut seen = BTreeSet::new();
        let mut ways = VecDeque::from([Vec::new()]);
        while let Some(way) = ways.pop_front() {
            let at: &Version = way.last().unwrap_or(start);
            if at == goal {
                return Ok(way);
            }
            // The biggest step first, so that of equally short ways the one with the newest stops is taken.
            for next in known.iter().rev().filter(|next| *next > at) {
                if self.component(TRAINER, next)?.manifest.upgrades_from.matches(at)
                    && seen.insert(next.clone())
                {
                    ways.push_back(way.iter().chain([next]).cloned().collect());
                }
            }
        }
        Err(self.no_path(TRAINER, start, goal))
    }

    /// What goes with a version of the trainer, of the components that are wanted in the end.
    fn companions(&self, trainer: &Version, to: &Versions) -> Result<Versions, LookupError> {
        let manifest = &self.component(TRAINER, trainer)?.manifest;
        let at = |component: &String, wanted: &Version| match component.as_str() {
            TRAINER => trainer.clone(),
            other => manifest.companions.get(other).unwrap_or(wanted).clone(),
        };
        Ok(to.iter().map(|(component, wanted)| (component.clone(), at(component, wanted))).collect())
    }

    fn check_step(&self, before: &Versions, after: &Versions) -> Result<(), UpgradeError> {
        for (component, version) in after {
            let Some(installed) = before.get(component).filter(|installed| *installed != version) else {
                continue;
            };
            if !self.component(component, version)?.manifest.upgrades_from.matches(installed) {
                return Err(self.no_path(component, installed, version));
            }
        }
        Ok(())
    }

    fn no_path(&self, component: &str, from: &Version, to: &Version) -> UpgradeError {
        match self.component(component, to) {
            Ok(target) => UpgradeError::NoPath {
                component: component.to_owned(),
                from: from.clone(),
                to: to.clone(),
                upgrades_from: Box::new(target.manifest.upgrades_from.clone()),
            },
            Err(unknown) => unknown.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    fn catalog() -> Catalog {
        let trainer = |version: &str, from: &str, jobset: &str| {
            (
                format!("trainer/{version}/component.yaml"),
                format!(
                    "{{name: trainer, version: {version}, upgradesFrom: '{from}', companions: {{jobset: {jobset}}}}}"
                ),
            )
        };
        let jobset = |version: &str, from: &str| {
            (
                format!("jobset/{version}/component.yaml"),
                format!("{{name: jobset, version: {version}, upgradesFrom: '{from}'}}"),
            )
        };
        let files = [
            trainer("2.1.0", ">=2.0.0, <2.2.0", "0.10.1"),
            trainer("2.2.0", ">=2.1.0, <2.3.0", "0.11.0"),
            trainer("2.2.1", ">=2.1.0, <2.3.0", "0.11.1"),
            trainer("2.3.0", ">=2.2.0, <2.4.0", "0.12.0"),
            jobset("0.10.1", "<0.11.0"),
            jobset("0.11.0", ">=0.10.0, <0.12.0"),
            jobset("0.11.1", ">=0.10.0, <0.12.0"),
            jobset("0.12.0", ">=0.11.0, <0.13.0"),
        ];
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        Catalog::new(Schema::builtin().unwrap(), &files).unwrap()
    }

    fn versions(trainer: &str, jobset: &str) -> Versions {
        [("trainer", trainer), ("jobset", jobset)]
            .map(|(name, version)| (name.to_owned(), version.parse().unwrap()))
            .into()
    }

    #[test]
    fn the_upgrade_path_respects_upgrades_from() {
        let catalog = catalog();
        let path = |from: &Versions, to: &Versions| catalog.upgrade_path(from, to).unwrap();
        let (oldest, middle, newest) =
            (versions("2.1.0", "0.10.1"), versions("2.2.1", "0.11.1"), versions("2.3.0", "0.12.0"));
        for (from, to, stops) in [
            (&oldest, &newest, vec![&middle, &newest]),
            (&middle, &newest, vec![&newest]),
            (&versions("2.0.1", "0.8.2"), &oldest, vec![&oldest]),
            (&newest, &newest, vec![]),
            (&Versions::new(), &newest, vec![&newest]),
            (&versions("2.2.1", "0.11.0"), &middle, vec![&middle]),
        ] {
            assert_eq!(path(from, to).iter().collect::<Vec<_>>(), stops, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn unreachable_versions_are_reported() {
        let catalog = catalog();
        let newest = versions("2.3.0", "0.12.0");
        let error = |from: &Versions, to: &Versions| catalog.upgrade_path(from, to).unwrap_err();
        assert!(matches!(
            error(&newest, &versions("2.2.1", "0.11.1")),
            UpgradeError::Downgrade { component, .. } if component == "jobset" || component == "trainer"
        ));
        assert!(matches!(
            error(&versions("1.9.0", "0.10.1"), &newest),
            UpgradeError::NoPath { component, .. } if component == "trainer"
        ));
        assert!(matches!(
            error(&versions("2.2.1", "0.9.0"), &newest),
            UpgradeError::NoPath { component, .. } if component == "jobset"
        ));
        assert!(matches!(
            error(&newest, &versions("2.9.0", "0.12.0")),
            UpgradeError::Unknown(LookupError::Version { .. })
        ));
    }
}
