//! Whether an object, or a patch of one, is what its type says: fields that exist, of the right form, in their bounds.
//!
//! Rules in CEL are not evaluated: those are the API server's.

use std::fmt;

use regex_lite::Regex;
use serde_json::Value;

use crate::gate::Levels;
use crate::merge::join;
use crate::openapi::SchemaError;
use crate::resolve::{Kind, Node, Resolver};
use crate::table::{Bounds, Facts, PatchMerge, Scalar, Table};

/// What is wrong with a value, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{cause}", Place(.path))]
pub struct Fault {
    /// The field, for example `spec.template.spec.containers[0].image`; empty for the object as a whole.
    pub path: String,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The type has no field of this name.
    #[error("unknown field")]
    UnknownField,
    /// The value has another form.
    #[error("must be {expected}, not {found}")]
    Type {
        /// What it must be, with its article.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The field is missing.
    #[error("is required")]
    Required,
    /// The value is none of those that there are.
    #[error("must be one of {}", .0.join(", "))]
    OneOf(Vec<String>),
    /// A number, or a count of characters, items or properties, beyond its bounds.
    #[error("{what} must be {}", Range(*.min, *.max))]
    Bounds {
        /// `the value`, `the length` or the like.
        what: &'static str,
        /// The least.
        min: Option<i64>,
        /// The most.
        max: Option<i64>,
    },
    /// The text does not match.
    #[error("does not match {0}")]
    Pattern(String),
}

struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

struct Range(Option<i64>, Option<i64>);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(min), Some(max)) => write!(f, "{min} to {max}"),
            (Some(min), None) => write!(f, "at least {min}"),
            (None, Some(max)) => write!(f, "at most {max}"),
            (None, None) => f.write_str("any"),
        }
    }
}

impl Table {
    /// Everything that is wrong with an object of the type.
    ///
    /// # Errors
    /// For a type that the table does not have at these levels.
    pub fn check(&self, of: &str, levels: &Levels, object: &Value) -> Result<Vec<Fault>, SchemaError> {
        self.judge(of, levels, object, false)
    }

    /// Everything that is wrong with a strategic merge patch of the type by itself: nothing is required in it, null
    /// and directives are no faults.
    ///
    /// # Errors
    /// For a type that the table does not have at these levels.
    pub fn check_patch(&self, of: &str, levels: &Levels, patch: &Value) -> Result<Vec<Fault>, SchemaError> {
        self.judge(of, levels, patch, true)
    }

    fn judge(
        &self,
        of: &str,
        levels: &Levels,
        value: &Value,
        is_patch: bool,
    ) -> Result<Vec<Fault>, SchemaError> {
        let resolver = Resolver { table: self, levels };
        let root = resolver.root(of)?;
        let mut judge = Judge { resolver, is_patch, faults: Vec::new() };
        judge.value(&root, value, "")?;
        Ok(judge.faults)
    }
}

struct Judge<'a> {
    resolver: Resolver<'a>,
    is_patch: bool,
    faults: Vec<Fault>,
}

impl<'a> Judge<'a> {
    fn fault(&mut self, path: &str, cause: Cause) {
        self.faults.push(Fault { path: path.to_owned(), cause });
    }

    fn value(&mut self, node: &Node<'a>, value: &Value, path: &str) -> Result<(), SchemaError> {
        let may_be_null = self.is_patch || node.facts.iter().any(|facts| facts.nullable);
        if value.is_null() && may_be_null {
            return Ok(());
        }
        match (node.kind, value) {
            (Kind::Scalar(scalar), _) if !holds(scalar, value) => {
                let cause = Cause::Type { expected: expected(scalar), found: form(value) };
                self.fault(path, cause);
                return Ok(());
            }
            (Kind::Scalar(_), _) => {}
            (Kind::Object { .. } | Kind::Map(_), Value::Object(fields)) => {
                self.members(node, fields, path)?;
            }
            (Kind::List(inner), Value::Array(items)) => {
                let inner = self.resolver.shape(inner)?;
                for (at, item) in items.iter().enumerate() {
                    self.value(&inner, item, &format!("{path}[{}]", label(node, item, at)))?;
                }
            }
            (Kind::List(_), other) => {
                self.fault(path, Cause::Type { expected: "a list", found: form(other) });
                return Ok(());
            }
            (_, other) => {
                self.fault(path, Cause::Type { expected: "an object", found: form(other) });
                return Ok(());
            }
        }
        for facts in &node.facts {
            self.facts(facts, value, path);
        }
        Ok(())
    }

    fn members(
        &mut self,
        node: &Node<'a>,
        fields: &serde_json::Map<String, Value>,
        path: &str,
    ) -> Result<(), SchemaError> {
        for (key, value) in fields {
            if self.is_patch && key.starts_with('$') {
                continue;
            }
            let at = join(path, key);
            match self.resolver.member(node, key)? {
                Some(member) => self.value(&member, value, &at)?,
                None if node.facts.iter().any(|facts| facts.preserve_unknown_fields) => {}
                None => self.fault(&at, Cause::UnknownField),
            }
        }
        if let (Kind::Object { name, of }, false) = (node.kind, self.is_patch) {
            for field in self.resolver.fields(name, of)? {
                if field.required && field.row.facts.default.is_none() && !fields.contains_key(&field.name) {
                    self.fault(&join(path, &field.name), Cause::Required);
                }
            }
        }
        Ok(())
    }

