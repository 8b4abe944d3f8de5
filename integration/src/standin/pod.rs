//! What a kubelet and a scheduler do about a pod: a pure decision, and the statuses they report.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{NEVER_READY, NODE, capacity};

/// The next thing to do about a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Put it on the node.
    Bind,
    /// Say that there is no room for it.
    SayNoRoom,
    /// Run it: report it ready, or what its image lacks.
    Run,
    /// Let it go.
    Finalise,
}

/// Decides about a pod, with `left` thousandths of a core to give away.
pub(super) fn decide(pod: &Value, left: u64) -> Option<Action> {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
    let ours = text("/spec/nodeName") == Some(NODE);
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return ours.then_some(Action::Finalise);
    }
    if matches!(text("/status/phase"), Some("Succeeded" | "Failed")) {
        return None;
    }
    match text("/spec/nodeName") {
        None | Some("") if pod.pointer("/spec/schedulingGates").is_none() => {
            if capacity::requested_millis(pod) <= left {
                Some(Action::Bind)
            } else {
                (condition(pod, "PodScheduled") != Some("False")).then_some(Action::SayNoRoom)
            }
        }
        Some(node) if node == NODE => {
            // The kubelet's first report sets podIP; before it, whatever the status says is not ours.
            let reported = text("/status/podIP").is_some() || has_trouble(pod);
            (!reported).then_some(Action::Run)
        }
        _ => None,
    }
}

/// Whether a pod takes room on the node.
pub(super) fn uses_capacity(pod: &Value) -> bool {
    pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(NODE)
        && !matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

fn has_trouble(pod: &Value) -> bool {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    statuses.into_iter().flatten().any(|status| status.pointer("/state/waiting/reason").is_some())
}

/// Whether the image can be pulled.
fn is_pullable(image: &str) -> bool {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    !tag.contains(NEVER_READY)
}

/// The status of a pod without room, as the scheduler words it.
pub(super) fn unschedulable_status(now: &str) -> Value {
    json!({"conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
        "lastProbeTime": null,
        "lastTransitionTime": now,
    }]})
}

/// The status of a pod on the node: every container runs, but for those whose image cannot be pulled.
pub(super) fn running_status(pod: &Value, address: IpAddr, now: &str) -> Value {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let images: Vec<(&str, &str)> = containers
        .into_iter()
        .flatten()
        .map(|c| (c["name"].as_str().unwrap_or_default(), c["image"].as_str().unwrap_or_default()))
        .collect();
    let ready = images.iter().all(|(_, image)| is_pullable(image));
    let statuses: Vec<Value> = images
        .iter()
        .map(|(name, image)| {
            let state = if is_pullable(image) {
                json!({"running": {"startedAt": now}})
            } else {
                let message = format!("Back-off pulling image \"{image}\"");
                json!({"waiting": {"reason": "ImagePullBackOff", "message": message}})
            };
            json!({
                "name": name, "image": image, "imageID": "", "restartCount": 0, "state": state,
                "ready": is_pullable(image), "started": is_pullable(image),
            })
        })
        .collect();
    let condition = |kind: &str, holds: bool| {
        let mut condition = json!({"type": kind, "status": if holds { "True" } else { "False" },
                                   "lastProbeTime": null, "lastTransitionTime": now});
        if !holds {
            condition["reason"] = json!("ContainersNotReady");
        }
        condition
    };
    let started = images.iter().any(|(_, image)| is_pullable(image));
    json!({
        "phase": if started { "Running" } else { "Pending" },
        "hostIP": address.to_string(),
        "hostIPs": [{"ip": address.to_string()}],
        "podIP": address.to_string(),
        "podIPs": [{"ip": address.to_string()}],
        "startTime": now,
        "conditions": [
            condition("PodReadyToStartContainers", true),
            condition("Initialized", true),
            condition("Ready", ready),
            condition("ContainersReady", ready),
            condition("PodScheduled", true),
        ],
        "containerStatuses": statuses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, cpu: &str, status: &Value) -> Value {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [{"name": "c", "image": "i:v1", "resources": {"requests": {"cpu": cpu}}}]},
            "status": status,
        });
        if !node.is_empty() {
            pod["spec"]["nodeName"] = json!(node);
        }
        pod
    }

    #[test]
    fn the_next_action_for_a_pod_is_decided() {
        let address = "10.0.0.1".parse().unwrap();
        let pending = json!({"phase": "Pending"});
        let refused = unschedulable_status("t");
        let running = running_status(&pod(NODE, "1", &pending), address, "t");
        let cases = [
            (pod("", "1", &pending), 1000, Some(Action::Bind)),
            (pod("", "2", &pending), 1000, Some(Action::SayNoRoom)),
            (pod("", "2", &refused), 1000, None),
            (pod("", "2", &refused), 2000, Some(Action::Bind)),
            (pod(NODE, "1", &pending), 0, Some(Action::Run)),
            (pod(NODE, "1", &running), 0, None),
            (pod("other", "1", &pending), 1000, None),
            (pod(NODE, "1", &json!({"phase": "Succeeded"})), 0, None),
        ];
        for (pod, left, expected) in cases {
            assert_eq!(decide(&pod, left), expected, "{pod}");
        }
        let mut going = pod(NODE, "1", &running);
        going["metadata"]["deletionTimestamp"] = json!("t");
        assert_eq!(decide(&going, 0), Some(Action::Finalise));
        going["spec"]["nodeName"] = json!("other");
        assert_eq!(decide(&going, 0), None);
    }

    #[test]
    fn an_image_that_cannot_be_pulled_keeps_its_pod_waiting() {
        let mut pod = pod(NODE, "1", &json!({"phase": "Pending"}));
        pod["spec"]["containers"][0]["image"] = json!("never-ready.example/x:v1");
        let status = running_status(&pod, "10.0.0.1".parse().unwrap(), "t");
        assert_eq!(
            (status["phase"].as_str(), condition(&json!({"status": status}), "Ready")),
            (Some("Running"), Some("True"))
        );
        pod["spec"]["containers"][0]["image"] = json!("example/x:never-ready-1");
        pod["status"] = running_status(&pod, "10.0.0.1".parse().unwrap(), "t");
        assert_eq!(pod["status"]["phase"], "Pending");
        assert_eq!(condition(&pod, "Ready"), Some("False"));
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "ImagePullBackOff");
        assert_eq!(decide(&pod, 0), None, "it is reported once");
    }
}
