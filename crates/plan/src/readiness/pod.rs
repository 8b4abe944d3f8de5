//! Why a pod does not run: the one line that ends the search.

use jiff::Timestamp;
use serde_json::Value;

use super::fields::{conditions, count, flag, list, text, true_condition};

/// Waiting reasons with which the kubelet says that it cannot get an image.
const PULL_REASONS: [&str; 7] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// What keeps a pod from running and does not go away without intervention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodFault {
    /// The kubelet cannot get an image.
    ImagePull {
        /// The image.
        image: String,
        /// Since when the pod is not ready.
        since: Option<Timestamp>,
    },
    /// A container ends as often as it is started.
    CrashLoop {
        /// How often it was started again.
        restarts: i64,
    },
}

/// What is wrong with a pod, of what [`pod_reason`] says in words. A pod that is being deleted is no concern any more.
pub fn pod_fault(pod: &Value) -> Option<PodFault> {
    if text(pod, "/metadata/deletionTimestamp").is_some() {
        return None;
    }
    statuses(pod).find_map(|(_, status)| match text(status, "/state/waiting/reason")? {
        "CrashLoopBackOff" => Some(PodFault::CrashLoop { restarts: count(status, "/restartCount") }),
        reason if PULL_REASONS.contains(&reason) => {
            let image = text(status, "/image").unwrap_or_default().to_owned();
            let ready = list(pod, "/status/conditions").iter().find(|c| text(c, "/type") == Some("Ready"));
            let since = ready.and_then(|ready| text(ready, "/lastTransitionTime"));
            let since = since.or_else(|| text(pod, "/status/startTime"));
            Some(PodFault::ImagePull { image, since: since.and_then(|since| since.parse().ok()) })
        }
        _ => None,
    })
}

/// The one line that says why `pod` is not running and ready. `None` when it is, or has succeeded.
pub fn pod_reason(pod: &Value) -> Option<String> {
    if text(pod, "/metadata/deletionTimestamp").is_some() {
        return Some("being deleted".to_owned());
    }
    match text(pod, "/status/phase") {
        Some("Succeeded") => None,
        Some("Failed") => Some(failure(pod)),
        _ if true_condition(pod, "Ready").is_some() => None,
        _ => unschedulable(pod)
            .or_else(|| container_reason(pod))
            .or_else(|| gates(pod))
            .or_else(|| Some(not_started(pod))),
    }
}

/// Whether a container waits for this reason.
pub(super) fn containers_waiting_for(pod: &Value, reason: &str) -> bool {
    list(pod, "/status/containerStatuses").iter().any(|c| text(c, "/state/waiting/reason") == Some(reason))
}

