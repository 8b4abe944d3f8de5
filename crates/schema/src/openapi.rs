//! Schemas as the API server reads them (OpenAPI v3, structural).

use serde_json::{Map, Value, json};

use crate::gate::{Levels, UnknownAxis};
use crate::resolve::{choose, holds};
use crate::table::{Bounds, Facts, Merge, Row, Rule, Scalar, Shape, Table};

/// Why a schema cannot be made of the table at these levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No type has this name.
    #[error("failed to find type {0}")]
    UnknownType(String),
    /// A gate speaks of an axis that the levels do not have.
    #[error("failed to make the schema of {of}")]
    UnknownAxis {
        /// The type, alias or rule with the gate.
        of: String,
        /// The gate.
        source: UnknownAxis,
    },
    /// More than one line holds at these levels.
    #[error("failed to choose among the lines of {0}: several hold")]
    Ambiguous(String),
    /// No line of an alias in use holds at these levels.
    #[error("failed to choose among the lines of {0}: none holds")]
    Unavailable(String),
}

impl Table {
    /// The schema of a type at these levels, types it refers to written out in place.
    ///
    /// # Errors
    /// When the table does not have the type, or not exactly one line for something the type needs.
    pub fn schema(&self, name: &str, levels: &Levels) -> Result<Value, SchemaError> {
        if !self.types.contains_key(name) {
            return Err(SchemaError::UnknownType(name.to_owned()));
        }
        let emitter = Emitter { table: self, levels };
        emitter.named(name).map(Value::Object)
    }
}

type Object = Map<String, Value>;

struct Emitter<'a> {
    table: &'a Table,
    levels: &'a Levels,
}

impl Emitter<'_> {
    fn row(&self, row: &Row) -> Result<Object, SchemaError> {
        let mut schema = self.shape(&row.shape)?;
        self.facts(&row.facts, &mut schema)?;
        Ok(schema)
    }

    fn shape(&self, shape: &Shape) -> Result<Object, SchemaError> {
        let mut schema = Object::new();
        let mut put = |key: &str, value: Value| schema.insert(key.to_owned(), value);
        match shape {
            Shape::Named(name) => return self.named(name),
            Shape::List(inner) => {
                put("type", json!("array"));
                put("items", Value::Object(self.shape(inner)?));
            }
            Shape::Map(inner) => {
                put("type", json!("object"));
                put("additionalProperties", Value::Object(self.shape(inner)?));
            }
            Shape::Scalar(Scalar::IntOrString) => {
                put("anyOf", json!([{ "type": "integer" }, { "type": "string" }]));
                put("x-kubernetes-int-or-string", json!(true));
            }
            Shape::Scalar(scalar) => {
                let (name, format) = match scalar {
                    Scalar::Bool => ("boolean", None),
                    Scalar::Int => ("integer", None),
                    Scalar::Int32 => ("integer", Some("int32")),
                    Scalar::Int64 => ("integer", Some("int64")),
                    Scalar::Object => ("object", None),
                    Scalar::String | Scalar::IntOrString => ("string", None),
                };
                put("type", json!(name));
                if let Some(format) = format {
                    put("format", json!(format));
                }
            }
        }
        Ok(schema)
    }

    fn named(&self, name: &str) -> Result<Object, SchemaError> {
        let Some(of) = self.table.types.get(name) else {
            let rows = self.table.aliases.get(name).map(Vec::as_slice).unwrap_or_default();
            let row = choose(name, rows, |row| &row.gates, self.levels)?;
            return self.row(row.ok_or_else(|| SchemaError::Unavailable(name.to_owned()))?);
        };
        let mut schema = Object::new();
        schema.insert("type".to_owned(), json!("object"));
        let mut properties = Object::new();
        let mut required = Vec::new();
        for field in &of.fields {
            if !holds(name, &field.row.gates, self.levels)? {
                continue;
            }
            if properties.insert(field.name.clone(), Value::Object(self.row(&field.row)?)).is_some() {
                return Err(SchemaError::Ambiguous(format!("{name}.{}", field.name)));
            }
            if field.required {
                required.push(field.name.as_str());
            }
        }
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        if !required.is_empty() {
            // The order has no meaning; sorted, as every generator of CRDs writes it.
            required.sort_unstable();
            schema.insert("required".to_owned(), json!(required));
        }
        self.facts(&of.facts, &mut schema)?;
        Ok(schema)
    }

    /// Adds facts. Those of a field come after those of its type and win; rules add up.
    fn facts(&self, facts: &Facts, schema: &mut Object) -> Result<(), SchemaError> {
        let is_list = schema.contains_key("items");
        let mut put = |key: &str, value: Value| schema.insert(key.to_owned(), value);
        if let Some(default) = &facts.default {
            put("default", default.clone());
        }
        if !facts.allowed.is_empty() {
            put("enum", Value::Array(facts.allowed.clone()));
        }
        for (key, value) in [("pattern", &facts.pattern), ("format", &facts.format)] {
            if let Some(value) = value {
                put(key, json!(value));
            }
        }
        for (Bounds { min, max }, least, most) in [
            (facts.range, "minimum", "maximum"),
            (facts.length, "minLength", "maxLength"),
            (facts.items, "minItems", "maxItems"),
            (facts.properties, "minProperties", "maxProperties"),
        ] {
            for (key, value) in [(least, min), (most, max)] {
                if let Some(value) = value {
                    put(key, json!(value));
                }
            }
        }
        for (key, flag) in [
            ("nullable", facts.nullable),
            ("x-kubernetes-preserve-unknown-fields", facts.preserve_unknown_fields),
            ("x-kubernetes-embedded-resource", facts.embedded_resource),
        ] {
            if flag {
                put(key, json!(true));
            }
        }
        if let Some(merge) = &facts.merge {
            let (key, value) = match merge {
                Merge::Atomic if is_list => ("x-kubernetes-list-type", "atomic"),
                Merge::Atomic => ("x-kubernetes-map-type", "atomic"),
                Merge::Granular => ("x-kubernetes-map-type", "granular"),
                Merge::Set => ("x-kubernetes-list-type", "set"),
                Merge::Map(keys) => {
                    put("x-kubernetes-list-map-keys", json!(keys));
                    ("x-kubernetes-list-type", "map")
                }
            };
            put(key, json!(value));
        }
        self.rules(&facts.rules, schema)
    }

    fn rules(&self, names: &[String], schema: &mut Object) -> Result<(), SchemaError> {
        for name in names {
            let rules = self.table.rules.get(name).map(Vec::as_slice).unwrap_or_default();
            let Some(rule) = choose(name, rules, |rule| &rule.gates, self.levels)? else { continue };
            let all = schema.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
            if let Some(all) = all.as_array_mut() {
                all.push(validation(rule));
            }
        }
        Ok(())
    }
}

