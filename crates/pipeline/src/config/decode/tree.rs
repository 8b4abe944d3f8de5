//! A document of YAML as JSON, with the keys that come twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::go;

/// What was read.
pub(super) struct Document {
    /// The value; of keys that come twice, the last.
    pub(super) value: Value,
    /// A text for each key that comes again in its map.
    pub(super) duplicates: Vec<String>,
}

/// Reads the text.
///
/// # Errors
/// Why it is no document, as upstream's parser words it.
pub(super) fn read(text: &str) -> Result<Document, String> {
    let mut keys = Vec::new();
    let mut documents = serde_yaml::Deserializer::from_str(text);
    // Upstream reads the first of several documents.
    let value = match documents.next() {
        None => Value::Null,
        Some(document) => Seed { duplicates: &mut keys }
            .deserialize(document)
            .map_err(|error| crate::yaml::error(&error))?,
    };
    let is_json = text.trim_start().starts_with('{');
    let duplicates = keys.iter().map(|key| {
        let key_text = go::quoted(key);
        if is_json {
            format!("duplicate field {key_text}")
        } else {
            format!(
                "yaml: unmarshal errors:\n  line {}: key {key_text} already set in map",
                second_line(text, key)
            )
        }
    });
    Ok(Document { value, duplicates: duplicates.collect() })
}

/// The line on which a key comes again, from one on; the first where that cannot be told.
fn second_line(text: &str, key: &str) -> usize {
    let is_key = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':'))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| is_key(line));
    lines.map(|(at, _)| at + 1).nth(1).unwrap_or(1)
}

struct Seed<'a> {
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Seed { duplicates: self.duplicates })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(Seed { duplicates: self.duplicates })? {
            // Keys of JSON are texts.
            let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
            let value = access.next_value_seed(Seed { duplicates: self.duplicates })?;
            if map.insert(key.clone(), value).is_some() {
                self.duplicates.push(key);
            }
        }
        Ok(Value::Object(map))
    }
}
