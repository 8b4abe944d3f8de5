//! Where in an object: printable, readable again, and comparable by field names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// One step down an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A field of an object, or a key of a map: `.image`, `["app.kubernetes.io/name"]`.
    Field(String),
    /// An item of a list by the fields that identify it: `[name=manager]`.
    Item(Vec<(String, Value)>),
    /// An element of a set: `[="foregroundDeletion"]`.
    Element(Value),
    /// An item of a list by its place, counted from 0: `[2]`.
    Index(usize),
}

/// A path from the root of an object, printed `.spec.template.spec.containers[name=manager].image`.
///
/// Serialised as that text. Printing and parsing are inverse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath(Vec<Segment>);

/// The text is not a path as [`FieldPath`] prints it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the path {text:?} at byte {at}")]
pub struct ParseError {
    /// The text.
    pub text: String,
    /// Where reading stopped.
    pub at: usize,
}

impl FieldPath {
    /// The steps, from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The names of the fields on the way; steps into lists are left out.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Field(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether the field names begin with `fields`: the path is that field or lies below it.
    pub fn is_under(&self, fields: &[&str]) -> bool {
        let mut own = self.fields();
        fields.iter().all(|field| own.next() == Some(field))
    }

    /// Whether one of the two lies at or below the other: a change here touches `fields`.
    pub fn overlaps(&self, fields: &[&str]) -> bool {
        self.fields().zip(fields).all(|(own, field)| own == *field)
    }
}

impl FromIterator<Segment> for FieldPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

/// Whether a name may stand after a dot or before `=` as it is.
fn plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'$')
}

/// Whether a string may stand after `=` as it is: nothing that ends it, and not what JSON would read.
fn plain_value(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@$".contains(&b))
        && serde_json::from_str::<Value>(text).is_err()
}

fn quoted(text: &str) -> Value {
    Value::String(text.to_owned())
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for segment in &self.0 {
            match segment {
                Segment::Field(name) if plain(name) => write!(f, ".{name}")?,
                Segment::Field(name) => write!(f, "[{}]", quoted(name))?,
                Segment::Element(value) => write!(f, "[={value}]")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Item(keys) => {
                    f.write_str("[")?;
                    for (place, (name, value)) in keys.iter().enumerate() {
                        let comma = if place == 0 { "" } else { "," };
                        match value {
                            Value::String(text) if plain_value(text) => write!(f, "{comma}{name}={text}")?,
                            _ => write!(f, "{comma}{name}={value}")?,
                        }
                    }
                    f.write_str("]")?;
                }
            }
        }
        Ok(())
    }
}

/// What is left to read of a path.
struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn remaining(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> Option<()> {
        self.remaining().starts_with(token).then(|| self.at += token.len())
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> Option<&'a str> {
        let rest = self.remaining();
        let length = rest.bytes().position(|b| !wanted(b)).unwrap_or(rest.len());
        self.at += length;
        (length > 0).then(|| &rest[..length])
    }

    fn name(&mut self) -> Option<&'a str> {
        self.take_while(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'$')
    }

    fn json(&mut self) -> Option<Value> {
        let mut values = serde_json::Deserializer::from_str(self.remaining()).into_iter::<Value>();
        let value = values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(value)
    }

    fn key(&mut self) -> Option<(String, Value)> {
        let name = self.name()?.to_owned();
        self.eat("=")?;
        let rest = self.remaining();
        let length = rest.find([',', ']']).unwrap_or(rest.len());
        if plain_value(&rest[..length]) {
            self.at += length;
            return Some((name, quoted(&rest[..length])));
        }
        Some((name, self.json()?))
    }

    fn segment(&mut self) -> Option<Segment> {
        if self.eat(".").is_some() {
            return self.name().map(|name| Segment::Field(name.to_owned()));
        }
        self.eat("[")?;
        let segment = if self.eat("=").is_some() {
            Segment::Element(self.json()?)
        } else if self.remaining().starts_with('"') {
            Segment::Field(self.json()?.as_str()?.to_owned())
        } else if let Ok(index) = self.remaining().split(']').next().unwrap_or_default().parse() {
            self.take_while(|b| b.is_ascii_digit())?;
            Segment::Index(index)
        } else {
            let mut keys = vec![self.key()?];
            while self.eat(",").is_some() {
                keys.push(self.key()?);
            }
            Segment::Item(keys)
        };
        self.eat("]")?;
        Some(segment)
    }
}