fn validation(rule: &Rule) -> Value {
    let mut validation = Object::new();
    validation.insert("rule".to_owned(), json!(rule.expression));
    let texts = [("message", &rule.message), ("reason", &rule.reason), ("fieldPath", &rule.field_path)];
    for (key, value) in texts {
        if let Some(value) = value {
            validation.insert(key.to_owned(), json!(value));
        }
    }
    if rule.optional_old_self {
        validation.insert("optionalOldSelf".to_owned(), json!(true));
    }
    Value::Object(validation)
}

#[cfg(test)]
mod tests {
    use semver::Version;

    use super::*;

    fn levels(version: u64) -> Levels {
        Levels::new([("k8s", Version::new(1, version, 0))])
    }

    /// The schema of `field` in a type of that field alone.
    fn field(table: &str, row: &str) -> Value {
        let table = format!("{table}\ntype Root\n  field {row}");
        let table = Table::parse([("test", table.as_str())]).unwrap();
        table.schema("Root", &levels(36)).unwrap()["properties"]["field"].clone()
    }

    #[test]
    fn writes_shapes_and_facts_as_openapi() {
        for (table, row, expected) in [
            ("", "string", json!({ "type": "string" })),
            ("", "bool", json!({ "type": "boolean" })),
            ("", "int", json!({ "type": "integer" })),
            ("", "int64 range(0..)", json!({ "type": "integer", "format": "int64", "minimum": 0 })),
            ("", "object", json!({ "type": "object" })),
            (
                "",
                "int-or-string pattern(\"^a$\")",
                json!({
                    "anyOf": [{ "type": "integer" }, { "type": "string" }],
                    "pattern": "^a$",
                    "x-kubernetes-int-or-string": true,
                }),
            ),
            (
                "",
                "{}[]string atomic properties(1..2)",
                json!({
                    "type": "object",
                    "additionalProperties": { "type": "array", "items": { "type": "string" } },
                    "x-kubernetes-map-type": "atomic",
                    "minProperties": 1,
                    "maxProperties": 2,
                }),
            ),
            (
                "",
                "{}string granular",
                json!({
                    "type": "object",
                    "additionalProperties": { "type": "string" },
                    "x-kubernetes-map-type": "granular",
                }),
            ),
            (
                "",
                "[]string atomic items(1..2)",
                json!({
                    "type": "array",
                    "items": { "type": "string" },
                    "x-kubernetes-list-type": "atomic",
                    "minItems": 1,
                    "maxItems": 2,
                }),
            ),
        ] {
            assert_eq!(field(table, row), expected, "{table} / {row}");
        }
    }

