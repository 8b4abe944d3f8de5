//! What can be wrong with a catalog, or with what is asked of it.

use std::fmt;

use semver::{Version, VersionReq};
use thiserror::Error;

use crate::options::InvalidOptions;
use crate::resolve::Needed;

/// Why a component, its versions or its manifests cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Values that the options cannot have.
    #[error(transparent)]
    Options(#[from] InvalidOptions),
    /// A file of options is not a YAML mapping.
    #[error("failed to read options from {file}, line {line}")]
    OptionsFile {
        /// The file, as it was given.
        file: String,
        /// The line where it shows, counted from one.
        line: usize,
        /// What is wrong there.
        source: serde_yaml::Error,
    },
    /// A file of options holds more than one document.
    #[error("failed to read options from {file}: more than one YAML document")]
    OptionsDocuments {
        /// The file, as it was given.
        file: String,
    },
    /// No component has this name.
    #[error("unknown component {name}")]
    UnknownComponent {
        /// The name.
        name: String,
        /// The catalog's components.
        known: Vec<String>,
    },
    /// The catalog does not have this version of a component.
    #[error("unknown version {version} of {component}")]
    UnknownVersion {
        /// The component.
        component: String,
        /// The version.
        version: Version,
        /// The versions of the catalog, oldest first.
        known: Vec<Version>,
    },
    /// A component that is left to others is absent from the cluster, or at a version that does not fit.
    #[error("{}", Unmet(.component, .needed, .found.as_ref()))]
    UnmetNeed {
        /// The component.
        component: String,
        /// What needs it, and which versions fit.
        needed: Box<Needed>,
        /// The version in the cluster, `None` if it is not there.
        found: Option<Version>,
    },
    /// The cluster's Kubernetes is not one that a component runs on.
    #[error("Kubernetes {found} is out of range for {component} {version}, which needs {range}")]
    Kubernetes {
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
    KubernetesVersion {
        /// The version as the server gives it.
        text: String,
    },
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
    #[error("no way to upgrade {component} from {from} to {to}")]
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
    /// The installation's namespace cannot be the name of one.
    #[error("{namespace:?} is not the name of a namespace")]
    Namespace {
        /// The name.
        namespace: String,
    },
    /// A template names a variable that it is not given.
    #[error("unknown variable {variable} in {file}, line {line}")]
    UnknownVariable {
        /// The template, from the root of the repository.
        file: String,
        /// The line, counted from one.
        line: usize,
        /// The variable, with its fields: `images.manager`.
        variable: String,
    },
    /// A template cannot be rendered.
    #[error("failed to render {file}, line {line}")]
    Template {
        /// The template, from the root of the repository.
        file: String,
        /// The line, counted from one.
        line: usize,
        /// What is wrong there.
        source: tera::Error,
    },
    /// Templates cannot be parsed.
    #[error("failed to parse the templates")]
    Templates {
        /// What is wrong, with file and line.
        source: tera::Error,
    },
    /// A rendered template is not YAML.
    #[error("failed to read what {file} renders")]
    Manifest {
        /// The template, from the root of the repository.
        file: String,
        /// What is wrong.
        source: serde_yaml::Error,
    },
    /// A rendered object breaks a rule that every object keeps.
    #[error("{file} renders {object}, {fault}")]
    Object {
        /// The template, from the root of the repository.
        file: String,
        /// Kind and name, as far as it has them.
        object: String,
        /// The rule.
        fault: ObjectFault,
    },
    /// Two templates render the same object.
    #[error("{object} is rendered twice")]
    Twice {
        /// The object.
        object: String,
    },
    /// The type table does not have a CRD that a component lists.
    #[error("failed to make CRD {name} of {component} {version}")]
    Crd {
        /// The CRD.
        name: String,
        /// The component.
        component: String,
        /// Its version.
        version: Version,
        /// What is wrong.
        source: Box<trainerd_api::crds::UnknownCrd>,
    },
    /// The type table does not read: this build is broken.
    #[error("failed to read the type table")]
    Table(#[source] &'static trainerd_schema::ParseError),
    /// A file of the catalog is not what it should be: this build is broken.
    #[error("failed to read {file}")]
    Broken {
        /// The file, from the root of the repository.
        file: String,
        /// What is wrong.
        source: serde_yaml::Error,
    },
    /// A file that the catalog refers to is not in it: this build is broken.
    #[error("{file} is missing, which {component} {version} refers to")]
    MissingFile {
        /// The file, from the root of the repository.
        file: String,
        /// The component.
        component: String,
        /// Its version.
        version: Version,
    },
    /// A component refers to something of its own that it does not have: this build is broken.
    #[error("{component} {version} refers to {what}, which it does not have")]
    Dangling {
        /// The component.
        component: String,
        /// Its version.
        version: Version,
        /// What it refers to.
        what: String,
    },
    /// The default of an option is not of its type: this build is broken.
    #[error("the default of option {option} is of another type")]
    Default {
        /// The option.
        option: String,
    },
}

/// A rule that a rendered object breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ObjectFault {
    /// It lacks `apiVersion`, `kind` or `metadata.name`.
    #[error("which lacks apiVersion, kind or name")]
    Nameless,
    /// Its kind is not in the table of kinds.
    #[error("of a kind that the catalog does not know")]
    UnknownKind,
    /// Its kind lives in a namespace and it has none, or the reverse.
    #[error("whose kind and namespace do not go together")]
    Scope,
    /// It uses an image that the component does not declare, so nobody could enumerate or override it.
    #[error("which uses the undeclared image {0}")]
    UndeclaredImage(String),
    /// It sets what controllers in the cluster write: `rules` of an aggregated ClusterRole, a `caBundle`.
    #[error("which sets {0}, a field that controllers write")]
    ForeignField(&'static str),
}

/// `jobset is not in the cluster; trainer 2.3.0 needs >=0.12.0, <0.13.0`.
struct Unmet<'a>(&'a str, &'a Needed, Option<&'a Version>);

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(component, needed, found) = self;
        match found {
            Some(version) => write!(f, "{component} {version} in the cluster does not fit")?,
            None => write!(f, "{component} is not in the cluster")?,
        }
        write!(f, "; {} {} needs {}", needed.by, needed.version, needed.range)
    }
}
