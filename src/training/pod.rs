//! What keeps a pod from running, as its status says it.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a container waits for in the ordinary course of a start.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Most characters of a message: container runtimes wrap theirs many times over.
const LONGEST: usize = 240;

/// A trouble of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// A container of it ended with an error, and is started again.
    pub(super) ended: bool,
    /// What it is.
    pub(super) why: String,
}

/// Name of the node if it does not run pods now, with the reason.
pub(super) fn node_down(node: &Value) -> Option<(String, String)> {
    let ready = condition(node, "Ready")?;
    if ready["status"] == "True" {
        return None;
    }
    let name = node["metadata"]["name"].as_str()?;
    Some((name.to_owned(), text(&ready["message"])))
}

/// What keeps the pod from running, `None` where nothing does or it has succeeded.
pub(super) fn trouble(pod: &Value, down: &BTreeSet<(String, String)>) -> Option<Trouble> {
    if pod["status"]["phase"] == "Succeeded" {
        return None;
    }
    let waits = |why: String| Some(Trouble { ended: false, why });
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if let Some((node, why)) = down.iter().find(|(name, _)| name == node) {
        return waits(format!("node {node} is not ready: {why}"));
    }
    if let Some(target) = condition(pod, "DisruptionTarget").filter(|target| target["status"] == "True") {
        return waits(format!("{}: {}", text(&target["reason"]), text(&target["message"])));
    }
    if let Some(reason) = pod["status"]["reason"].as_str() {
        return waits(format!("{reason}: {}", text(&pod["status"]["message"])));
    }
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|scheduled| scheduled["status"] == "False")
    {
        return waits(format!("{}: {}", text(&scheduled["reason"]), text(&scheduled["message"])));
    }
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|field| pod["status"][field].as_array().into_iter().flatten())
        .find_map(container)
}

fn container(status: &Value) -> Option<Trouble> {
    let name = text(&status["name"]);
    if let Some(waiting) = status["state"]["waiting"].as_object() {
        let reason = waiting.get("reason").map(text).unwrap_or_default();
        if let Some(trouble) = last_end(status, &name) {
            return Some(trouble);
        }
        if reason.is_empty() || STARTING.contains(&reason.as_str()) {
            return None;
        }
        let message = waiting.get("message").map(text).unwrap_or_default();
        return Some(Trouble { ended: false, why: format!("container {name}: {reason}: {message}") });
    }
    // One that runs again after an error may well end well.
    if status["state"]["running"].is_object() && status["ready"] == true {
        return None;
    }
    last_end(status, &name)
}

/// How the container ended last, if with an error.
fn last_end(status: &Value, name: &str) -> Option<Trouble> {
    let ends = [&status["state"]["terminated"], &status["lastState"]["terminated"]];
    let end = ends.into_iter().find(|end| end["exitCode"].as_i64().is_some_and(|code| code != 0))?;
    let (reason, code) = (text(&end["reason"]), &end["exitCode"]);
    let times = status["restartCount"].as_u64().unwrap_or_default();
    let again = if times > 0 { format!(", restarted {times} times") } else { String::new() };
    let message = text(&end["message"]);
    // What could not be executed stands at the end of a long chain.
    let message = message.rfind("exec: ").map_or(message.as_str(), |start| &message[start..]).to_owned();
    let message = if message.is_empty() { message } else { format!(": {message}") };
    let why = format!("container {name} ended: {reason} (exit code {code}){again}{message}");
    Some(Trouble { ended: true, why })
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// A text without line breaks, and no longer than a person reads.
pub(super) fn text(value: &Value) -> String {
    let text: String = value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= LONGEST {
        return text;
    }
    let half = LONGEST / 2;
    let chars: Vec<char> = text.chars().collect();
    let (start, end) = (&chars[..half], &chars[chars.len() - half..]);
    format!("{} … {}", start.iter().collect::<String>(), end.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(container: &Value) -> Value {
        json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running", "containerStatuses": [container]}})
    }

    fn why(pod: &Value) -> Option<String> {
        trouble(pod, &BTreeSet::new()).map(|trouble| trouble.why)
    }

    /// As a node's kubelet reported them.
    #[test]
    fn containers_tell_what_keeps_them() {
        let start = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
                     failed: unable to start container process: exec: \"torchrum\": executable file not found in $PATH: \
                     unknown";
        let again =
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed"}});
        let image =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"a:v1\""}});
        let ended = |code: u8, reason: &str, message: &str| json!({"terminated": {"exitCode": code, "reason": reason, "message": message}});
        let cases = [
            (
                json!({"name": "node", "state": image}),
                "container node: ImagePullBackOff: Back-off pulling image \"a:v1\"",
            ),
            (
                json!({"name": "node", "restartCount": 2, "state": ended(137, "OOMKilled", ""),
                       "lastState": ended(137, "OOMKilled", "")}),
                "container node ended: OOMKilled (exit code 137), restarted 2 times",
            ),
            (
                json!({"name": "node", "restartCount": 3, "state": again, "lastState": ended(128, "StartError", start)}),
                "container node ended: StartError (exit code 128), restarted 3 times: exec: \"torchrum\": executable \
                 file not found in $PATH: unknown",
            ),
        ];
        for (container, told) in cases {
            assert_eq!(why(&pod(&container)).unwrap(), told);
        }
    }

    #[test]
    fn a_start_in_the_ordinary_course_and_a_run_are_no_trouble() {
        let creating = json!({"name": "node", "state": {"waiting": {"reason": "ContainerCreating"}}});
        let again = json!({"name": "node", "ready": true, "restartCount": 1, "state": {"running": {}},
                           "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}});
        assert_eq!((why(&pod(&creating)), why(&pod(&again))), (None, None));
    }

    #[test]
    fn the_scheduler_the_node_and_an_eviction_come_before_containers() {
        let unscheduled = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"},
        ]}});
        assert_eq!(why(&unscheduled).unwrap(), "Unschedulable: 0/1 nodes are available");
        let preempted = json!({"status": {"phase": "Running", "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another"},
        ]}});
        assert_eq!(why(&preempted).unwrap(), "PreemptionByScheduler: for another");
        let down = BTreeSet::from([("n".to_owned(), "Kubelet stopped posting node status.".to_owned())]);
        let running = pod(&json!({"name": "node", "ready": true, "state": {"running": {}}}));
        let told = trouble(&running, &down).unwrap().why;
        assert_eq!(told, "node n is not ready: Kubelet stopped posting node status.");
    }

    #[test]
    fn a_message_of_any_length_is_one_line_that_can_be_read() {
        let long = json!({"name": "node", "state": {"waiting": {"reason": "ErrImagePull", "message": "a\n".repeat(500)}}});
        let told = why(&pod(&long)).unwrap();
        assert!(told.chars().count() < 300 && !told.contains('\n'), "{told}");
    }
}
