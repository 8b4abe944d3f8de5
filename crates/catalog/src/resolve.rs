//! From options to versions: which component at which version, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use semver::{Version, VersionReq};
use thiserror::Error;

use crate::catalog::{Catalog, LookupError};
use crate::component::Component;
use crate::image::ImageRef;
use crate::nearest::nearest;
use crate::need::Needed;
use crate::options::{
    InvalidOptions, OptionError, Options, Reconciler, Rule, RuntimeChoice, VERSIONED, VersionChoice,
};
use crate::tag::TagVersion;

const TRAINER: &str = "trainer";
const RUNTIMES: &str = "runtimes";
const DATA_CACHE: &str = "data-cache";

/// Why no versions are chosen.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// Options that do not go with each other.
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    /// What is installed, or goes with it, is not in the catalog.
    #[error(transparent)]
    Unknown(#[from] LookupError),
}

/// An installation as it is before a change: what `auto` starts from.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    /// Its components and their versions.
    pub components: &'a BTreeMap<String, Version>,
}

/// Why a component has the version it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The option names it.
    Requested {
        /// The option.
        option: String,
    },
    /// The image's tag begins with it.
    Tag {
        /// The option that names the image.
        option: String,
        /// The tag.
        tag: String,
    },
    /// It is installed, and nobody asks for another.
    Installed,
    /// It is the newest.
    Newest,
    /// It goes with another component.
    GoesWith {
        /// The other component.
        component: String,
        /// Its version.
        version: Version,
    },
}

/// `option trainer-version`, `goes with trainer 2.3.0`.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested { option } => write!(f, "option {option}"),
            Self::Tag { option, tag } => write!(f, "tag {tag} of option {option}"),
            Self::Installed => f.write_str("installed"),
            Self::Newest => f.write_str("newest"),
            Self::GoesWith { component, version } => write!(f, "goes with {component} {version}"),
        }
    }
}

/// A component's version, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The version.
    pub version: Version,
    /// Why it is this one.
    pub why: Why,
}

/// Components, versions and runtimes that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// What is installed, by component.
    pub components: BTreeMap<String, Resolved>,
    /// The training runtimes that are installed.
    pub runtimes: BTreeSet<String>,
    /// What must already be in the cluster, by component: it was left out of `components`.
    pub external: BTreeMap<String, Needed>,
    /// The Kubernetes that it is rendered for, whose fields may be used; `None` for one that serves them all.
    pub kubernetes: Option<Version>,
}

impl Resolution {
    /// The same for a cluster of this Kubernetes version.
    #[must_use]
    pub fn on(self, kubernetes: &Version) -> Self {
        Self { kubernetes: Some(kubernetes.clone()), ..self }
    }

    /// The versions by component.
    pub fn versions(&self) -> BTreeMap<String, Version> {
        self.components.iter().map(|(name, resolved)| (name.clone(), resolved.version.clone())).collect()
    }
}

