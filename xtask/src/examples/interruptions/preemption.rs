//! A pod that the scheduler has ended for one of a higher priority.

use serde_json::{Value, json};

use super::super::Error;
use super::super::run::NAMESPACE;
use crate::demo::Scene;

/// Name of the pod and of its PriorityClass.
const URGENT: &str = "urgent-example";

/// What of the node's processors is asked for by no pod, in thousandths.
pub(super) fn free(scene: &Scene) -> Result<u64, Error> {
    let nodes = scene.get(&["nodes"])?;
    let all = quantity(&nodes["items"][0]["status"]["allocatable"]["cpu"]);
    let pods = scene.get(&["pods", "--all-namespaces"])?;
    let pods = pods["items"].as_array().into_iter().flatten();
    let live = pods.filter(|pod| !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")));
    let containers = live.flat_map(|pod| pod["spec"]["containers"].as_array().into_iter().flatten());
    let asked: u64 = containers.map(|container| quantity(&container["resources"]["requests"]["cpu"])).sum();
    Ok(all.saturating_sub(asked))
}

/// Processors in thousandths, as Kubernetes writes them in its canonical form: `2` or `250m`.
fn quantity(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or("0");
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().unwrap_or_default(),
        None => text.parse().map_or(0, |whole: u64| whole * 1000),
    }
}

/// Makes a pod that asks for so much, before everybody else, for that many seconds.
pub(super) fn urgent(scene: &Scene, milli: u64, seconds: u8) -> Result<(), Error> {
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": URGENT}, "value": 1000,
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": URGENT, "namespace": NAMESPACE},
        "spec": {
            "priorityClassName": URGENT, "restartPolicy": "Never",
            "containers": [{
                "name": "urgent", "image": "localhost/trainer/python:3.13",
                "command": ["python3", "-c", format!("import time; time.sleep({seconds})")],
                "resources": {"requests": {"cpu": format!("{milli}m")}},
            }],
        },
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [class, pod]});
    Ok(scene.kubectl_with(&["apply", "--filename", "-"], &list.to_string())?)
}

/// Takes both away again.
pub(super) fn clear(scene: &Scene) -> Result<(), Error> {
    scene.kubectl_run(&["delete", "pod", URGENT, "--namespace", NAMESPACE, "--ignore-not-found"])?;
    Ok(scene.kubectl_run(&["delete", "priorityclass", URGENT, "--ignore-not-found"])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_counted_in_millicores() {
        assert_eq!(["2", "250m", "0"].map(|text| quantity(&json!(text))), [2000, 250, 0]);
        assert_eq!(quantity(&Value::Null), 0);
    }
}