impl FromStr for FieldPath {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut segments = Vec::new();
        let mut rest = Rest { text, at: 0 };
        if text == "." {
            return Ok(Self::default());
        }
        while !rest.remaining().is_empty() || segments.is_empty() {
            match rest.segment() {
                Some(segment) => segments.push(segment),
                None => return Err(ParseError { text: text.to_owned(), at: rest.at }),
            }
        }
        Ok(Self(segments))
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
    use serde_json::{Value, json};

    use super::{FieldPath, Segment};

    fn field(name: &str) -> Segment {
        Segment::Field(name.to_owned())
    }

    #[test]
    fn paths_have_a_readable_form() {
        let item = |keys: &[(&str, Value)]| {
            Segment::Item(keys.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
        };
        let rows = [
            (vec![], "."),
            (vec![field("spec"), field("replicas")], ".spec.replicas"),
            (vec![field("labels"), field("app.kubernetes.io/name")], r#".labels["app.kubernetes.io/name"]"#),
            (vec![field("c"), item(&[("name", json!("manager"))]), field("image")], ".c[name=manager].image"),
            (
                vec![item(&[("containerPort", json!(80)), ("protocol", json!("TCP"))])],
                "[containerPort=80,protocol=TCP]",
            ),
            (vec![item(&[("name", json!("80"))])], r#"[name="80"]"#),
            (vec![item(&[("mountPath", json!("/a b"))])], r#"[mountPath="/a b"]"#),
            (vec![field("finalizers"), Segment::Element(json!("a/b"))], r#".finalizers[="a/b"]"#),
            (vec![field("rules"), Segment::Index(3), field("verbs")], ".rules[3].verbs"),
        ];
        for (segments, text) in rows {
            let path: FieldPath = segments.into_iter().collect();
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path), "{text}");
        }
    }

    #[test]
    fn invalid_paths_are_rejected_with_the_position() {
        for (text, at) in [("", 0), ("spec", 0), (".spec.", 6), (".a[", 3), (".a[name=]", 8), (".a[1", 4)] {
            assert_eq!(text.parse::<FieldPath>().unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn path_prefixes_follow_field_names() {
        let path: FieldPath = ".spec.volumes[name=x].secret".parse().unwrap();
        assert!(path.is_under(&["spec"]) && path.is_under(&["spec", "volumes", "secret"]));
        assert!(!path.is_under(&["spec", "volumes", "secret", "name"]) && !path.is_under(&["status"]));
        assert!(path.overlaps(&["spec", "volumes", "secret", "name"]) && !path.overlaps(&["spec", "type"]));
    }

    fn segments() -> impl Strategy<Value = Segment> {
        let value = || {
            prop_oneof![
                any::<String>().prop_map(Value::from),
                any::<i64>().prop_map(Value::from),
                Just(json!(true))
            ]
        };
        prop_oneof![
            any::<String>().prop_map(Segment::Field),
            value().prop_map(Segment::Element),
            any::<usize>().prop_map(Segment::Index),
            proptest::collection::vec(("[a-z]{1,5}", value()), 1..3).prop_map(Segment::Item),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn printing_and_parsing_are_inverse(segments in proptest::collection::vec(segments(), 0..6)) {
            let path: FieldPath = segments.into_iter().collect();
            assert_eq!(path.to_string().parse(), Ok(path.clone()));
            assert_eq!(serde_json::from_value::<FieldPath>(json!(path)).unwrap(), path);
        }
    }
}
