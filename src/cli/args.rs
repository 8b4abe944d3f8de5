//! Options that verbs share.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};
use jiff::SignedDuration;
use trainerd_catalog::Catalog;
use trainerd_plan::allowed::Allowed;
use trainerd_plan::desired::{Installation, Naming};

use crate::options::{Assignment, Given, environment};
use crate::problem::Problem;

/// Which cluster and which installation.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster and installation")]
pub(crate) struct ClusterArgs {
    /// Path of the kubeconfig
    ///
    /// Default: $KUBECONFIG, then ~/.kube/config, then the service account of the pod.
    #[arg(long, global = true, value_name = "FILE", env = "TRAINERD_KUBECONFIG", hide_env_values = true)]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig; its current context by default
    #[arg(long, global = true, value_name = "NAME", env = "TRAINERD_CONTEXT", hide_env_values = true)]
    pub(crate) context: Option<String>,

    /// Namespace of the installation
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAMESPACE",
        default_value = "kubeflow-system",
        value_parser = label,
        env = "TRAINERD_NAMESPACE",
        hide_env_values = true
    )]
    pub(crate) namespace: String,

    /// Name of the installation, unique in its namespace
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "kubeflow-trainer",
        value_parser = label,
        env = "TRAINERD_NAME",
        hide_env_values = true
    )]
    pub(crate) name: String,

    /// How the objects of a new installation are named
    ///
    /// An existing installation keeps its names.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "NAMES",
        default_value = "upstream",
        env = "TRAINERD_NAMING",
        hide_env_values = true
    )]
    pub(crate) naming: NamingArg,

    /// Field manager of every write
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "trainerd",
        env = "TRAINERD_FIELD_MANAGER",
        hide_env_values = true
    )]
    pub(crate) field_manager: String,

    /// Act in the place of the daemon whose options come over its API, as the charm's hooks do where it does not answer
    #[arg(long, global = true, hide = true)]
    pub(crate) for_daemon: bool,
}

impl ClusterArgs {
    /// The installation they name.
    pub(crate) fn installation(&self) -> Installation {
        Installation { name: self.name.clone(), namespace: self.namespace.clone() }
    }
}

/// How objects are called.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum NamingArg {
    /// As in upstream's manifests
    Upstream,
    /// After the installation, as the Juju charm names them after its application
    Charm,
}

impl From<NamingArg> for Naming {
    fn from(naming: NamingArg) -> Self {
        match naming {
            NamingArg::Upstream => Self::Upstream,
            NamingArg::Charm => Self::Charm,
        }
    }
}

/// How a change is made.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Running")]
pub(crate) struct RunArgs {
    /// Do not ask for confirmation; required by remove and --allow without a terminal
    #[arg(
        short,
        long,
        global = true,
        value_parser = BoolishValueParser::new(),
        env = "TRAINERD_YES",
        hide_env_values = true
    )]
    pub(crate) yes: bool,

    /// Longest time to wait, for example 90s or 5m; by default, as long as there is progress
    #[arg(long, global = true, value_name = "DURATION", env = "TRAINERD_TIMEOUT", hide_env_values = true)]
    pub(crate) timeout: Option<Timeout>,
}

/// What is printed, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// How data and progress are printed
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        env = "TRAINERD_OUTPUT",
        hide_env_values = true
    )]
    pub(crate) output: Option<Format>,

    /// Print without colours, as with NO_COLOR in the environment
    #[arg(
        long,
        global = true,
        value_parser = BoolishValueParser::new(),
        env = "TRAINERD_NO_COLOR",
        hide_env_values = true
    )]
    pub(crate) no_color: bool,

    /// Print only errors on stderr
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        value_parser = BoolishValueParser::new(),
        env = "TRAINERD_QUIET",
        hide_env_values = true
    )]
    pub(crate) quiet: bool,

    /// Print more detail; twice logs every request
    #[arg(
        short,
        long,
        global = true,
        action = ArgAction::Count,
        env = "TRAINERD_VERBOSE",
        hide_env_values = true
    )]
    pub(crate) verbose: u8,
}

/// The options of the stack.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of the stack")]
pub(crate) struct OptionArgs {
    /// YAML file with options, one `name: value` per line; - reads standard input
    ///
    /// `trainerd config schema` lists the options. --set and the environment take precedence.
    #[arg(long, value_name = "FILE", env = "TRAINERD_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) set: SetArgs,
}

