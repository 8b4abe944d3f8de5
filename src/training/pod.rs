//! What a pod says of itself: whether it is ready, and what keeps it from running.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::reason::Reason;

/// What a container waits for in the ordinary course of a start.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Most characters of a message: container runtimes wrap theirs many times over.
const LONGEST: usize = 240;

/// A trouble of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    /// What it is.
    pub(super) why: String,
}

/// A node that does not run pods now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeDown {
    /// What its condition says.
    why: String,
    since: Option<Timestamp>,
}

/// The nodes that do not run pods now, by name.
pub(super) type NodesDown = BTreeMap<String, NodeDown>;

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    /// Nothing where it has none yet.
    pub(super) node: String,
    /// It has done its part.
    has_succeeded: bool,
    /// It runs, or has done its part.
    pub(super) is_ready: bool,
    /// Since when it is not ready.
    pub(super) since: Option<Timestamp>,
    /// How often its containers were started again.
    pub(super) restarts: u64,
    /// How the one that was started again ended before.
    pub(super) last_end: Option<String>,
    trouble: Option<Trouble>,
}

impl Pod {
    /// Of a pod as it is stored.
    pub(super) fn of(pod: &Value) -> Self {
        let has_succeeded = pod["status"]["phase"] == "Succeeded";
        let ready = condition(pod, "Ready");
        let is_ready = has_succeeded || ready.is_some_and(|ready| ready["status"] == "True");
        let since = ready.map_or(&pod["metadata"]["creationTimestamp"], |ready| &ready["lastTransitionTime"]);
        Self {
            name: text(&pod["metadata"]["name"]),
            node: text(&pod["spec"]["nodeName"]),
            has_succeeded,
            is_ready,
            since: if is_ready { None } else { time(since) },
            restarts: containers(pod).filter_map(|status| status["restartCount"].as_u64()).sum(),
            last_end: containers(pod).find_map(ended_before),
            trouble: if has_succeeded { None } else { trouble(pod) },
        }
    }

    /// What keeps it from running, and since when.
    pub(super) fn trouble(&self, down: &NodesDown) -> Option<(Trouble, Option<Timestamp>)> {
        if self.has_succeeded {
            return None;
        }
        if let Some(NodeDown { why, since }) = down.get(&self.node) {
            let why = format!("node {} is not ready: {why}", self.node);
            // The pod is called unready after the node is.
            return Some((Trouble { reason: Reason::NodeNotReady, why }, *since));
        }
        self.trouble.clone().map(|trouble| (trouble, self.since))
    }
}

/// Name of the node and why, if it does not run pods now.
pub(super) fn node_down(node: &Value) -> Option<(String, NodeDown)> {
    let ready = condition(node, "Ready")?;
    if ready["status"] == "True" {
        return None;
    }
    let name = node["metadata"]["name"].as_str()?;
    let since = time(&ready["lastTransitionTime"]);
    Some((name.to_owned(), NodeDown { why: text(&ready["message"]), since }))
}

/// What the pod itself says keeps it from running, `None` where nothing does.
fn trouble(pod: &Value) -> Option<Trouble> {
    let waits = |reason, why: String| Some(Trouble { reason, why });
    if let Some(target) = condition(pod, "DisruptionTarget").filter(|target| target["status"] == "True") {
        return waits(
            Reason::Disrupted,
            format!("{}: {}", text(&target["reason"]), text(&target["message"])),
        );
    }
    if let Some(reason) = pod["status"]["reason"].as_str() {
        return waits(Reason::of_end(reason), format!("{reason}: {}", text(&pod["status"]["message"])));
    }
    if let Some(scheduled) = condition(pod, "PodScheduled").filter(|scheduled| scheduled["status"] == "False")
    {
        let why = format!("{}: {}", text(&scheduled["reason"]), text(&scheduled["message"]));
        return waits(Reason::Unschedulable, why);
    }
    containers(pod).find_map(container)
}

/// What the kubelet says of each container, those that run before the others first.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|field| pod["status"][field].as_array().into_iter().flatten())
}

