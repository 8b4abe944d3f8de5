//! What the API server makes of our kinds: unknown fields vanish, defaults are filled in, schema, list types and rules are
//! checked; errors in its words. Everything follows from the type table, from which the CRDs are made too.

mod cel;
mod defaults;
mod lists;
mod prune;
mod schema;

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use semver::Version;
use serde_json::Value;
use trainerd_schema::{Levels, SchemaError};

use crate::domain_path::subdomain_errors;
use crate::go;
use crate::names::name;
use crate::value::{at, text};

/// Levels of the native CRDs: the release's, and what its main branch tightens.
static LEVELS: LazyLock<Levels> = LazyLock::new(|| {
    Levels::new([
        ("k8s", Version::new(1, 36, 3)),
        ("jobset", Version::new(0, 12, 0)),
        ("trainer", Version::new(2, 4, 0)),
        ("native", Version::new(1, 0, 0)),
    ])
});

/// Which part of an object a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status.
    Main,
    /// The status alone.
    Status,
}

/// What the API server does with a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Why it refuses it (422 `Invalid`); empty when it does not.
    pub errors: Vec<String>,
    /// Fields that it drops.
    pub pruned: Vec<String>,
    /// The object as it is stored, errors aside.
    pub object: Value,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A kind that is none of ours.
    #[error("failed to find the schema of {0}")]
    UnknownKind(String),
    /// The type table does not read: a defect of this build, which its tests rule out.
    #[error("failed to read the type table")]
    Table(#[source] &'static trainerd_schema::ParseError),
    /// The type table cannot say the schema: likewise.
    #[error("failed to make the schema")]
    Schema(#[from] SchemaError),
}

/// An error and whether rules are evaluated beside it.
struct Fault {
    text: String,
    blocks_rules: bool,
}

fn fault(path: &str, text: impl std::fmt::Display, blocks_rules: bool) -> Fault {
    let path = if path.is_empty() { "<nil>" } else { path };
    Fault { text: format!("{path}: {text}"), blocks_rules }
}

/// The schema of a kind, and whether its status is written apart.
fn schema_of(kind: &str) -> Result<(Value, bool), ApiError> {
    static KNOWN: Mutex<BTreeMap<&'static str, Value>> = Mutex::new(BTreeMap::new());
    let (type_name, has_status) = match kind {
        "TrainJob" => ("TrainJob", true),
        "OptimizationJob" => ("OptimizationJob", true),
        "TrainingRuntime" | "ClusterTrainingRuntime" => ("TrainingRuntime", false),
        other => return Err(ApiError::UnknownKind(other.to_owned())),
    };
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(schema) = known.get(type_name) {
        return Ok((schema.clone(), has_status));
    }
    let table = trainerd_api::table().map_err(ApiError::Table)?;
    let schema = table.schema(type_name, &LEVELS)?;
    known.insert(type_name, schema.clone());
    Ok((schema, has_status))
}

/// An object of ours with defaults, and without what the API server drops.
///
/// # Errors
/// For a kind that is none of ours.
pub fn defaulted(object: &Value) -> Result<Value, ApiError> {
    let (schema, _) = schema_of(text(object, &["kind"]).unwrap_or_default())?;
    let mut object = object.clone();
    prune::prune(&schema, &mut object);
    defaults::fill(&schema, &mut object);
    Ok(object)
}

/// Creation of an object, or its update from `old`.
///
/// # Errors
/// For a kind that is none of ours.
pub fn store(object: &Value, old: Option<&Value>, part: Part) -> Result<Stored, ApiError> {
    let (schema, has_status) = schema_of(text(object, &["kind"]).unwrap_or_default())?;
    let old = old.map(defaulted).transpose()?;
    let mut new = object.clone();
    let pruned = prune::prune(&schema, &mut new);
    defaults::fill(&schema, &mut new);
    if has_status {
        keep_other_part(&mut new, old.as_ref(), part);
    }
    let mut faults = Vec::new();
    match part {
        Part::Main => {
            faults.extend(schema::check(&schema, &new, old.as_ref(), "", ""));
            for detail in subdomain_errors(name(&new)) {
                let text = format!("Invalid value: {}: {detail}", go::quoted(name(&new)));
                faults.push(fault("metadata.name", text, false));
            }
        }
        Part::Status => {
            let (schema, path) = (at(&schema, &["properties", "status"]), "status");
            let old = old.as_ref().map(|old| at(old, &["status"]));
            faults.extend(schema::check(schema, at(&new, &["status"]), old, path, path));
        }
    }
    // Lists that were invalid before may stay so.
    if old.as_ref().is_none_or(|old| lists::check(&schema, old, "").is_empty()) {
        faults.extend(lists::check(&schema, &new, ""));
    }
    if faults.iter().any(|fault| fault.blocks_rules) {
        faults.push(fault(
            "",
            "Invalid value: null: some validation rules were not checked because the object was invalid; correct the \
             existing errors to complete validation",
            false,
        ));
    } else {
        faults.extend(cel::check(&schema, &new, old.as_ref(), ""));
    }
    Ok(Stored { errors: faults.into_iter().map(|fault| fault.text).collect(), pruned, object: new })
}

/// A request for the status leaves all else as it is, and the other way around.
fn keep_other_part(new: &mut Value, old: Option<&Value>, part: Part) {
    let kept = |key: &str| old.and_then(|old| old.get(key)).cloned();
    let Some(fields) = new.as_object_mut() else { return };
    let keys: Vec<String> = match part {
        Part::Main => vec!["status".to_owned()],
        Part::Status => {
            let mut keys: Vec<String> = fields.keys().cloned().collect();
            keys.extend(old.and_then(Value::as_object).into_iter().flat_map(|old| old.keys().cloned()));
            keys.retain(|key| !["status", "metadata", "kind", "apiVersion"].contains(&key.as_str()));
            keys
        }
    };
    for key in keys {
        match kept(&key) {
            Some(value) => drop(fields.insert(key, value)),
            None => drop(fields.remove(&key)),
        }
    }
}

#[cfg(test)]
mod tests;