impl OptionArgs {
    /// The options as they were given: file, environment and `--set`.
    pub(crate) fn given(&self, catalog: &Catalog) -> Result<Given, Problem> {
        Given::read(catalog, self.config.as_deref(), &environment, &self.set.set)
    }
}

/// Options one by one.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of the stack")]
pub(crate) struct SetArgs {
    /// Set an option; repeatable
    ///
    /// In the environment, TRAINERD_SETTLE=10 is the same as --set settle=10, and TRAINERD_SET holds several NAME=VALUE,
    /// one per line.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<Assignment>,
}

/// What may be lost.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Running")]
pub(crate) struct AllowArgs {
    /// Allow what is refused by default; repeatable
    #[arg(
        long = "allow",
        value_name = "RULE",
        env = "TRAINERD_ALLOW",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) allow: Vec<Allow>,
}

impl AllowArgs {
    /// What is allowed.
    pub(crate) fn allowed(&self) -> Allowed {
        let allows = |rule| self.allow.contains(&rule);
        Allowed {
            lossy: allows(Allow::Lossy),
            in_use: allows(Allow::InUse),
            recreate: allows(Allow::Recreate),
        }
    }

    /// Whether the version of a component that is left to others may be unknown.
    pub(crate) fn unknown_version(&self) -> bool {
        self.allow.contains(&Allow::UnknownVersion)
    }
}

/// A rule that `--allow` lifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Allow {
    /// A rollback may change CRDs, which may drop the values of newer fields
    Lossy,
    /// A component that trainerd does not manage may have an unknown version
    UnknownVersion,
    /// Training runtimes that TrainJobs use may be deleted
    InUse,
    /// Objects whose immutable fields differ may be deleted and recreated
    Recreate,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One document; progress is one JSON object per line
    Json,
    /// One document; progress is one document per event
    Yaml,
}

/// How long to wait: longer than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) Duration);

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration with a unit, for example 90s, 5m or 1h30m")]
pub(crate) struct NotADuration;

impl FromStr for Timeout {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let span: SignedDuration = text.parse().map_err(|_| NotADuration)?;
        match Duration::try_from(span) {
            Ok(duration) if !duration.is_zero() => Ok(Self(duration)),
            _ => Err(NotADuration),
        }
    }
}

/// A text that is no DNS label (RFC 1123), which the names of namespaces are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct NotALabel;

impl fmt::Display for NotALabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")
    }
}

/// Reads a DNS label.
pub(crate) fn label(text: &str) -> Result<String, NotALabel> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let valid = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if valid { Ok(text.to_owned()) } else { Err(NotALabel) }
}

/// A text that is no number of a revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the number of a revision, from 1")]
pub(crate) struct NotARevision;

/// Reads the number of a revision.
pub(crate) fn revision(text: &str) -> Result<u64, NotARevision> {
    text.parse().ok().filter(|number| *number > 0).ok_or(NotARevision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_need_a_unit() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("1h30m", Some(5400)),
            ("90", None),
            ("0s", None),
            ("-5s", None),
            ("soon", None),
            ("", None),
        ] {
            let parsed = text.parse::<Timeout>().ok().map(|timeout| timeout.0.as_secs());
            assert_eq!(parsed, seconds, "{text:?}");
        }
    }

    #[test]
    fn an_assignment_splits_at_the_first_equals_sign() {
        for (text, parts) in [
            ("settle=10", Some(("settle", "10"))),
            ("runtime-images=torch-distributed=a/b:1", Some(("runtime-images", "torch-distributed=a/b:1"))),
            ("image-registry=", Some(("image-registry", ""))),
            ("settle", None),
            ("=10", None),
        ] {
            let parsed = text.parse::<Assignment>().ok();
            let expected = parts.map(|(name, value)| Assignment { name: name.into(), value: value.into() });
            assert_eq!(parsed, expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for (text, good) in [
            ("kubeflow-system", true),
            ("a", true),
            ("", false),
            ("My_NS", false),
            ("-a", false),
            ("a.b", false),
        ] {
            assert_eq!(label(text).is_ok(), good, "{text:?}");
        }
        assert!(label(&"a".repeat(64)).is_err());
    }
}
