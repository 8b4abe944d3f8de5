//! The catalog: all versions of all components that this build can install.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use thiserror::Error;

use crate::component::{Component, Dangling, Manifest, NODE, RuntimeEntry};
use crate::embedded;
use crate::options::{InvalidOptions, Known, Options, Raw};
use crate::process::Process;
use crate::schema::{Schema, SchemaError};
use crate::templates::{TemplateError, Templates};

/// Why no catalog can be made of its files: this build is broken.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The schema of the options.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A file is not what it should be.
    #[error("failed to read {file}")]
    Read {
        /// The file, from the root of the repository.
        file: String,
        /// What is wrong.
        source: serde_yaml::Error,
    },
    /// A file that a component refers to is not there.
    #[error("{file} is missing, which {component} {version} refers to")]
    MissingFile {
        /// The file, from the root of the repository.
        file: String,
        /// The component.
        component: String,
        /// Its version.
        version: Version,
    },
    /// A reference inside a component leads nowhere.
    #[error(transparent)]
    Dangling(#[from] Dangling),
    /// The templates.
    #[error(transparent)]
    Templates(#[from] TemplateError),
}

/// What the catalog was asked for and does not have.
#[derive(Debug, Error)]
pub enum LookupError {
    /// No component has this name.
    #[error("unknown component {name}")]
    Component {
        /// The name.
        name: String,
        /// The catalog's components.
        known: Vec<String>,
    },
    /// There is no such version of a component.
    #[error("unknown version {version} of {component}")]
    Version {
        /// The component.
        component: String,
        /// The version.
        version: Version,
        /// The versions of the catalog, oldest first.
        known: Vec<Version>,
    },
}

/// All versions of all components, their templates, and the schema of the options. Immutable.
#[derive(Clone, Debug)]
pub struct Catalog {
    schema: Schema,
    components: BTreeMap<String, BTreeMap<Version, Component>>,
    templates: Templates,
}

impl Catalog {
    /// The catalog of this build. An error means that the build is broken.
    pub fn builtin() -> Result<Self, LoadError> {
        Self::new(Schema::builtin()?, embedded::FILES)
    }

    /// A catalog of files: paths as below `templates/`, and their texts. What is named `component.yaml` is a
    /// version of a component; every other file is a template or a table that one of those names.
    ///
    /// # Errors
    /// For a file that is malformed or missing, and for a reference inside a component that leads nowhere.
    pub fn new(schema: Schema, files: &[(&str, &str)]) -> Result<Self, LoadError> {
        let texts: BTreeMap<&str, &str> = files.iter().copied().collect();
        let mut components: BTreeMap<String, BTreeMap<Version, Component>> = BTreeMap::new();
        for (path, text) in files.iter().filter(|(path, _)| path.ends_with("/component.yaml")) {
            let manifest: Manifest = read(path, text)?;
            let component = Component { runtimes: runtimes(&manifest, &texts)?, manifest };
            check(&component, &texts)?;
            let manifest = &component.manifest;
            let versions = components.entry(manifest.name.clone()).or_default();
            versions.insert(manifest.version.clone(), component);
        }
        // Whatever is no description and no table is a template; those that no component names are included by others.
        let tables: BTreeSet<&str> = components
            .values()
            .flat_map(BTreeMap::values)
            .filter_map(|component| Some(component.manifest.runtimes.as_ref()?.table.as_str()))
            .collect();
        let templates =
            files.iter().filter(|(path, _)| !path.ends_with("/component.yaml") && !tables.contains(path));
        Ok(Self { schema, templates: Templates::new(templates.copied())?, components })
    }

    /// The schema of the options.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The names of the components, sorted.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.components.keys().map(String::as_str)
    }

    /// The versions of a component, oldest first; none for an unknown component.
    pub fn versions(&self, component: &str) -> Vec<Version> {
        self.components.get(component).map(|versions| versions.keys().cloned().collect()).unwrap_or_default()
    }

    /// The newest version of a component; `None` for an unknown component.
    pub fn newest(&self, component: &str) -> Option<&Version> {
        self.components.get(component)?.keys().next_back()
    }

    /// Reads the options that somebody gave, merged by precedence; the others take their defaults.
    ///
    /// # Errors
    /// Every bad option at once, sorted by name: unknown names, values of another type, values that break the
    /// option's rule, versions, components, runtimes and keys that the catalog has nowhere.
    pub fn parse_options(&self, given: &BTreeMap<String, Raw>) -> Result<Options, InvalidOptions> {
        let versions = self.components().map(|component| (component, self.versions(component)));
        let known = Known {
            schema: &self.schema,
            versions: versions.collect(),
            runtimes: self.runtime_names(),
            runtime_images: self.runtime_image_keys(),
        };
        Options::parse(&known, given)
    }

    /// The processes of a version of a component, by name; none where it has none, or is not known.
    pub fn processes(&self, component: &str, version: &Version) -> BTreeMap<String, Process> {
        self.component(component, version)
            .map(|component| component.manifest.processes.clone())
            .unwrap_or_default()
    }

    /// The options that change what a version of a component renders, beside its own version.
    pub fn options_of(&self, component: &str, version: &Version) -> Result<&[String], LookupError> {
        Ok(&self.component(component, version)?.manifest.options)
    }

    /// The CRDs of a component at its newest version, by name; none for an unknown component.
    pub fn crds_of(&self, component: &str) -> impl Iterator<Item = &str> {
        let newest = self.components.get(component).and_then(|versions| versions.values().next_back());
        newest
            .into_iter()
            .flat_map(|component| &component.manifest.crds)
            .filter(|crd| !crd.native)
            .map(|crd| crd.name.as_str())
    }

    fn runtime_names(&self) -> BTreeSet<&str> {
        self.all().flat_map(|component| component.runtimes.keys().map(String::as_str)).collect()
    }

    fn runtime_image_keys(&self) -> BTreeSet<&str> {
        let shared = self.all().flat_map(|component| component.manifest.images.values());
        shared.filter_map(|image| image.key.as_deref()).chain(self.runtime_names()).collect()
    }

    pub(crate) fn component(&self, name: &str, version: &Version) -> Result<&Component, LookupError> {
        let versions = self.components.get(name).ok_or_else(|| self.unknown(name))?;
        versions.get(version).ok_or_else(|| LookupError::Version {
            component: name.to_owned(),
            version: version.clone(),
            known: versions.keys().cloned().collect(),
        })
    }

    /// That there is no component of that name.
    pub(crate) fn unknown(&self, name: &str) -> LookupError {
        LookupError::Component { name: name.to_owned(), known: self.components.keys().cloned().collect() }
    }

    pub(crate) fn templates(&self) -> &Templates {
        &self.templates
    }

    fn all(&self) -> impl Iterator<Item = &Component> {
        self.components.values().flat_map(BTreeMap::values)
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, LoadError> {
    serde_yaml::from_str(text).map_err(|source| LoadError::Read { file: format!("templates/{path}"), source })
}

/// The runtimes that a version lists, from the table that it names.
fn runtimes(
    manifest: &Manifest,
    texts: &BTreeMap<&str, &str>,
) -> Result<BTreeMap<String, RuntimeEntry>, LoadError> {
    let Some(list) = &manifest.runtimes else { return Ok(BTreeMap::new()) };
    let text = texts.get(list.table.as_str()).ok_or_else(|| missing(manifest, &list.table))?;
    let mut table: BTreeMap<String, RuntimeEntry> = read(&list.table, text)?;
    let entry = |name: &String| {
        let entry = table.remove(name).ok_or_else(|| manifest.dangling(format!("runtime {name}")))?;
        Ok((name.clone(), entry))
    };
    list.names.iter().map(entry).collect()
}

/// Whether everything that a version refers to exists.
fn check(component: &Component, texts: &BTreeMap<&str, &str>) -> Result<(), LoadError> {
    let manifest = &component.manifest;
    for file in files(component) {
        if !texts.contains_key(file.as_str()) {
            return Err(missing(manifest, file));
        }
    }
    for (name, runtime) in &component.runtimes {
        if !runtime.images.contains_key(NODE) {
            return Err(manifest.dangling(format!("image {NODE} of runtime {name}")).into());
        }
        if let Some(image) = runtime.images.values().find(|image| !manifest.images.contains_key(*image)) {
            return Err(manifest.dangling(format!("image {image}")).into());
        }
    }
    let reference =
        |image: &&crate::component::ImageEntry| image.default.parse::<crate::image::ImageRef>().is_err();
    match manifest.images.values().find(reference) {
        Some(image) => Err(manifest.dangling(format!("image {}", image.default)).into()),
        None => Ok(()),
    }
}

/// The templates that a version renders.
fn files(component: &Component) -> impl Iterator<Item = &String> {
    let runtimes = component.runtimes.values().map(|runtime| &runtime.file);
    component.manifest.files.iter().chain(&component.manifest.probes).chain(runtimes)
}

fn missing(manifest: &Manifest, file: &str) -> LoadError {
    LoadError::MissingFile {
        file: format!("templates/{file}"),
        component: manifest.name.clone(),
        version: manifest.version.clone(),
    }
}
