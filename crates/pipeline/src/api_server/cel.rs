//! Rules of a schema, in the Common Expression Language.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex};

use cel::{Context, Program, Value as CelValue};
use serde_json::Value;

use super::{Fault, fault};
use crate::go;
use crate::value::{at, items, text};

/// Every rule that does not hold. One that speaks of the old value is not asked where there is none, one that does not is
/// not asked where nothing changed.
pub(super) fn check(schema: &Value, value: &Value, old: Option<&Value>, path: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    walk(schema, value, old, path, &mut faults);
    faults
}

fn walk(schema: &Value, value: &Value, old: Option<&Value>, path: &str, faults: &mut Vec<Fault>) {
    if value.is_null() {
        return;
    }
    for rule in items(schema, &["x-kubernetes-validations"]) {
        faults.extend(evaluate(rule, schema, value, old, path));
    }
    match value {
        Value::Array(list) => {
            let Some(inner) = schema.get("items") else { return };
            let old = old.and_then(Value::as_array);
            for (at, item) in list.iter().enumerate() {
                let before = old.and_then(|old| super::lists::counterpart(schema, old, item, at));
                walk(inner, item, before, &format!("{path}[{at}]"), faults);
            }
        }
        Value::Object(fields) => {
            let rest = schema.get("additionalProperties").filter(|rest| rest.is_object());
            for (name, value) in fields {
                let before = old.and_then(|old| old.get(name));
                let known = schema.get("properties").and_then(|known| known.get(name));
                match (known, rest) {
                    (Some(schema), _) if path.is_empty() => walk(schema, value, before, name, faults),
                    (Some(schema), _) => walk(schema, value, before, &format!("{path}.{name}"), faults),
                    (None, Some(schema)) => walk(schema, value, before, &format!("{path}[{name}]"), faults),
                    (None, None) => {}
                }
            }
        }
        _ => {}
    }
}

fn evaluate(rule: &Value, schema: &Value, value: &Value, old: Option<&Value>, path: &str) -> Option<Fault> {
    let expression = text(rule, &["rule"])?;
    let is_transition = expression.contains("oldSelf");
    let has_past = old.is_some_and(|old| !old.is_null());
    let is_optional = at(rule, &["optionalOldSelf"]).as_bool() == Some(true);
    if is_transition && !has_past && !is_optional || !is_transition && old == Some(value) {
        return None;
    }
    let kind = go::quoted(text(schema, &["type"]).unwrap_or_default());
    let program = match program(expression) {
        Ok(program) => program,
        Err(error) => {
            return Some(fault(path, format!("Invalid value: {kind}: rule compile error: {error}"), false));
        }
    };
    let mut context = Context::default();
    context.add_variable_from_value("self", convert(value));
    if let Some(old) = old {
        context.add_variable_from_value("oldSelf", convert(old));
    }
    match program.execute(&context) {
        Ok(CelValue::Bool(true)) => return None,
        Ok(_) => {}
        Err(error) => {
            let text =
                format!("Invalid value: {kind}: {error} evaluating rule: {}", message(rule, expression));
            return Some(fault(path, text, false));
        }
    }
    let path = match text(rule, &["fieldPath"]) {
        Some(field) => format!("{path}{field}"),
        None => path.to_owned(),
    };
    let detail = message(rule, expression);
    let text = match text(rule, &["reason"]) {
        Some("FieldValueForbidden") => format!("Forbidden: {detail}"),
        Some("FieldValueRequired") => format!("Required value: {detail}"),
        _ => match value {
            Value::String(text) => format!("Invalid value: {}: {detail}", go::quoted(text)),
            Value::Object(_) | Value::Array(_) => format!("Invalid value: {detail}"),
            other => format!("Invalid value: {other}: {detail}"),
        },
    };
    Some(fault(path.trim_start_matches('.'), text, false))
}

fn message(rule: &Value, expression: &str) -> String {
    match text(rule, &["message"]) {
        Some(message) if !message.is_empty() => message.trim().to_owned(),
        _ => format!("failed rule: {}", expression.trim()),
    }
}

/// Rules are few, and compiled once.
fn program(expression: &str) -> Result<Arc<Program>, String> {
    static KNOWN: LazyLock<Mutex<BTreeMap<String, Arc<Program>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(program) = known.get(expression) {
        return Ok(Arc::clone(program));
    }
    let program = Arc::new(Program::compile(expression).map_err(|error| error.to_string())?);
    known.insert(expression.to_owned(), Arc::clone(&program));
    Ok(program)
}

fn convert(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(value) => CelValue::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => CelValue::Int(number),
            None => CelValue::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(convert).collect())),
        Value::Object(fields) => {
            let map: HashMap<String, CelValue> =
                fields.iter().map(|(key, value)| (key.clone(), convert(value))).collect();
            CelValue::Map(map.into())
        }
    }
}
