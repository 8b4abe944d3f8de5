//! The schema of the options: `config.yaml` at the root of the repository, in Juju's format.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// The text of `config.yaml`, as the charm ships it.
pub const CONFIG_YAML: &str = include_str!("../../../config.yaml");

/// Why there is no schema: this build is broken.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The file is not what it should be.
    #[error("failed to read config.yaml")]
    Read(#[source] serde_yaml::Error),
    /// A default is not of its option's type.
    #[error("the default of option {option} is of another type")]
    Default {
        /// The option.
        option: String,
    },
}

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptionType {
    /// Any text.
    String,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Boolean,
}

impl fmt::Display for OptionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Int => "a whole number",
            Self::Boolean => "true or false",
        })
    }
}

impl OptionType {
    /// Whether a value is of this type.
    pub fn holds(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Int => value.is_i64(),
            Self::Boolean => value.is_boolean(),
        }
    }

    /// Reads a value of this type from a text, as a command line or an environment variable gives it.
    pub fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::String => Some(Value::from(text)),
            Self::Int => text.parse::<i64>().ok().map(Value::from),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
        }
    }
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionSchema {
    /// What values it takes.
    #[serde(rename = "type")]
    pub kind: OptionType,
    /// Its value where nobody gives one; of type `kind`.
    pub default: Value,
    /// What it does, in a sentence or three.
    pub description: String,
}

/// Every option by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The options by name.
    pub options: BTreeMap<String, OptionSchema>,
}

impl Schema {
    /// The schema of `config.yaml`. An error means that this build is broken.
    pub fn builtin() -> Result<Self, SchemaError> {
        Self::from_yaml(CONFIG_YAML)
    }

    /// Reads a schema in Juju's format.
    pub fn from_yaml(text: &str) -> Result<Self, SchemaError> {
        let schema: Self = serde_yaml::from_str(text).map_err(SchemaError::Read)?;
        match schema.options.iter().find(|(_, option)| !option.kind.holds(&option.default)) {
            Some((name, _)) => Err(SchemaError::Default { option: name.clone() }),
            None => Ok(schema),
        }
    }

    /// The default of an option; `None` for an unknown one.
    pub fn default_of(&self, option: &str) -> Option<&Value> {
        self.options.get(option).map(|option| &option.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_of_another_type_is_refused() {
        let text = "options: {a: {type: int, default: x, description: d}}";
        assert!(matches!(Schema::from_yaml(text), Err(SchemaError::Default { option }) if option == "a"));
    }

    #[test]
    fn strings_are_parsed_by_the_type_of_the_option() {
        assert_eq!(OptionType::Int.read("-5"), Some(Value::from(-5)));
        assert_eq!(OptionType::Int.read("5s"), None);
        assert_eq!(OptionType::Boolean.read("true"), Some(Value::from(true)));
        assert_eq!(OptionType::Boolean.read("yes"), None);
        assert_eq!(OptionType::String.read("5"), Some(Value::from("5")));
    }
}
