//! Files with objects.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use crate::options::STDIN;
use crate::problem::Exit;
use crate::problem::{InputError, Problem};

/// The objects of a file, of YAML or JSON; `-` is standard input. Lists are taken apart.
pub(super) fn read_all(path: &Path) -> Result<Vec<Value>, Problem> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&text(path)?) {
        let value = Value::deserialize(document).map_err(|error| unusable(path, &error.to_string()))?;
        match value {
            Value::Null => {}
            Value::Object(mut list) if list.get("items").is_some_and(Value::is_array) => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    objects.extend(items);
                }
            }
            object => objects.push(object),
        }
    }
    match objects.iter().find(|object| object["kind"].as_str().is_none_or(str::is_empty)) {
        Some(_) => Err(unusable(path, "a document has no kind")),
        None => Ok(objects),
    }
}

/// The one object of a file, of one of these kinds.
pub(super) fn read_one(path: &Path, kinds: &[&str]) -> Result<Value, Problem> {
    let mut objects = read_all(path)?;
    let object = match (objects.pop(), objects.len()) {
        (Some(object), 0) => object,
        (None, _) => return Err(unusable(path, "the file is empty")),
        (Some(_), others) => {
            return Err(unusable(path, &format!("the file has {} objects, not one", others + 1)));
        }
    };
    let kind = object["kind"].as_str().unwrap_or_default();
    if kinds.contains(&kind) {
        return Ok(object);
    }
    Err(unusable(path, &format!("its kind is {kind}, not {}", kinds.join(" or "))))
}

/// The document of a file that is no object; nothing where the file is empty.
pub(super) fn read_document(path: &Path) -> Result<Value, Problem> {
    serde_yaml::from_str(&text(path)?).map_err(|error| unusable(path, &error.to_string()))
}

fn text(path: &Path) -> Result<String, Problem> {
    let text = if path.as_os_str() == STDIN {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    text.map_err(|source| {
        let mut problem: Problem = InputError::ReadFile { path: path.to_owned(), source }.into();
        // 4 says that there is a TrainJob, and that it is refused.
        problem.exit = Exit::Failed;
        problem
    })
}

/// A file that is not what it is given for.
pub(super) fn unusable(path: &Path, why: &str) -> Problem {
    Problem::new(Exit::Failed, "unusable-file", format!("failed to use {}", path.display()))
        .because(why.to_owned())
        .hint("TrainJobs and runtimes must be of trainer.kubeflow.org/v1alpha1; `kubectl explain trainjob` shows their fields")
}