    #[test]
    fn expands_named_types() {
        for (table, row, expected) in [
            (
                "alias Word string length(..3)",
                "[]Word set",
                json!({
                    "type": "array",
                    "items": { "type": "string", "maxLength": 3 },
                    "x-kubernetes-list-type": "set",
                }),
            ),
            (
                "alias Word string length(..3) k8s<1.36\nalias Word string length(1..4) k8s>=1.36",
                "Word length(..9)",
                json!({ "type": "string", "minLength": 1, "maxLength": 9 }),
            ),
            (
                "type Part atomic\n  z string required\n  a string required\n  b string",
                "[]Part map(z,a)",
                json!({
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "a": { "type": "string" },
                            "b": { "type": "string" },
                            "z": { "type": "string" },
                        },
                        "required": ["a", "z"],
                        "x-kubernetes-map-type": "atomic",
                    },
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["z", "a"],
                }),
            ),
            (
                "rule a \"self.a\"\nrule b \"self.b\" message(m) reason(r) field-path(.b) optional-old-self\n\
                 type Part rule(a)",
                "Part rule(b)",
                json!({
                    "type": "object",
                    "x-kubernetes-validations": [
                        { "rule": "self.a" },
                        {
                            "rule": "self.b",
                            "message": "m",
                            "reason": "r",
                            "fieldPath": ".b",
                            "optionalOldSelf": true,
                        },
                    ],
                }),
            ),
            (
                "rule a \"old\" k8s<1.36\nrule a \"new\" k8s>=1.36\nrule b \"gone\" k8s<1.30",
                "string rule(a) rule(b) default(x) enum(x,\"\") format(f)",
                json!({
                    "type": "string",
                    "default": "x",
                    "enum": ["x", ""],
                    "format": "f",
                    "x-kubernetes-validations": [{ "rule": "new" }],
                }),
            ),
            (
                "",
                "object nullable preserve-unknown-fields embedded-resource",
                json!({
                    "type": "object",
                    "nullable": true,
                    "x-kubernetes-preserve-unknown-fields": true,
                    "x-kubernetes-embedded-resource": true,
                }),
            ),
        ] {
            assert_eq!(field(table, row), expected, "{table} / {row}");
        }
    }

    #[test]
    fn gates_select_among_the_lines_of_a_field() {
        let text = "type Root\n  a string required k8s<1.35\n  a string k8s>=1.35\n  b bool k8s>=1.36";
        let table = Table::parse([("test", text)]).unwrap();
        let plain = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let mut old = plain.clone();
        old["required"] = json!(["a"]);
        let mut new = plain.clone();
        new["properties"]["b"] = json!({ "type": "boolean" });
        for (version, expected) in [(34, old), (35, plain), (36, new)] {
            assert_eq!(table.schema("Root", &levels(version)), Ok(expected), "1.{version}");
        }
    }

    #[test]
    fn rejects_fields_with_several_or_no_matching_lines() {
        for (text, expected) in [
            ("type Other", SchemaError::UnknownType("Root".into())),
            ("type Root\n  a string k8s>=1.30\n  a bool k8s>=1.35", SchemaError::Ambiguous("Root.a".into())),
            ("alias S string k8s<1.30\ntype Root\n  a S", SchemaError::Unavailable("S".into())),
            (
                "rule r \"x\" k8s>=1.30\nrule r \"y\" k8s>=1.31\ntype Root rule(r)",
                SchemaError::Ambiguous("r".into()),
            ),
            (
                "type Root\n  a string lws>=1",
                SchemaError::UnknownAxis {
                    of: "Root".into(),
                    source: UnknownAxis { gate: "lws>=1.0.0".into() },
                },
            ),
        ] {
            let table = Table::parse([("test", text)]).unwrap();
            assert_eq!(table.schema("Root", &levels(36)), Err(expected), "{text}");
        }
    }
}