impl Catalog {
    /// Chooses versions and runtimes, for a fresh installation or for one that exists.
    ///
    /// # Errors
    /// [`ResolveError::Options`] with every option that does not go with the others;
    /// [`LookupError::Version`] if the installed trainer is not in the catalog and nobody asks for another.
    pub fn resolve(
        &self,
        options: &Options,
        current: Option<Current<'_>>,
    ) -> Result<Resolution, ResolveError> {
        let mut errors = Vec::new();
        let trainer = self.trainer(options, current)?;
        let manifest = &self.component(TRAINER, &trainer.version)?.manifest;
        let is_ours = options.reconciler != Reconciler::Upstream;
        if is_ours && !has_native(self.component(TRAINER, &trainer.version)?) {
            let fits = |version: &Version| self.component(TRAINER, version).is_ok_and(has_native);
            let fitting = self.versions(TRAINER).into_iter().filter(fits).collect();
            let value = if options.reconciler == Reconciler::Hosted { "hosted" } else { "native" };
            let rule = Rule::NoNative { value, trainer: trainer.version.clone(), fitting };
            errors.push(options.error("reconciler", rule, Some("upstream".to_owned())));
        }
        let mut components = BTreeMap::new();
        let mut external = BTreeMap::new();
        for row in VERSIONED.iter().filter(|row| row.component != TRAINER) {
            let fits = manifest.needs.get(row.component).or_else(|| manifest.optional.get(row.component));
            if !options.components.contains(row.component) {
                if let Some(range) = manifest.needs.get(row.component) {
                    let needed = Needed {
                        by: TRAINER.to_owned(),
                        version: trainer.version.clone(),
                        range: range.clone(),
                    };
                    external.insert(row.component.to_owned(), needed);
                }
                continue;
            }
            let resolved = self.follower(
                options,
                row.component,
                &trainer.version,
                manifest.companions.get(row.component),
                fits,
            )?;
            if let Some(range) = fits.filter(|range| !range.matches(&resolved.version)) {
                let rule = Rule::Unfit {
                    version: resolved.version.clone(),
                    trainer: trainer.version.clone(),
                    range: range.clone(),
                };
                let near = self.versions(row.component).into_iter().rfind(|version| range.matches(version));
                errors.push(options.error(row.version_option, rule, near.map(|version| version.to_string())));
            }
            components.insert(row.component.to_owned(), resolved);
        }
        components.insert(TRAINER.to_owned(), trainer.clone());
        errors.extend(tag_mismatches(options, &components));
        let goes_with = |name: &str| {
            let version = manifest.companions.get(name)?.clone();
            let why = Why::GoesWith { component: TRAINER.to_owned(), version: trainer.version.clone() };
            Some((name.to_owned(), Resolved { version, why }))
        };
        let runtimes = match goes_with(RUNTIMES) {
            Some((name, resolved)) => {
                let chosen = self.runtimes(options, &resolved.version, &mut errors)?;
                if !chosen.is_empty() {
                    components.insert(name, resolved);
                }
                chosen
            }
            None => BTreeSet::new(),
        };
        if options.data_cache {
            components.extend(goes_with(DATA_CACHE));
        }
        InvalidOptions::check(errors)?;
        Ok(Resolution { components, runtimes, external, kubernetes: None })
    }

    /// The versions that a component may have beside a version of the trainer; `None` if any.
    pub fn fitting(&self, component: &str, trainer: &Version) -> Result<Option<&VersionReq>, LookupError> {
        let manifest = &self.component(TRAINER, trainer)?.manifest;
        Ok(manifest.needs.get(component).or_else(|| manifest.optional.get(component)))
    }

    fn trainer(&self, options: &Options, current: Option<Current<'_>>) -> Result<Resolved, LookupError> {
        let [row, ..] = &VERSIONED;
        if let Some(resolved) = self.chosen(options, TRAINER, row.version_option, row.image_option) {
            return Ok(resolved);
        }
        if let Some(version) = current.and_then(|current| current.components.get(TRAINER)) {
            self.component(TRAINER, version)?;
            return Ok(Resolved { version: version.clone(), why: Why::Installed });
        }
        let newest = self.newest(TRAINER).ok_or_else(|| self.unknown(TRAINER))?;
        Ok(Resolved { version: newest.clone(), why: Why::Newest })
    }

    /// JobSet or LeaderWorkerSet: what is asked for, else what its image says if that fits, else what goes
    /// with the trainer. An image that does not fit is then reported by its tag.
    fn follower(
        &self,
        options: &Options,
        component: &str,
        trainer: &Version,
        companion: Option<&Version>,
        fits: Option<&VersionReq>,
    ) -> Result<Resolved, LookupError> {
        let row = VERSIONED.iter().find(|row| row.component == component);
        let chosen =
            row.and_then(|row| self.chosen(options, component, row.version_option, row.image_option));
        let usable = |resolved: &Resolved| {
            !matches!(resolved.why, Why::Tag { .. })
                || fits.is_none_or(|range| range.matches(&resolved.version))
        };
        if let Some(resolved) = chosen.filter(usable) {
            return Ok(resolved);
        }
        let version = companion.or_else(|| self.newest(component)).ok_or_else(|| self.unknown(component))?;
        self.component(component, version)?;
        let why = Why::GoesWith { component: TRAINER.to_owned(), version: trainer.clone() };
        Ok(Resolved { version: version.clone(), why })
    }

