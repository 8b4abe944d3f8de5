//! The options: from whatever text or value somebody gave, to types that hold no bad value.

mod error;
mod file;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use semver::Version;
use serde_json::Value;
use trainerd_plan::crd_policy::CrdPolicy;
use trainerd_plan::drift::{Ignored, Policy};
pub use trainerd_plan::request::Conflicts;

pub use error::{InvalidOptions, OptionError, Rule};
pub use file::{OptionsFileError, parse_options_file};
pub(crate) use read::is_label;

use crate::image::{ImageRef, Registry};
use crate::patches::Patch;
use crate::schema::Schema;

/// A component whose version and image are options, and which `components` selects.
pub(crate) struct Versioned {
    pub(crate) component: &'static str,
    pub(crate) version_option: &'static str,
    pub(crate) image_option: &'static str,
}

/// The components that have options of their own, the trainer first: the others follow it.
pub(crate) const VERSIONED: [Versioned; 3] = [
    Versioned {
        component: "trainer",
        version_option: "trainer-version",
        image_option: "kubeflow-trainer-image",
    },
    Versioned { component: "jobset", version_option: "jobset-version", image_option: "jobset-image" },
    Versioned { component: "lws", version_option: "lws-version", image_option: "lws-image" },
];

/// The option that names the daemon's image.
pub(crate) const DAEMON_IMAGE: &str = "trainerd-image";

/// The option that holds patches of rendered objects.
pub(crate) const PATCHES: &str = "patches";

/// What options there are, and what their values may name.
pub(crate) struct Known<'a> {
    pub(crate) schema: &'a Schema,
    /// The components, each with its versions, oldest first.
    pub(crate) versions: BTreeMap<&'a str, Vec<Version>>,
    /// The runtimes of any version.
    pub(crate) runtimes: BTreeSet<&'a str>,
    /// The keys of `runtime-images`: runtimes, and images that several share.
    pub(crate) runtime_images: BTreeSet<&'a str>,
}

/// The value of an option as somebody gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// A text, read by the option's type: from a command line or the environment.
    Text(String),
    /// A value that has a type already: from a YAML file, an API or a revision.
    Typed(Value),
}

impl From<&str> for Raw {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Raw {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Raw {
    fn from(value: Value) -> Self {
        Self::Typed(value)
    }
}

/// Which version of a component is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionChoice {
    /// What the image's tag says, else what goes with everything else.
    Auto,
    /// The newest patch of `X.Y`.
    Minor(u64, u64),
    /// Exactly this one.
    Exact(Version),
}

impl fmt::Display for VersionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Minor(major, minor) => write!(f, "{major}.{minor}"),
            Self::Exact(version) => version.fmt(f),
        }
    }
}

/// Which training runtimes are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// All that the chosen version has and the other options allow.
    All,
    /// These; possibly none.
    Named(BTreeSet<String>),
}

/// Whose program does a part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Kubeflow's.
    Upstream,
    /// Ours, in its place.
    Native,
}

/// Which controller reconciles TrainJobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciler {
    /// Kubeflow's controller manager.
    Upstream,
    /// Ours, in its place, from our own image.
    Native,
    /// Ours, as a process of the daemon.
    Hosted,
}

/// How much the daemon logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What went wrong and may go well again, too.
    Warn,
    /// What is done, too.
    Info,
    /// How, too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The value of the option.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// When another version is rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradePolicy {
    /// As soon as it is asked for.
    Auto,
    /// When a person says so.
    Manual,
}

/// Every option, valid by itself. Whether versions, images and runtimes go together is for
/// [`resolve`](crate::Catalog::resolve) to say.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "options that are on or off, each by itself")]
pub struct Options {
    /// Image overrides by option: absent where the catalog's image of the chosen version is meant, which is
    /// what the packaged default stands for too.
    pub images: BTreeMap<String, ImageRef>,
    /// The version asked for, by component; one entry for each of trainer, jobset and lws.
    pub versions: BTreeMap<String, VersionChoice>,
    /// Which controller reconciles TrainJobs.
    pub reconciler: Reconciler,
    /// Components to install; the trainer is among them.
    pub components: BTreeSet<String>,
    /// Training runtimes to install.
    pub runtimes: RuntimeChoice,
    /// Images of runtimes by the name of the runtime or the key of the image; all have a tag or a digest.
    pub runtime_images: BTreeMap<String, ImageRef>,
    /// Whether to install what the data cache needs.
    pub data_cache: bool,
    /// Whose head and workers the data cache has.
    pub data_cache_server: Provider,
    /// Whose initializers bring datasets and models.
    pub initializers: Provider,
    /// The registry that replaces the host of every image that no option gives with a host of its own.
    pub image_registry: Option<Registry>,
    /// Changes of what is rendered, in the order given.
    pub patches: Vec<Patch>,
    /// Names of Secrets with registry credentials, in the order given.
    pub image_pull_secrets: Vec<String>,
    /// What to do about fields of other managers.
    pub conflicts: Conflicts,
    /// What becomes of the CRDs of a component that leaves.
    pub crd_policy: CrdPolicy,
    /// What the daemon does about drift.
    pub drift_policy: Policy,
    /// Fields that are left to other managers once one owns them.
    pub drift_ignore: Vec<Ignored>,
    /// Seconds for which every object must stay ready before waiting ends.
    pub settle: u16,
    /// Whether controllers get one replica and small requests.
    pub small_footprint: bool,
    /// Whether training code may report its progress.
    pub train_job_status: bool,
    /// Whether a failed upgrade is rolled back automatically.
    pub auto_rollback: bool,
    /// Seconds that a hook of the charm waits for the installation to settle.
    pub hook_wait: u16,
    /// How much the daemon logs.
    pub log_level: LogLevel,
    /// When another version is rolled out.
    pub upgrade_policy: UpgradePolicy,
    /// Seconds without progress after which a plan counts as failed.
    pub progress_deadline: u16,
    /// Seconds after which what failed and was rolled back is retried automatically; 0: never.
    pub retry_failed: u32,
    /// How many revisions are kept.
    pub revision_history: u16,
    values: BTreeMap<String, Value>,
    given: Vec<String>,
}

impl Options {
    /// See [`parse_options`](crate::Catalog::parse_options).
    pub(crate) fn parse(known: &Known<'_>, given: &BTreeMap<String, Raw>) -> Result<Self, InvalidOptions> {
        read::options(known, given)
    }

    /// Every option by name with its value, defaults included.
    pub fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }

    /// Names of the options that were given rather than defaulted, sorted.
    pub fn given(&self) -> &[String] {
        &self.given
    }

    /// The same without patches.
    pub(crate) fn without_patches(&self) -> Self {
        Self { patches: Vec::new(), ..self.clone() }
    }

    /// An error about one of these options.
    pub(crate) fn error(&self, option: &str, rule: Rule, nearest: Option<String>) -> OptionError {
        let value = self.values.get(option).cloned().unwrap_or_default();
        OptionError { option: option.to_owned(), value, rule, nearest }
    }
}
