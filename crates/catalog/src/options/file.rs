//! A file of options: a YAML mapping of names to values.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Raw;
use crate::error::CatalogError;

/// Reads a file of options, for example `settle: 10`. An empty file gives no options.
///
/// `file` is how errors name it. Names and values are not judged here: see [`super::Options::parse`].
///
/// # Errors
/// [`CatalogError::OptionsFile`] for what is not YAML, not one mapping, or names an option twice, with the
/// line where that shows.
pub fn parse_options_file(file: &str, text: &str) -> Result<BTreeMap<String, Raw>, CatalogError> {
    let broken = |source: serde_yaml::Error| CatalogError::OptionsFile {
        file: file.to_owned(),
        line: source.location().map_or(1, |at| at.line()),
        source,
    };
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else { return Ok(BTreeMap::new()) };
    // The detour through YAML's own mapping is what finds a name given twice.
    let mapping = Option::<serde_yaml::Mapping>::deserialize(first).map_err(broken)?.unwrap_or_default();
    if documents.next().is_some() {
        return Err(CatalogError::OptionsDocuments { file: file.to_owned() });
    }
    let options: BTreeMap<String, Value> =
        serde_yaml::from_value(serde_yaml::Value::Mapping(mapping)).map_err(broken)?;
    Ok(options.into_iter().map(|(name, value)| (name, Raw::Typed(value))).collect())
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
                Err(CatalogError::OptionsFile { file, line, .. }) => {
                    assert_eq!((file.as_str(), line), ("my.yaml", expected), "{text}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(
            parse_options_file("f", "a: 1\n---\nb: 2\n"),
            Err(CatalogError::OptionsDocuments { file }) if file == "f"
        ));
    }
}