/// Why no node takes the pod. `None` unless the scheduler has said so.
pub(super) fn unschedulable(pod: &Value) -> Option<String> {
    let scheduled = conditions(pod).find(|c| c.kind == "PodScheduled" && c.status == "False")?;
    match scheduled.reason {
        "SchedulingGated" => Some("held back by a scheduling gate".to_owned()),
        "Unschedulable" if scheduled.message.is_empty() => Some("no node fits".to_owned()),
        "Unschedulable" => Some(readable(scheduled.message)),
        _ => None,
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had a taint. preemption: …` becomes
/// `no node of 3 fits: Insufficient cpu (1), node(s) had a taint (2)`; any other text stays as it is.
fn readable(message: &str) -> String {
    let message = message.split(" preemption:").next().unwrap_or_default().trim().trim_end_matches('.');
    let Some((nodes, causes)) = message
        .strip_prefix("0/")
        .and_then(|rest| rest.split_once(" nodes are available: "))
        .filter(|(nodes, _)| nodes.parse::<u32>().is_ok())
    else {
        return one_line(message);
    };
    let causes = counted_causes(causes);
    if let [(_, cause)] = causes.as_slice() {
        return format!("no node fits: {cause}");
    }
    let all: Vec<_> = causes.iter().map(|(count, cause)| format!("{cause} ({count})")).collect();
    format!("no node of {nodes} fits: {}", all.join(", "))
}

/// Splits `1 Insufficient cpu, 2 node(s) had a taint`. A comma inside a cause is not followed by a count.
fn counted_causes(causes: &str) -> Vec<(u32, String)> {
    let mut all: Vec<(u32, String)> = Vec::new();
    for part in causes.split(", ") {
        let counted = part.split_once(' ').and_then(|(count, cause)| Some((count.parse().ok()?, cause)));
        match (counted, all.last_mut()) {
            (Some((count, cause)), _) => all.push((count, one_line(cause))),
            (None, Some((_, last))) => *last = format!("{last}, {part}"),
            (None, None) => all.push((0, one_line(part))),
        }
    }
    all
}

fn failure(pod: &Value) -> String {
    let own = [text(pod, "/status/reason"), text(pod, "/status/message")];
    let own: Vec<_> = own.into_iter().flatten().map(one_line).collect();
    if !own.is_empty() {
        return own.join(": ");
    }
    statuses(pod)
        .find_map(|(role, status)| {
            let ended = exit(status.pointer("/state/terminated")?)?;
            Some(format!("{role}{} {ended}", name(status)))
        })
        .unwrap_or_else(|| "failed".to_owned())
}

/// Init containers first: nothing after them runs before they are through.
fn statuses(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let of = |pointer, role| list(pod, pointer).iter().map(move |status| (role, status));
    of("/status/initContainerStatuses", "init container ")
        .chain(of("/status/containerStatuses", "container "))
}

fn name(status: &Value) -> &str {
    text(status, "/name").unwrap_or("without a name")
}

/// The first trouble, else the first thing that merely takes its time.
fn container_reason(pod: &Value) -> Option<String> {
    statuses(pod)
        .find_map(|(role, status)| trouble(status).map(|what| format!("{role}{}: {what}", name(status))))
        .or_else(|| {
            statuses(pod)
                .find_map(|(role, status)| pace(pod, role, status).map(|what| (role, status, what)))
                .map(|(role, status, what)| format!("{role}{}: {what}", name(status)))
        })
}

fn trouble(status: &Value) -> Option<String> {
    if let Some(ended) = status.pointer("/state/terminated").and_then(exit) {
        return Some(ended);
    }
    let reason = text(status, "/state/waiting/reason")?;
    let message = text(status, "/state/waiting/message").map(one_line);
    match reason {
        "ContainerCreating" | "PodInitializing" => None,
        "CrashLoopBackOff" => {
            let ended = status.pointer("/lastState/terminated").and_then(exit);
            let restarts = count(status, "/restartCount");
            let mut line = reason.to_owned();
            if let Some(ended) = ended {
                line = format!("{line}, {ended}");
            }
            if restarts > 0 {
                line = format!("{line}, {restarts} restarts");
            }
            Some(line)
        }
        _ if PULL_REASONS.contains(&reason) => {
            let image = text(status, "/image").unwrap_or("its image");
            let cause = message.as_deref().and_then(|message| pull_cause(message, image));
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            Some(format!("{reason}, cannot pull {image}{cause}"))
        }
        _ => Some(message.map_or_else(|| reason.to_owned(), |message| format!("{reason}: {message}"))),
    }
}

/// Why an image could not be pulled: the end of the chain of what was tried, without the image's name and addresses of
/// it in every link. Older kubelets say no more of a back-off than that there is one.
fn pull_cause<'m>(message: &'m str, image: &str) -> Option<&'m str> {
    let cause = match message.strip_prefix("Back-off pulling image ") {
        Some(rest) => rest.split_once("\": ").map(|(_, cause)| cause)?,
        None => message,
    };
    let last = cause.rsplit_once("\": ").map_or(cause, |(_, last)| last);
    let last = last.strip_prefix(image).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(last);
    (!last.is_empty()).then_some(last)
}

/// How a container ended, if not well: `exited with 1 (Error)`, `killed: OOMKilled`.
fn exit(terminated: &Value) -> Option<String> {
    let code = count(terminated, "/exitCode");
    let reason = text(terminated, "/reason").unwrap_or_default();
    if code == 0 {
        return None;
    }
    let mut line = match reason {
        "OOMKilled" => "killed: OOMKilled".to_owned(),
        "" => format!("exited with {code}"),
        _ => format!("exited with {code} ({reason})"),
    };
    if let Some(message) = text(terminated, "/message") {
        line = format!("{line}: {}", one_line(message));
    }
    Some(line)
}

fn pace(pod: &Value, role: &str, status: &Value) -> Option<String> {
    let init = role.starts_with("init");
    if text(status, "/state/waiting/reason") == Some("ContainerCreating") {
        return Some("being created".to_owned());
    }
    if text(status, "/state/waiting/reason") == Some("PodInitializing") && init {
        return Some("waiting for other init containers".to_owned());
    }
    if status.pointer("/state/running").is_none() || flag(status, "/ready") {
        return None;
    }
    let specified = |list_of: &str, probe: &str| {
        list(pod, list_of)
            .iter()
            .find(|c| text(c, "/name") == Some(name(status)))
            .is_some_and(|c| c.get(probe).is_some_and(Value::is_object))
    };
    let list_of = if init { "/spec/initContainers" } else { "/spec/containers" };
    if status.get("started") == Some(&Value::Bool(false)) && specified(list_of, "startupProbe") {
        Some("startup probe not yet passed".to_owned())
    } else if specified(list_of, "readinessProbe") {
        Some("readiness probe not yet passed".to_owned())
    } else if init {
        Some("still running".to_owned())
    } else {
        Some("running, not yet ready".to_owned())
    }
}

/// Containers are ready, the pod is not: a readiness gate is not met.
fn gates(pod: &Value) -> Option<String> {
    let ready = conditions(pod).find(|c| c.kind == "Ready" && c.reason == "ReadinessGatesNotReady")?;
    Some(if ready.message.is_empty() {
        "a readiness gate is not met".to_owned()
    } else {
        one_line(ready.message)
    })
}

fn not_started(pod: &Value) -> String {
    match text(pod, "/spec/nodeName") {
        Some(node) => format!("scheduled to {node}, not yet started"),
        None => "not yet scheduled".to_owned(),
    }
}

/// The first line, without the space around it.
fn one_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().trim_end().to_owned()
}