    fn facts(&mut self, facts: &Facts, value: &Value, path: &str) {
        if !facts.allowed.is_empty() && !facts.allowed.contains(value) {
            let allowed = facts.allowed.iter().map(|one| one.as_str().map_or(one.to_string(), str::to_owned));
            self.fault(path, Cause::OneOf(allowed.collect()));
        }
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        match value {
            Value::Number(number) => {
                let number = number.as_i64().unwrap_or(i64::MAX);
                self.bounds(facts.range, "the value", number, path);
            }
            Value::String(text) => {
                self.bounds(facts.length, "the length", count(text.chars().count()), path);
                // A pattern of the table that does not compile is found by the test that reads them all.
                if let Some(pattern) = &facts.pattern
                    && Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
                {
                    self.fault(path, Cause::Pattern(pattern.clone()));
                }
            }
            // How many there are is known when the patch is merged.
            Value::Array(items) if !self.is_patch => {
                self.bounds(facts.items, "the number of items", count(items.len()), path);
            }
            Value::Object(fields) if !self.is_patch => {
                self.bounds(facts.properties, "the number of fields", count(fields.len()), path);
            }
            _ => {}
        }
    }

    fn bounds(&mut self, bounds: Bounds, what: &'static str, number: i64, path: &str) {
        let Bounds { min, max } = bounds;
        if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
            self.fault(path, Cause::Bounds { what, min, max });
        }
    }
}

/// How an item of a list is named: by its merge key where it has one.
fn label(node: &Node<'_>, item: &Value, at: usize) -> String {
    let key = match node.patch() {
        Some(PatchMerge::Key(key)) => item.get(key),
        _ => None,
    };
    key.map_or_else(|| at.to_string(), |key| key.as_str().map_or_else(|| key.to_string(), str::to_owned))
}

fn holds(scalar: Scalar, value: &Value) -> bool {
    let integer = value.as_i64();
    match scalar {
        Scalar::String => value.is_string(),
        Scalar::Bool => value.is_boolean(),
        Scalar::Int | Scalar::Int64 => integer.is_some(),
        Scalar::Int32 => integer.is_some_and(|number| i32::try_from(number).is_ok()),
        Scalar::IntOrString => integer.is_some() || value.is_string(),
        Scalar::Object => value.is_object(),
    }
}

fn expected(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::String => "a string",
        Scalar::Bool => "true or false",
        Scalar::Int | Scalar::Int64 => "a whole number",
        Scalar::Int32 => "a whole number of 32 bits",
        Scalar::IntOrString => "a whole number or a string",
        Scalar::Object => "an object",
    }
}

fn form(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TYPES: &str = "alias Quantity int-or-string pattern(\"^[0-9]+[mGi]*$\")\n\
        type Root\n  spec Spec required\n  raw object\n\
        type Spec\n  name string required length(1..3)\n  mode string enum(a,b) default(a)\n  count int32 range(0..9)\n  \
        limits {}Quantity\n  parts []Part map(name) merge(name) items(1..)\n  free Free\n\
        type Part\n  name string required\n  on bool\n\
        type Free preserve-unknown-fields\n";

    fn faults(value: &Value, is_patch: bool) -> Vec<String> {
        let table = Table::parse([("test", TYPES)]).unwrap();
        let found = table.judge("Root", &Levels::default(), value, is_patch).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_error_has_its_path_and_cause() {
        for (value, expected) in [
            (
                json!({"spec": {"name": "abc", "mode": "a", "count": 9, "limits": {"cpu": 1, "m": "1Gi"}, "parts": [{"name": "x", "on": true}],
                "free": {"x": 1}}, "raw": {"y": 1}}),
                vec![],
            ),
            (json!({}), vec!["spec: is required"]),
            (json!([]), vec!["must be an object, not a list"]),
            (json!({"spec": {}}), vec!["spec.name: is required"]),
            (json!({"spec": {"name": "abcd"}}), vec!["spec.name: the length must be 1 to 3"]),
            (json!({"spec": {"name": "a", "mode": "c"}}), vec!["spec.mode: must be one of a, b"]),
            (json!({"spec": {"name": "a", "count": 10}}), vec!["spec.count: the value must be 0 to 9"]),
            (
                json!({"spec": {"name": "a", "count": "1"}}),
                vec!["spec.count: must be a whole number of 32 bits, not a string"],
            ),
            (
                json!({"spec": {"name": "a", "count": 3_000_000_000_i64}}),
                vec!["spec.count: must be a whole number of 32 bits, not a number"],
            ),
            (
                json!({"spec": {"name": "a", "limits": {"cpu": "much"}}}),
                vec!["spec.limits.cpu: does not match ^[0-9]+[mGi]*$"],
            ),
            (
                json!({"spec": {"name": "a", "parts": []}}),
                vec!["spec.parts: the number of items must be at least 1"],
            ),
            (json!({"spec": {"name": "a", "parts": {}}}), vec!["spec.parts: must be a list, not an object"]),
            (
                json!({"spec": {"name": "a", "parts": [{"name": "x", "on": "yes", "of": 1}]}}),
                vec![
                    "spec.parts[x].of: unknown field",
                    "spec.parts[x].on: must be true or false, not a string",
                ],
            ),
            (json!({"spec": {"name": null}}), vec!["spec.name: must be a string, not null"]),
        ] {
            assert_eq!(faults(&value, false), expected, "{value}");
        }
    }

    #[test]
    fn a_patch_may_be_partial() {
        for (value, expected) in [
            (
                json!({"spec": {"mode": null, "parts": [{"name": "x", "$patch": "delete"}], "$retainKeys": ["mode"]}}),
                vec![],
            ),
            (json!({"spec": {"parts": []}}), vec![]),
            (json!({"spec": {"moed": null}}), vec!["spec.moed: unknown field"]),
            (json!({"spec": {"mode": "c"}}), vec!["spec.mode: must be one of a, b"]),
        ] {
            assert_eq!(faults(&value, true), expected, "{value}");
        }
    }
}
