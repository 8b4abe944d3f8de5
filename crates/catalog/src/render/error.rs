//! Why nothing is rendered.

use semver::Version;
use thiserror::Error;

use crate::catalog::LookupError;
use crate::component::Dangling;
use crate::options::InvalidOptions;
use crate::templates::TemplateError;

/// Why nothing is rendered.
#[derive(Debug, Error)]
pub enum RenderError {
    /// The installation's namespace cannot be the name of one.
    #[error("{namespace:?} is not the name of a namespace")]
    Namespace {
        /// The name.
        namespace: String,
    },
    /// Patches that cannot be applied to what is rendered.
    #[error(transparent)]
    Patches(#[from] InvalidOptions),
    /// The catalog does not have what is to be rendered.
    #[error(transparent)]
    Unknown(#[from] LookupError),
    /// A template.
    #[error(transparent)]
    Template(#[from] TemplateError),
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
    /// A component refers to something of its own that it does not have.
    #[error(transparent)]
    Dangling(#[from] Dangling),
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
    #[error("whose kind and namespace do not match")]
    Scope,
    /// It uses an image that the component does not declare, so nobody could enumerate or override it.
    #[error("which uses the undeclared image {0}")]
    UndeclaredImage(String),
    /// It sets what controllers in the cluster write: `rules` of an aggregated ClusterRole, a `caBundle`.
    #[error("which sets {0}, a field that controllers write")]
    ForeignField(&'static str),
}
