//! What an object waits for, judged with what it alone does not show: the endpoints behind a webhook, the pods of a
//! workload.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{Readiness, Status, WorkloadStatus};
use crate::applyset;
use crate::object::ObjectKey;
use crate::order::{ObjectClass, object_class};
use crate::reason::WaitingOn;

/// What an object waits for; `None` when it is ready. `answers`: whether a Service (`namespace/name`) has a ready
/// endpoint.
pub fn waits<'a>(
    key: &ObjectKey,
    value: &Value,
    answers: impl Fn(&str) -> bool,
    pods: impl Iterator<Item = (&'a ObjectKey, &'a Value)> + Clone,
    now: Timestamp,
) -> Option<WaitingOn> {
    let readiness = super::compute(value, now);
    if object_class(key) == ObjectClass::Webhook {
        return webhook_waits(key, &readiness, value, answers);
    }
    if readiness.is_current() {
        return None;
    }
    let workload = workload(key, value, pods.clone());
    let message = match pod_trouble(key, value, pods) {
        Some(trouble) => format!("{}; {trouble}", readiness.message),
        None => readiness.message,
    };
    Some(WaitingOn::Ready { object: key.clone(), message, workload })
}

/// The Services (`namespace/name`) that the webhooks of a configuration call.
pub fn services(configuration: &Value) -> BTreeSet<String> {
    let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
    let service = |webhook: &Value| {
        let service = &webhook["clientConfig"]["service"];
        Some(format!("{}/{}", service["namespace"].as_str()?, service["name"].as_str()?))
    };
    webhooks.filter_map(service).collect()
}

/// What a webhook configuration waits for: first somebody who answers, then the bundle to believe them by, in
/// the order in which a run waits for them.
fn webhook_waits(
    key: &ObjectKey,
    readiness: &Readiness,
    configuration: &Value,
    answers: impl Fn(&str) -> bool,
) -> Option<WaitingOn> {
    if let Some(service) = services(configuration).into_iter().find(|service| !answers(service)) {
        return Some(WaitingOn::WebhookEndpoint { service });
    }
    match readiness.status {
        Status::Current => None,
        Status::InProgress => Some(WaitingOn::CaBundle { object: key.clone() }),
        Status::Failed | Status::Terminating => {
            Some(WaitingOn::ready(key.clone(), readiness.message.clone()))
        }
    }
}

/// What the first pod of a workload that is in trouble says: `pod NAME: REASON`.
pub fn pod_trouble<'a>(
    workload: &ObjectKey,
    value: &Value,
    pods: impl Iterator<Item = (&'a ObjectKey, &'a Value)>,
) -> Option<String> {
    let troubled = pods_of(workload, value, pods)?
        .filter_map(|(key, pod)| Some((key.name.as_str(), super::pod_reason(pod)?)));
    let (pod, reason) = troubled.min()?;
    Some(format!("pod {pod}: {}", shortened(&reason)))
}

/// The pods of a workload.
fn pods_of<'a>(
    workload: &ObjectKey,
    value: &Value,
    pods: impl Iterator<Item = (&'a ObjectKey, &'a Value)>,
) -> Option<impl Iterator<Item = (&'a ObjectKey, &'a Value)>> {
    let selector = value["spec"]["selector"]["matchLabels"].as_object()?;
    let belongs = move |pod: &Value| {
        selector.iter().all(|(label, value)| applyset::label(pod, label) == value.as_str())
    };
    Some(pods.filter(move |(key, pod)| key.namespace == workload.namespace && belongs(pod)))
}

/// How many of a workload's pods are ready, and what is wrong with the first with which something is.
pub fn workload<'a>(
    key: &ObjectKey,
    value: &Value,
    pods: impl Iterator<Item = (&'a ObjectKey, &'a Value)>,
) -> Option<WorkloadStatus> {
    let faults = pods_of(key, value, pods)?.filter_map(|(key, pod)| Some((key, super::pod_fault(pod)?)));
    let fault = faults.min_by_key(|(key, _)| *key).map(|(_, fault)| fault);
    Some(WorkloadStatus { fault, ..WorkloadStatus::of(value)? })
}

/// What a pod says, no longer than a line or two: the beginning, which says what, and the end, which says why.
fn shortened(reason: &str) -> String {
    const SHOWN: usize = 240;
    let count = reason.chars().count();
    if count <= SHOWN {
        return reason.to_owned();
    }
    let part = |skipped: usize| reason.chars().skip(skipped).take(SHOWN / 2).collect::<String>();
    format!("{}…{}", part(0), part(count - SHOWN / 2))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_webhook_is_ready_with_endpoints_and_a_valid_ca_bundle() {
        let endpoint = Some("an endpoint of Service ns/hooks");
        let bundle = Some("the CA bundle of ValidatingWebhookConfiguration c");
        for (bundle_given, answers, expected) in
            [("LS0t", false, endpoint), ("", true, bundle), ("", false, endpoint), ("LS0t", true, None)]
        {
            let service = json!({"namespace": "ns", "name": "hooks"});
            let configuration = json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "c"},
                "webhooks": [{"name": "w", "clientConfig": {"service": service, "caBundle": bundle_given}}],
            });
            let key = ObjectKey::of(&configuration).unwrap();
            let answers = |service: &str| service == "ns/hooks" && answers;
            let waits = waits(&key, &configuration, answers, std::iter::empty(), Timestamp::UNIX_EPOCH);
            assert_eq!(
                waits.map(|waits| waits.to_string()).as_deref(),
                expected,
                "{bundle_given:?} {expected:?}"
            );
        }
    }
}
