//! What can be wrong with an option, in the words that every face of the product shows.

use std::fmt;

use semver::{Version, VersionReq};
use serde_json::Value;
use thiserror::Error;

use crate::patches::PatchFault;
use crate::schema::OptionType;

/// The rule that a value breaks. Its text is the public one: the same in the charm's status, on the
/// terminal and in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rule {
    /// No option has this name.
    #[error("unknown option")]
    UnknownOption,
    /// The value is of another type.
    #[error("must be {0}")]
    Type(OptionType),
    /// The value is none of the few that the option takes.
    #[error("must be {}", Alternatives(.0))]
    OneOf(&'static [&'static str]),
    /// The native reconciler does not take the place of this version's controller.
    #[error("{value} does not fit trainer {trainer}; use trainer {}", Listed(.fitting))]
    NoNative {
        /// The value that asks for it.
        value: &'static str,
        /// The chosen version of the trainer.
        trainer: Version,
        /// The versions that it fits, oldest first.
        fitting: Vec<Version>,
    },
    /// The number is too small or too big.
    #[error("must be {min} to {max}{unit}")]
    Range {
        /// The smallest valid value.
        min: u32,
        /// The biggest valid value.
        max: u32,
        /// ` seconds`, or nothing.
        unit: &'static str,
    },
    /// The text is no image reference, or one without tag and digest.
    #[error("not an image reference")]
    BadImage,
    /// The image's tag says that it holds another version.
    #[error("tag {tag} does not match {component} {version}")]
    TagMismatch {
        /// The tag.
        tag: String,
        /// The component whose image it is.
        component: String,
        /// The chosen version of that component.
        version: Version,
    },
    /// The catalog does not have the version.
    #[error("unknown version {version}; known: {}", Listed(.known))]
    UnknownVersion {
        /// The version as it was given.
        version: String,
        /// The versions of the catalog, oldest first.
        known: Vec<Version>,
    },
    /// The version is not one that the chosen trainer works with: its needs cannot be satisfied.
    #[error("{version} does not fit trainer {trainer}; use {range}")]
    Unfit {
        /// The version.
        version: Version,
        /// The chosen version of the trainer.
        trainer: Version,
        /// The versions that fit.
        range: VersionReq,
    },
    /// No component has this name.
    #[error("unknown component {0}")]
    UnknownComponent(String),
    /// The trainer is missing from the components.
    #[error("trainer is required")]
    TrainerRequired,
    /// No runtime has this name, or not in the chosen version.
    #[error("unknown runtime {0}")]
    UnknownRuntime(String),
    /// The runtime works only with an option that is off.
    #[error("{runtime} needs {needs}")]
    RuntimeNeeds {
        /// The runtime.
        runtime: String,
        /// The option to turn on.
        needs: String,
    },
    /// An entry of a list, counted from one, is not of the form `key=image`.
    #[error("entry {0} is not key=image")]
    NotKeyImage(usize),
    /// An entry of a list, counted from one, names no field of a kind.
    #[error("entry {0} is not Kind[/name]:/json/pointer")]
    NotAPointer(usize),
    /// The key stands for no image.
    #[error("unknown key {0}")]
    UnknownKey(String),
    /// The data cache runs on LeaderWorkerSets.
    #[error("needs lws in components")]
    NeedsLws,
    /// Pods report to a controller that they reach by a Service.
    #[error("needs reconciler native or upstream; no pod reaches a hosted one")]
    NotHosted,
    /// The text names no registry.
    #[error("must be host[:port][/path] without scheme")]
    BadRegistry,
    /// The text is no list of patches.
    #[error("must be a list of patches in YAML: {0}")]
    NotPatches(String),
    /// A patch, counted from one, that cannot be applied.
    #[error("entry {0}: {1}")]
    Patch(usize, PatchFault),
    /// The text cannot be the name of a Secret.
    #[error("{0} is not a Secret name")]
    BadSecretName(String),
}

/// An option with a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid value {} for option {option}: {rule}", Shown(.value))]
pub struct OptionError {
    /// The option's name as it was given.
    pub option: String,
    /// The value as it was given.
    pub value: Value,
    /// What is wrong with it.
    pub rule: Rule,
    /// The nearest valid spelling of the name or the value, where one is near.
    pub nearest: Option<String>,
}

/// One or more bad options, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct InvalidOptions(Vec<OptionError>);

impl InvalidOptions {
    /// `Ok` if there is nothing wrong, else all that is, sorted by option.
    pub fn check(mut errors: Vec<OptionError>) -> Result<(), Self> {
        errors.sort_by(|a, b| a.option.cmp(&b.option));
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// The same with each error told otherwise.
    pub(crate) fn map(self, each: impl FnMut(OptionError) -> OptionError) -> Self {
        Self(self.0.into_iter().map(each).collect())
    }

    /// The errors, sorted by option; at least one.
    pub fn errors(&self) -> &[OptionError] {
        &self.0
    }
}

impl fmt::Display for InvalidOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.0.first() {
            first.fmt(f)?;
        }
        match self.0.len() {
            0 | 1 => Ok(()),
            all => write!(f, " (+{} more)", all - 1),
        }
    }
}

/// `force, refuse or yield`.
struct Alternatives<'a>(&'a [&'a str]);

impl fmt::Display for Alternatives<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => f.write_str(only),
            [most @ .., last] => write!(f, "{} or {last}", most.join(", ")),
        }
    }
}

struct Listed<'a>(&'a [Version]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Version::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// A value as an error shows it: JSON, cut where it would fill the terminal.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: usize = 120;
        let text = self.0.to_string();
        match text.char_indices().nth(WIDTH) {
            Some((cut, _)) => write!(f, "{}…", &text[..cut]),
            None => f.write_str(&text),
        }
    }
}
