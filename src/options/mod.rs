//! The options of the stack, put together from where they may be given: flag, environment, file, default; and where an
//! installation has them declared.

pub(crate) mod declared;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;
use trainerd_catalog::{Catalog, Options, Raw, parse_options_file};

use crate::problem::{InputError, Problem, given_somewhere};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// `--set` on the command line, or what stands for it, such as `--to`.
    Flag,
    /// A variable of the environment.
    Environment,
    /// The file of `--config`.
    File,
    /// The ConfigMap that a daemon follows.
    #[serde(rename = "config-map")]
    ConfigMap,
    /// The API of a daemon.
    Api,
    /// The revision that is installed.
    Revision,
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::ConfigMap => "ConfigMap",
            Self::Api => "API",
            Self::Revision => "revision",
            Self::Default => "default",
        })
    }
}

/// A value as `--set` takes it.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Left of the first `=`.
    pub(crate) name: String,
    /// Right of it.
    pub(crate) value: String,
}

/// A text without `=`, or with nothing before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be NAME=VALUE")]
pub(crate) struct NotAnAssignment;

impl FromStr for Assignment {
    type Err = NotAnAssignment;

    fn from_str(text: &str) -> Result<Self, NotAnAssignment> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Self { name: name.trim().to_owned(), value: value.to_owned() })
            }
            _ => Err(NotAnAssignment),
        }
    }
}

/// The file that stands for standard input.
pub(crate) const STDIN: &str = "-";

/// The variables that trainerd reads, handed in so that nothing below reads the environment by itself.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's own environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    // What CI leaves unset comes as an empty text.
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Options as they were given, each with its source; later sources count more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    values: BTreeMap<String, (Raw, Source)>,
    /// Whether the version of a component that is left to others may be unknown.
    unknown_version: bool,
}

impl Given {
    /// From a file, the environment and `--set`, in that order.
    pub(crate) fn read(
        catalog: &Catalog,
        file: Option<&Path>,
        environment: Environment<'_>,
        set: &[Assignment],
    ) -> Result<Self, Problem> {
        let mut given = Self::default();
        if let Some(path) = file {
            given.add(read_file(path)?, &Source::File);
        }
        given.add(from_environment(catalog, environment)?, &Source::Environment);
        given.set(set);
        Ok(given)
    }

    /// All from one source.
    pub(crate) fn of(values: BTreeMap<String, Raw>, source: &Source) -> Self {
        let mut given = Self::default();
        given.add(values, source);
        given
    }

    /// From a revision: what was given then, by name, and the values of all.
    pub(crate) fn of_revision(names: &[String], values: &BTreeMap<String, Value>) -> Self {
        let mut given = Self::default();
        let typed =
            names.iter().filter_map(|name| Some((name.clone(), Raw::Typed(values.get(name)?.clone()))));
        given.add(typed, &Source::Revision);
        given
    }

    /// What the command line sets.
    pub(crate) fn set(&mut self, set: &[Assignment]) {
        let set = set.iter().map(|Assignment { name, value }| (name.clone(), Raw::Text(value.clone())));
        self.add(set, &Source::Flag);
    }

    /// One option, as if the command line had set it.
    pub(crate) fn set_one(&mut self, name: &str, value: &str) {
        self.add([(name.to_owned(), Raw::from(value))], &Source::Flag);
    }

    /// The same; whether the version of a component that is left to others may be unknown.
    #[must_use]
    pub(crate) fn allowing_unknown_version(self, unknown_version: bool) -> Self {
        Self { unknown_version, ..self }
    }

    /// Whether the version of a component that is left to others may be unknown.
    pub(crate) fn allows_unknown_version(&self) -> bool {
        self.unknown_version
    }

    /// What was given elsewhere and counts more.
    pub(crate) fn override_with(&mut self, other: Self) {
        self.unknown_version |= other.unknown_version;
        self.values.extend(other.values);
    }

    /// These, with what was given elsewhere and counts more.
    pub(crate) fn overridden_with(mut self, other: Self) -> Self {
        self.override_with(other);
        self
    }

    /// Takes an option back, whoever gave it.
    pub(crate) fn unset(&mut self, name: &str) {
        self.values.remove(name);
    }

    fn add(&mut self, values: impl IntoIterator<Item = (String, Raw)>, source: &Source) {
        self.values.extend(values.into_iter().map(|(name, raw)| (name, (raw, source.clone()))));
    }

    /// Whether nobody gave any.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Where the value of an option comes from.
    pub(crate) fn source(&self, option: &str) -> Source {
        self.values.get(option).map_or(Source::Default, |(_, source)| source.clone())
    }

    /// The text of an option that was given as one.
    pub(crate) fn text(&self, option: &str) -> Option<&str> {
        match &self.values.get(option)?.0 {
            Raw::Text(text) => Some(text),
            Raw::Typed(value) => value.as_str(),
        }
    }

