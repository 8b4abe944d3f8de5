//! Pod specs and the images in them, wherever they are in an object.

use serde_json::{Value, json};

/// The lists of a pod spec that hold containers.
const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];
/// Environment variables whose value is the image of something that the container starts.
const IMAGE_VARIABLES: [&str; 1] = ["CACHE_IMAGE"];

/// Whether a value is a pod spec: of a workload, or inside a runtime.
fn is_pod_spec(value: &Value) -> bool {
    value.get("containers").is_some_and(Value::is_array)
}

/// Gives every pod of an object the names of Secrets with registry credentials.
pub(crate) fn set_pull_secrets(value: &mut Value, secrets: &[String]) {
    if secrets.is_empty() {
        return;
    }
    if is_pod_spec(value) {
        value["imagePullSecrets"] = secrets.iter().map(|name| json!({ "name": name })).collect();
        return;
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|field| set_pull_secrets(field, secrets)),
        Value::Array(items) => items.iter_mut().for_each(|item| set_pull_secrets(item, secrets)),
        _ => {}
    }
}

/// Every image that the pods of an object name, in the order of the object.
pub(crate) fn images(value: &Value) -> Vec<&str> {
    if is_pod_spec(value) {
        let containers = CONTAINER_LISTS.iter().filter_map(|list| value[*list].as_array()).flatten();
        return containers.flat_map(images_of_container).collect();
    }
    match value {
        Value::Object(fields) => fields.values().flat_map(images).collect(),
        Value::Array(items) => items.iter().flat_map(images).collect(),
        _ => Vec::new(),
    }
}

/// The names of the containers of every pod of an object, in the order of the object.
pub(crate) fn containers(value: &Value) -> Vec<&str> {
    if is_pod_spec(value) {
        let containers = CONTAINER_LISTS.iter().filter_map(|list| value[*list].as_array()).flatten();
        return containers.map(|container| container["name"].as_str().unwrap_or_default()).collect();
    }
    match value {
        Value::Object(fields) => fields.values().flat_map(containers).collect(),
        Value::Array(items) => items.iter().flat_map(containers).collect(),
        _ => Vec::new(),
    }
}

fn images_of_container(container: &Value) -> impl Iterator<Item = &str> {
    let is_image =
        |variable: &&Value| variable["name"].as_str().is_some_and(|name| IMAGE_VARIABLES.contains(&name));
    let variables = container["env"].as_array().into_iter().flatten().filter(is_image);
    container["image"].as_str().into_iter().chain(variables.filter_map(|variable| variable["value"].as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_at_any_depth() {
        let pod = |image: &str| {
            json!({"template": {"spec": {
                "containers": [{"image": image, "env": [{"name": "CACHE_IMAGE", "value": "cache:1"}, {"name": "A", "value": "b"}]}],
                "initContainers": [{"image": "init:1"}],
            }}})
        };
        let mut manifest = json!({"spec": {"replicatedJobs": [pod("a:1"), pod("b:1")]}});
        assert_eq!(images(&manifest), ["a:1", "cache:1", "init:1", "b:1", "cache:1", "init:1"]);
        set_pull_secrets(&mut manifest, &["one".to_owned(), "two".to_owned()]);
        for job in manifest["spec"]["replicatedJobs"].as_array().unwrap() {
            assert_eq!(
                job["template"]["spec"]["imagePullSecrets"],
                json!([{"name": "one"}, {"name": "two"}])
            );
        }
    }
}
