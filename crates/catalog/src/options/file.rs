//! A file of options: a YAML mapping of names to values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use thiserror::Error;

use super::Raw;

/// Why a file gives no options.
#[derive(Debug, Error)]
pub enum OptionsFileError {
    /// It is not a YAML mapping.
    #[error("failed to read options from {file}, line {line}")]
    Read {
        /// The file, as it was given.
        file: String,
        /// The line where it shows, counted from one.
        line: usize,
        /// What is wrong there.
        source: serde_yaml::Error,
    },
    /// It holds more than one document.
    #[error("failed to read options from {file}: more than one YAML document")]
    Documents {
        /// The file, as it was given.
        file: String,
    },
}

/// Reads a file of options, for example `settle: 10`. An empty file gives no options.
///
/// `file` is how errors name it. Names and values are not judged here: see [`super::Options::parse`].
///
/// # Errors
/// [`OptionsFileError::Read`] for what is not YAML, not one mapping, or names an option twice, with the
/// line where that shows.
pub fn parse_options_file(file: &str, text: &str) -> Result<BTreeMap<String, Raw>, OptionsFileError> {
    let broken = |source: serde_yaml::Error| OptionsFileError::Read {
        file: file.to_owned(),
        line: source.location().map_or(1, |at| at.line()),
        source,
    };
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else { return Ok(BTreeMap::new()) };
    let options = first.deserialize_any(OptionsVisitor).map_err(broken)?;
    if documents.next().is_some() {
        return Err(OptionsFileError::Documents { file: file.to_owned() });
    }
    Ok(options)
}

/// Reads the mapping key by key, so that an error has the line of the key.
struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = BTreeMap<String, Raw>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of option names to values")
    }

    /// A document that is empty but for comments.
    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    /// A document that says `null`.
    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut options = BTreeMap::new();
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key_seed(NameSeed(&mut seen))? {
            options.insert(name, Raw::Typed(map.next_value::<Value>()?));
        }
        Ok(options)
    }
}

/// The name of an option, which may come once.
struct NameSeed<'a>(&'a mut BTreeSet<String>);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an option")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<String, E> {
        if self.0.insert(name.to_owned()) {
            Ok(name.to_owned())
        } else {
            Err(E::custom(format_args!("option {name} is given twice")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_gives_typed_values() {
        let options = parse_options_file("f", "settle: 10\nsmall-footprint: true\nruntimes: none\n").unwrap();
        assert_eq!(options["settle"], Raw::Typed(Value::from(10)));
        assert_eq!(options["small-footprint"], Raw::Typed(Value::from(true)));
        assert_eq!(options["runtimes"], Raw::Typed(Value::from("none")));
        assert!(parse_options_file("f", "").unwrap().is_empty());
        assert!(parse_options_file("f", "# nothing yet\n").unwrap().is_empty());
        assert!(parse_options_file("f", "null\n").unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_line() {
        for (text, expected) in [
            ("settle: 1\nruntimes: [a\n", 3),
            ("a: 1\n b: 2\n", 2),
            ("settle: 1\nruntimes: x\nsettle: 2\n", 3),
            ("- settle\n", 1),
            ("just words\n", 1),
        ] {
            match parse_options_file("my.yaml", text) {
                Err(OptionsFileError::Read { file, line, .. }) => {
                    assert_eq!((file.as_str(), line), ("my.yaml", expected), "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(
            parse_options_file("f", "a: 1\n---\nb: 2\n"),
            Err(OptionsFileError::Documents { file }) if file == "f"
        ));
    }
}
