//! Values against their schema. What an update leaves as it was is not looked at again.

use regex_lite::Regex;
use serde_json::{Map, Value};

use super::{Fault, fault};
use crate::go;
use crate::value::at;

/// Everything that is wrong. `root` is what a path begins with that is not shown inside a message.
pub(super) fn check(
    schema: &Value,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    root: &str,
) -> Vec<Fault> {
    let mut checker = Checker { root, faults: Vec::new() };
    checker.value(schema, value, old, path);
    checker.faults
}

struct Checker<'a> {
    root: &'a str,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    /// How a message names the place.
    fn inner<'p>(&self, path: &'p str) -> &'p str {
        path.strip_prefix(self.root).map_or(path, |rest| rest.strip_prefix('.').unwrap_or(rest))
    }

    fn invalid(&mut self, path: &str, value: impl std::fmt::Display, what: &str) {
        let text = format!("Invalid value: {value}: {} in body {what}", self.inner(path));
        self.faults.push(fault(path, text, false));
    }

    /// Wrong types keep rules from being evaluated.
    fn mistyped(&mut self, path: &str, wanted: &str, found: &str) {
        let found = go::quoted(found);
        let text =
            format!("Invalid value: {found}: {} in body must be of type {wanted}: {found}", self.inner(path));
        self.faults.push(fault(path, text, true));
    }

    fn value(&mut self, schema: &Value, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) {
            return;
        }
        self.type_of(schema, value, path);
        match value {
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => self.number(schema, number, path),
            Value::Array(items) => self.list(schema, items, old, path),
            Value::Object(fields) => self.object(schema, fields, old, path),
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(Value::Array(allowed)) = schema.get("enum")
            && !value.is_null()
            && !allowed.contains(value)
        {
            let shown: Vec<String> =
                allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), go::quoted)).collect();
            let value = value.as_str().map_or_else(|| value.to_string(), go::quoted);
            let text = format!("Unsupported value: {value}: supported values: {}", shown.join(", "));
            self.faults.push(fault(path, text, true));
        }
    }

    fn type_of(&mut self, schema: &Value, value: &Value, path: &str) {
        let is_either = schema.get("x-kubernetes-int-or-string").and_then(Value::as_bool) == Some(true);
        let wanted = at(schema, &["type"]).as_str().unwrap_or(if is_either { "integer,string" } else { "" });
        let format = at(schema, &["format"]).as_str().unwrap_or_default();
        let is_nullable = schema.get("nullable").and_then(Value::as_bool) == Some(true);
        let (found, precision) = match value {
            Value::Null => ("null", ""),
            Value::Bool(_) => ("boolean", ""),
            Value::Number(number) if number.is_f64() => ("number", "float64"),
            Value::Number(_) => ("integer", "int64"),
            Value::String(_) => ("string", ""),
            Value::Array(_) => ("array", ""),
            Value::Object(_) => ("object", ""),
        };
        if wanted.is_empty() || found == "null" && is_nullable {
            return;
        }
        let is_whole = value.as_f64().is_some_and(|number| number.fract() == 0.0);
        let fits = wanted.split(',').any(|one| {
            one == found
                || one == "integer" && found == "number" && is_whole
                || one == "number" && found == "integer"
        });
        let is_textual = matches!(found, "string" | "array");
        if !fits && !is_textual && found != "null" && !format.is_empty() {
            // A number of another form is told by its format.
            self.mistyped(path, format, precision);
        } else if !fits {
            self.mistyped(path, wanted, found);
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(most) = limit(schema, "maxLength").filter(|most| length > *most) {
            self.faults.push(fault(path, format!("Too long: may not be more than {most} bytes"), true));
        }
        if let Some(least) = limit(schema, "minLength").filter(|least| length < *least) {
            self.invalid(path, go::quoted(text), &format!("should be at least {least} chars long"));
        }
        // A pattern of the table that does not compile is found by the test that reads them all.
        if let Some(pattern) = at(schema, &["pattern"]).as_str()
            && Regex::new(pattern).is_ok_and(|compiled| !compiled.is_match(text))
        {
            self.invalid(path, go::quoted(text), &format!("should match '{pattern}'"));
        }
        if at(schema, &["format"]).as_str() == Some("date-time") && text.parse::<jiff::Timestamp>().is_err() {
            self.mistyped(path, "date-time", text);
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, path: &str) {
        let (kind, format) = (at(schema, &["type"]).as_str(), at(schema, &["format"]).as_str());
        let whole = crate::wire::whole(number);
        let is_in_range = match (kind, format) {
            (Some("integer"), Some("int32")) => whole.is_some_and(|number| i32::try_from(number).is_ok()),
            (Some("integer"), _) => whole.is_some() || number.as_f64().is_some_and(|n| n.fract() == 0.0),
            _ => true,
        };
        if !is_in_range {
            let format =
                format.map_or("(default format)".to_owned(), |format| format!("with format {format}"));
            let place = self.inner(path);
            let text =
                format!("Invalid value: \"\": Checked value must be of type integer {format} in {place}");
            let root = self.root;
            self.faults.push(fault(root, text, false));
        }
        let value = number.as_f64().unwrap_or_default();
        if let Some(least) = at(schema, &["minimum"]).as_f64().filter(|least| value < *least) {
            self.invalid(path, number, &format!("should be greater than or equal to {least}"));
        }
        if let Some(most) = at(schema, &["maximum"]).as_f64().filter(|most| value > *most) {
            self.invalid(path, number, &format!("should be less than or equal to {most}"));
        }
    }

    fn list(&mut self, schema: &Value, items: &[Value], old: Option<&Value>, path: &str) {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        self.count(schema, ("minItems", "maxItems", "items"), count, path);
        let Some(inner) = schema.get("items") else { return };
        let old = old.and_then(Value::as_array);
        for (at, item) in items.iter().enumerate() {
            let before = old.and_then(|old| super::lists::counterpart(schema, old, item, at));
            self.value(inner, item, before, &format!("{path}[{at}]"));
        }
    }

    fn count(&mut self, schema: &Value, names: (&str, &str, &str), count: i64, path: &str) {
        let (least, most, what) = names;
        if let Some(most) = limit(schema, most).filter(|most| count > *most) {
            self.faults.push(fault(path, format!("Too many: {count}: must have at most {most} items"), true));
        }
        if let Some(least) = limit(schema, least).filter(|least| count < *least) {
            self.invalid(path, count, &format!("should have at least {least} {what}"));
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, old: Option<&Value>, path: &str) {
        let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        self.count(schema, ("minProperties", "maxProperties", "properties"), count, path);
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for name in crate::value::texts(schema, &["required"]) {
            if !fields.contains_key(&name) {
                self.faults.push(fault(&join(&name), "Required value", true));
            }
        }
        let rest = schema.get("additionalProperties").filter(|rest| rest.is_object());
        for (name, value) in fields {
            let known = schema.get("properties").and_then(|known| known.get(name)).or(rest);
            if let Some(schema) = known {
                self.value(schema, value, old.and_then(|old| old.get(name)), &join(name));
            }
        }
    }
}

fn limit(schema: &Value, name: &str) -> Option<i64> {
    schema.get(name)?.as_i64()
}
