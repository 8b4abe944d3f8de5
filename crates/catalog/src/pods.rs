//! Pod specs and the images in them, wherever they are in an object.

use serde_json::{Value, json};

/// The lists of a pod spec that hold containers.
const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];
/// Environment variables whose value is the image of something that the container starts.
const IMAGE_VARIABLES: [&str; 1] = ["CACHE_IMAGE"];

/// Calls `visit` with every pod spec in an object: those of workloads, and those inside runtimes.
fn pod_specs(value: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Object(fields) => {
            if fields.get("containers").is_some_and(Value::is_array) {
                visit(value);
                return;
            }
            fields.values_mut().for_each(|field| pod_specs(field, visit));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| pod_specs(item, visit)),
        _ => {}
    }
}

/// Gives every pod the names of Secrets with registry credentials.
pub(crate) fn set_pull_secrets(manifest: &mut Value, secrets: &[String]) {
    if secrets.is_empty() {
        return;
    }
    let names: Vec<Value> = secrets.iter().map(|name| json!({ "name": name })).collect();
    pod_specs(manifest, &mut |pod| pod["imagePullSecrets"] = Value::Array(names.clone()));
}

/// Every image that an object names, in the order of the object.
pub(crate) fn images(manifest: &Value) -> Vec<String> {
    let mut found = Vec::new();
    pod_specs(&mut manifest.clone(), &mut |pod| {
        for container in CONTAINER_LISTS.iter().filter_map(|list| pod[*list].as_array()).flatten() {
            found.extend(container["image"].as_str().map(str::to_owned));
            let variables = container["env"].as_array().map(Vec::as_slice).unwrap_or_default();
            let images = variables.iter().filter(|variable| {
                variable["name"].as_str().is_some_and(|name| IMAGE_VARIABLES.contains(&name))
            });
            found.extend(images.filter_map(|variable| variable["value"].as_str()).map(str::to_owned));
        }
    });
    found
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