    /// Whether nobody names this version: neither is it given, nor is it other than `auto`.
    pub(crate) fn is_default(&self, option: &str) -> bool {
        match self.values.get(option) {
            None => true,
            Some((Raw::Text(text), _)) => text == "auto",
            Some((Raw::Typed(value), _)) => value == "auto",
        }
    }

    /// The options, every one with a valid value. An error says where the bad value was given.
    pub(crate) fn parse(&self, catalog: &Catalog) -> Result<Options, Problem> {
        let raw = self.values.iter().map(|(name, (raw, _))| (name.clone(), raw.clone())).collect();
        catalog.parse_options(&raw).map_err(|invalid| {
            given_somewhere(&invalid, &|option| match self.source(option) {
                Source::Environment => Some(format!("given by {}", variable(option))),
                Source::File => Some("given in the file of --config".to_owned()),
                Source::ConfigMap => Some("given in the ConfigMap of --config-map".to_owned()),
                Source::Api => Some("given over the API".to_owned()),
                Source::Revision => Some("given in the installed revision".to_owned()),
                Source::Flag | Source::Default => None,
            })
        })
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Raw>, Problem> {
    let is_stdin = path == Path::new(STDIN);
    let text =
        if is_stdin { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|source| InputError::ReadFile { path: path.to_owned(), source })?;
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    Ok(parse_options_file(&name, &text)?)
}

/// `TRAINERD_SET`, one assignment a line, and `TRAINERD_<OPTION>` for each option, which counts more.
fn from_environment(
    catalog: &Catalog,
    environment: Environment<'_>,
) -> Result<Vec<(String, Raw)>, InputError> {
    let mut values = Vec::new();
    let set = environment("TRAINERD_SET").unwrap_or_default();
    for entry in set.lines().map(str::trim).filter(|entry| !entry.is_empty()) {
        let Assignment { name, value } =
            entry.parse().map_err(|_| InputError::EnvironmentSet { entry: entry.to_owned() })?;
        values.push((name, Raw::Text(value)));
    }
    let options = catalog.schema().options.keys();
    values.extend(
        options.filter_map(|option| Some((option.clone(), Raw::Text(environment(&variable(option))?)))),
    );
    Ok(values)
}

/// The variable that gives an option: `TRAINERD_JOBSET_IMAGE` for `jobset-image`.
pub(crate) fn variable(option: &str) -> String {
    format!("TRAINERD_{}", option.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        Catalog::builtin().unwrap()
    }

    #[test]
    fn the_precedence_is_flag_variable_file_default() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "settle: 1\nruntimes: none\nconflicts: yield\nrevision-history: 4\n")
            .unwrap();
        let set = ["settle=3".parse().unwrap()];
        let environment = |name: &str| match name {
            "TRAINERD_SETTLE" => Some("2".to_owned()),
            "TRAINERD_SET" => Some("runtimes=all\nconflicts=force\n".to_owned()),
            "TRAINERD_CONFLICTS" => Some("refuse".to_owned()),
            _ => None,
        };
        let catalog = catalog();
        let given = Given::read(&catalog, Some(file.path()), &environment, &set).unwrap();
        let options = given.parse(&catalog).unwrap();
        for (option, value, source) in [
            ("settle", Value::from(3), Source::Flag),
            ("runtimes", Value::from("all"), Source::Environment),
            ("conflicts", Value::from("refuse"), Source::Environment),
            ("revision-history", Value::from(4), Source::File),
            ("data-cache", Value::from(false), Source::Default),
        ] {
            assert_eq!((&options.values()[option], given.source(option)), (&value, source), "{option}");
        }
    }

    #[test]
    fn options_override_those_of_the_revision() {
        let values = BTreeMap::from([
            ("settle".to_owned(), Value::from(7)),
            ("runtimes".to_owned(), Value::from("x")),
        ]);
        let mut given = Given::of_revision(&["settle".to_owned()], &values);
        assert_eq!(given.source("settle"), Source::Revision);
        assert_eq!(given.source("runtimes"), Source::Default);
        given.set_one("settle", "8");
        assert_eq!(given.parse(&catalog()).unwrap().values()["settle"], Value::from(8));
        given.unset("settle");
        assert_eq!(given.source("settle"), Source::Default);
    }

    #[test]
    fn errors_name_the_source_of_the_value() {
        let catalog = catalog();
        let environment = |name: &str| (name == "TRAINERD_SETTLE").then(|| "1000".to_owned());
        let given = Given::read(&catalog, None, &environment, &[]).unwrap();
        let problem = given.parse(&catalog).unwrap_err();
        assert_eq!(problem.causes, ["must be 0 to 300 seconds (given by TRAINERD_SETTLE)"]);
    }
}
