//! Strict decoding, with the texts of Kubernetes' serializer.

mod tree;

use serde_json::{Map, Value};

use self::tree::Document;
use super::duration::{format_duration, parse_duration};
use super::{API_VERSION, KIND};
use crate::go;
use crate::value::text;

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// A text that is left out when empty.
    OptionalText,
    Integer,
    Float,
    Boolean,
    Duration,
    Texts,
    Integers,
    Booleans,
    Section(&'static [(&'static str, Kind)]),
}

const FIELDS: &[(&str, Kind)] = &[
    ("apiVersion", Kind::OptionalText),
    ("kind", Kind::OptionalText),
    ("webhook", Kind::Section(&[("port", Kind::Integer), ("host", Kind::Text)])),
    (
        "leaderElection",
        Kind::Section(&[
            ("leaderElect", Kind::Boolean),
            ("leaseDuration", Kind::Duration),
            ("renewDeadline", Kind::Duration),
            ("retryPeriod", Kind::Duration),
            ("resourceLock", Kind::Text),
            ("resourceName", Kind::Text),
            ("resourceNamespace", Kind::Text),
        ]),
    ),
    (
        "metrics",
        Kind::Section(&[
            ("bindAddress", Kind::OptionalText),
            ("secureServing", Kind::Boolean),
            ("auth", Kind::Section(&[("enabled", Kind::Boolean)])),
        ]),
    ),
    (
        "health",
        Kind::Section(&[
            ("healthProbeBindAddress", Kind::OptionalText),
            ("readinessEndpointName", Kind::OptionalText),
            ("livenessEndpointName", Kind::OptionalText),
        ]),
    ),
    ("controller", Kind::Section(&[("groupKindConcurrency", Kind::Integers)])),
    (
        "certManagement",
        Kind::Section(&[
            ("enable", Kind::Boolean),
            ("webhookServiceName", Kind::OptionalText),
            ("webhookSecretName", Kind::OptionalText),
        ]),
    ),
    ("clientConnection", Kind::Section(&[("qps", Kind::Float), ("burst", Kind::Integer)])),
    (
        "statusServer",
        Kind::Section(&[("port", Kind::Integer), ("qps", Kind::Float), ("burst", Kind::Integer)]),
    ),
    ("featureGates", Kind::Booleans),
    (
        "tls",
        Kind::Section(&[
            ("minVersion", Kind::OptionalText),
            ("cipherSuites", Kind::Texts),
            ("nextProtos", Kind::Texts),
        ]),
    ),
    ("compatibility", Kind::OptionalText),
];

/// The document of a file, without defaults.
pub(super) fn decode(text: &str) -> Result<Value, String> {
    let Document { value, duplicates } = tree::read(text)?;
    let fields = match value {
        Value::Null => Map::new(),
        Value::Object(fields) => fields,
        other => {
            let found = form(&other);
            return Err(format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct"
            ));
        }
    };
    check_kind(&Value::Object(fields.clone()))?;
    let mut unknown = Vec::new();
    let document = section(FIELDS, &fields, "", &mut unknown)?;
    let strict: Vec<String> = duplicates
        .into_iter()
        .chain(unknown.into_iter().map(|path| format!("unknown field {}", go::quoted(&path))))
        .collect();
    if !strict.is_empty() {
        return Err(format!("strict decoding error: {}", strict.join(", ")));
    }
    Ok(Value::Object(document))
}

/// A document without kind or version is taken for one of ours.
fn check_kind(document: &Value) -> Result<(), String> {
    let given = |key: &str| text(document, &[key]).filter(|text| !text.is_empty());
    let (version, kind) = (given("apiVersion").unwrap_or(API_VERSION), given("kind").unwrap_or(KIND));
    if (version, kind) == (API_VERSION, KIND) {
        return Ok(());
    }
    let (kind, version) = (go::quoted(kind), go::quoted(version));
    Err(format!("no kind {kind} is registered for version {version} in scheme \"trainerd\""))
}

fn form(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn section(
    known: &[(&str, Kind)],
    fields: &Map<String, Value>,
    path: &str,
    unknown: &mut Vec<String>,
) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match known.iter().find(|(known, _)| known == name) {
            None => unknown.push(path),
            Some((_, kind)) => {
                if let Some(value) = decode_value(*kind, value, &path, unknown)? {
                    out.insert(name.clone(), value);
                }
            }
        }
    }
    Ok(out)
}

/// The value as its field holds it; `None` when that is nothing.
fn decode_value(
    kind: Kind,
    value: &Value,
    path: &str,
    unknown: &mut Vec<String>,
) -> Result<Option<Value>, String> {
    let mismatch = |wanted: &str| {
        let found = form(value);
        Err(format!(
            "json: cannot unmarshal {found} into Go struct field Configuration.{path} of type {wanted}"
        ))
    };
    if value.is_null() {
        return Ok(None);
    }
    let whole = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok()).map(Value::from);
    let decoded = match (kind, value) {
        (Kind::OptionalText, Value::String(text)) if text.is_empty() => return Ok(None),
        (Kind::Text | Kind::OptionalText, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) => {
            value.clone()
        }
        (Kind::Text | Kind::OptionalText, _) => return mismatch("string"),
        (Kind::Boolean, _) => return mismatch("bool"),
        (Kind::Integer, _) => match whole(value) {
            Some(number) => number,
            None => return mismatch("int32"),
        },
        // Numbers keep their spelling; upstream rounds them to 32 bits, which their errors show.
        (Kind::Float, Value::Number(_)) => value.clone(),
        (Kind::Float, _) => return mismatch("float32"),
        (Kind::Duration, Value::String(text)) => Value::from(format_duration(parse_duration(text)?)),
        (Kind::Duration, _) => {
            return Err(format!("json: cannot unmarshal {} into Go value of type string", form(value)));
        }
        (Kind::Texts, Value::Array(items)) if items.is_empty() => return Ok(None),
        (Kind::Texts, Value::Array(items)) if items.iter().all(Value::is_string) => value.clone(),
        (Kind::Texts, _) => return mismatch("[]string"),
        (Kind::Integers, Value::Object(map)) if map.values().all(|value| whole(value).is_some()) => {
            value.clone()
        }
        (Kind::Integers, _) => return mismatch("map[string]int32"),
        (Kind::Booleans, Value::Object(map)) if map.values().all(Value::is_boolean) => value.clone(),
        (Kind::Booleans, _) => return mismatch("map[string]bool"),
        (Kind::Section(known), Value::Object(fields)) => {
            Value::Object(section(known, fields, path, unknown)?)
        }
        (Kind::Section(_), _) => return mismatch("object"),
    };
    Ok(Some(decoded))
}