/// How a container ended before it was started again: "OOMKilled (exit code 137)".
fn ended_before(status: &Value) -> Option<String> {
    let end = status["lastState"]["terminated"].as_object()?;
    let reason = end.get("reason").map(text).unwrap_or_default();
    Some(format!("{reason} (exit code {})", end.get("exitCode").unwrap_or(&Value::Null)))
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
        let why = format!("container {name}: {reason}: {message}");
        return Some(Trouble { reason: Reason::of_waiting(&reason), why });
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
    let reason = if reason == "OOMKilled" { Reason::OutOfMemory } else { Reason::ContainerFailed };
    Some(Trouble { reason, why })
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// A moment as Kubernetes writes it.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
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
        Pod::of(pod).trouble(&NodesDown::new()).map(|(trouble, _)| trouble.why)
    }

    fn reason(pod: &Value) -> Option<Reason> {
        Pod::of(pod).trouble(&NodesDown::new()).map(|(trouble, _)| trouble.reason)
    }

    /// As a node's kubelet reported them.
    #[test]
    fn the_reason_of_a_waiting_container_is_read() {
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
                Reason::ImagePull,
            ),
            (
                json!({"name": "node", "restartCount": 2, "state": ended(137, "OOMKilled", ""),
                       "lastState": ended(137, "OOMKilled", "")}),
                "container node ended: OOMKilled (exit code 137), restarted 2 times",
                Reason::OutOfMemory,
            ),
            (
                json!({"name": "node", "restartCount": 3, "state": again, "lastState": ended(128, "StartError", start)}),
                "container node ended: StartError (exit code 128), restarted 3 times: exec: \"torchrum\": executable \
                 file not found in $PATH: unknown",
                Reason::ContainerFailed,
            ),
        ];
        for (container, told, word) in cases {
            let pod = pod(&container);
            assert_eq!((why(&pod).unwrap().as_str(), reason(&pod)), (told, Some(word)));
        }
    }

    #[test]
    fn normal_starts_and_running_pods_have_no_reason() {
        let creating = json!({"name": "node", "state": {"waiting": {"reason": "ContainerCreating"}}});
        let again = json!({"name": "node", "ready": true, "restartCount": 1, "state": {"running": {}},
                           "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}});
        assert_eq!((why(&pod(&creating)), why(&pod(&again))), (None, None));
        let again = Pod::of(&pod(&again));
        assert_eq!((again.restarts, again.last_end.as_deref()), (1, Some("Error (exit code 1)")));
    }

    #[test]
    fn scheduler_node_and_eviction_reasons_precede_those_of_containers() {
        let unscheduled = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"},
        ]}});
        assert_eq!(why(&unscheduled).unwrap(), "Unschedulable: 0/1 nodes are available");
        assert_eq!(reason(&unscheduled), Some(Reason::Unschedulable));
        let preempted = json!({"status": {"phase": "Running", "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another"},
        ]}});
        assert_eq!(why(&preempted).unwrap(), "PreemptionByScheduler: for another");
        assert_eq!(reason(&preempted), Some(Reason::Disrupted));
        let down = node_down(&json!({"metadata": {"name": "n"}, "status": {"conditions": [{
            "type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "Kubelet stopped posting node status.",
        }]}}));
        let down: NodesDown = down.into_iter().collect();
        let running = pod(&json!({"name": "node", "ready": true, "state": {"running": {}}}));
        let (told, since) = Pod::of(&running).trouble(&down).unwrap();
        assert_eq!(told.why, "node n is not ready: Kubelet stopped posting node status.");
        assert_eq!((told.reason, since), (Reason::NodeNotReady, "2026-01-01T00:00:00Z".parse().ok()));
        let mut over = running;
        over["status"]["phase"] = "Succeeded".into();
        assert_eq!(Pod::of(&over).trouble(&down), None, "it needs no node any more");
    }

    #[test]
    fn messages_are_shortened_to_one_line() {
        let long = json!({"name": "node", "state": {"waiting": {"reason": "ErrImagePull", "message": "a\n".repeat(500)}}});
        let told = why(&pod(&long)).unwrap();
        assert!(told.chars().count() < 300 && !told.contains('\n'), "{told}");
    }
}