    /// The version that the version option names, or the tag of the image option.
    fn chosen(
        &self,
        options: &Options,
        component: &str,
        version_option: &str,
        image_option: &str,
    ) -> Option<Resolved> {
        let newest_patch = |major, minor| {
            self.versions(component).into_iter().rfind(|known| (known.major, known.minor) == (major, minor))
        };
        let asked = || Why::Requested { option: version_option.to_owned() };
        match options.versions.get(component)? {
            VersionChoice::Exact(version) => Some(Resolved { version: version.clone(), why: asked() }),
            VersionChoice::Minor(major, minor) => {
                Some(Resolved { version: newest_patch(*major, *minor)?, why: asked() })
            }
            VersionChoice::Auto => {
                let tag = options.images.get(image_option).and_then(ImageRef::tag)?;
                let TagVersion { major, minor, patch } = TagVersion::of(tag)?;
                let exact = patch.map(|patch| Version::new(major, minor, patch));
                let known = exact.filter(|version| self.component(component, version).is_ok());
                let version = known.or_else(|| newest_patch(major, minor))?;
                Some(Resolved {
                    version,
                    why: Why::Tag { option: image_option.to_owned(), tag: tag.to_owned() },
                })
            }
        }
    }

    fn runtimes(
        &self,
        options: &Options,
        version: &Version,
        errors: &mut Vec<OptionError>,
    ) -> Result<BTreeSet<String>, LookupError> {
        let known = &self.component(RUNTIMES, version)?.runtimes;
        let allowed =
            |needs: Option<&String>| needs.is_none_or(|option| option == DATA_CACHE && options.data_cache);
        let chosen = match &options.runtimes {
            RuntimeChoice::All => {
                return Ok(known
                    .iter()
                    .filter(|(_, runtime)| allowed(runtime.needs.as_ref()))
                    .map(|(name, _)| name.clone())
                    .collect());
            }
            RuntimeChoice::Named(names) => names,
        };
        for name in chosen {
            let rule = match known.get(name) {
                None => Rule::UnknownRuntime(name.clone()),
                Some(runtime) if !allowed(runtime.needs.as_ref()) => Rule::RuntimeNeeds {
                    runtime: name.clone(),
                    needs: runtime.needs.clone().unwrap_or_default(),
                },
                Some(_) => continue,
            };
            let near = match &rule {
                Rule::UnknownRuntime(_) => nearest(name, known.keys().map(String::as_str)),
                _ => None,
            };
            errors.push(options.error(RUNTIMES, rule, near));
            break;
        }
        Ok(chosen.clone())
    }
}

/// Whether a version of the trainer has an image of ours that takes the place of its controller.
fn has_native(trainer: &Component) -> bool {
    trainer.manifest.images.values().any(|image| image.native.is_some())
}

/// Overrides whose tag says that they hold another minor version than the chosen one.
fn tag_mismatches<'a>(
    options: &'a Options,
    components: &'a BTreeMap<String, Resolved>,
) -> impl Iterator<Item = OptionError> + 'a {
    VERSIONED.iter().filter_map(|row| {
        let tag = options.images.get(row.image_option)?.tag()?;
        let chosen = &components.get(row.component)?.version;
        let said = TagVersion::of(tag)?;
        // Only a whole X.Y.Z says what is inside; `2.2` may be a channel of any release.
        if said.patch.is_none() || (said.major, said.minor) == (chosen.major, chosen.minor) {
            return None;
        }
        let rule = Rule::TagMismatch {
            tag: tag.to_owned(),
            component: row.component.to_owned(),
            version: chosen.clone(),
        };
        Some(options.error(row.image_option, rule, None))
    })
}
