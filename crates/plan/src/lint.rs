//! A plan is checked before it runs: rules that hold for every plan, whoever made it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::object::ObjectKey;
use crate::order::{ObjectClass, object_class};
use crate::plan::{Plan, Step, Until, Verb};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Shown; the plan runs.
    Warning,
    /// The plan is refused.
    Error,
}

/// What a rule found in a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the rule, stable.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// The step's object.
    pub object: ObjectKey,
    /// What is wrong, in a sentence fragment.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.object, self.message, self.code)
    }
}

type Rule = fn(&Plan, &Step) -> Option<String>;

const RULES: &[(&str, Severity, Rule)] = &[
    ("delete-without-uid", Severity::Error, delete_without_uid),
    ("uid-not-preconditioned", Severity::Error, apply_without_uid),
    ("crd-deleted-before-its-objects", Severity::Error, crd_deleted_before_its_objects),
    ("webhook-before-endpoints", Severity::Error, webhook_before_endpoints),
    ("workload-before-service-account", Severity::Error, workload_before_service_account),
    ("image-without-tag", Severity::Error, image_without_tag),
    ("secret-value-in-diff", Severity::Error, secret_value_in_diff),
    ("ca-bundle-sent", Severity::Error, ca_bundle_sent),
];

/// Every finding, in the order of the steps.
pub fn lint(plan: &Plan) -> Vec<Finding> {
    let check = |step: &Step| {
        let found = RULES.iter().filter_map(|(code, severity, rule)| {
            rule(plan, step).map(|message| Finding {
                code: (*code).to_owned(),
                severity: *severity,
                object: step.object.clone(),
                message,
            })
        });
        found.collect::<Vec<_>>()
    };
    plan.steps.iter().flat_map(check).collect()
}

fn delete_without_uid(_: &Plan, step: &Step) -> Option<String> {
    matches!(&step.verb, Verb::Delete { uid, .. } if uid.is_empty())
        .then(|| "a delete that names no uid".to_owned())
}

fn apply_without_uid(_: &Plan, step: &Step) -> Option<String> {
    let Verb::Apply { uid, .. } = &step.verb else { return None };
    let sent = step.manifest.as_ref().and_then(|m| m["metadata"]["uid"].as_str());
    (uid.is_empty() || sent != Some(uid)).then(|| "an apply that does not carry the observed uid".to_owned())
}

fn crd_deleted_before_its_objects(plan: &Plan, step: &Step) -> Option<String> {
    if object_class(&step.object) != ObjectClass::Crd || !matches!(step.verb, Verb::Delete { .. }) {
        return None;
    }
    let early = plan.steps.iter().enumerate().find(|(index, other)| {
        matches!(other.verb, Verb::Delete { .. })
            && format!("{}.{}", other.resource.plural, other.resource.group) == step.object.name
            && !precedes(plan, *index, step)
    });
    early.map(|(_, other)| format!("a CRD that goes before {}", other.object))
}

fn webhook_before_endpoints(plan: &Plan, step: &Step) -> Option<String> {
    let Until::Admitting { services } = &step.until else { return None };
    if services.is_empty() || !step.verb.writes() {
        return None;
    }
    let workload = plan.steps.iter().enumerate().any(|(index, other)| {
        object_class(&other.object) == ObjectClass::Workload
            && other.component == step.component
            && precedes(plan, index, step)
    });
    (!workload).then(|| "a webhook configuration that waits for no workload behind it".to_owned())
}

fn workload_before_service_account(plan: &Plan, step: &Step) -> Option<String> {
    if object_class(&step.object) != ObjectClass::Workload || !step.verb.writes() {
        return None;
    }
    let account = step.manifest.as_ref()?["spec"]["template"]["spec"]["serviceAccountName"].as_str()?;
    let position = plan.steps.iter().position(|other| {
        other.object.kind == "ServiceAccount"
            && other.object.name == account
            && other.object.namespace == step.object.namespace
    })?;
    (!precedes(plan, position, step))
        .then(|| format!("a workload that does not wait for ServiceAccount {account}"))
}

fn image_without_tag(_: &Plan, step: &Step) -> Option<String> {
    let mut images = Vec::new();
    collect_images(step.manifest.as_ref()?, &mut images);
    let untagged = images.into_iter().find(|image| {
        !image.contains('@') && !image.rsplit('/').next().is_some_and(|last| last.contains(':'))
    })?;
    Some(format!("image {untagged} has no tag"))
}

fn secret_value_in_diff(_: &Plan, step: &Step) -> Option<String> {
    let leaks = step.object.kind == "Secret"
        && step.object.group.is_empty()
        && step.changes.iter().any(|change| *change != crate::mask::masked(&step.object, change.clone()));
    leaks.then(|| "a Secret's value in a diff".to_owned())
}

fn ca_bundle_sent(_: &Plan, step: &Step) -> Option<String> {
    let webhooks = step.manifest.as_ref()?["webhooks"].as_array()?;
    let sent = webhooks.iter().any(|webhook| webhook["clientConfig"].get("caBundle").is_some());
    sent.then(|| "a CA bundle, which belongs to the controller".to_owned())
}

/// Whether step `earlier` is done before `step` starts, by way of any number of edges.
fn precedes(plan: &Plan, earlier: usize, step: &Step) -> bool {
    let mut seen = vec![false; plan.steps.len()];
    let mut queue = step.after.clone();
    while let Some(index) = queue.pop() {
        if index == earlier {
            return true;
        }
        if !std::mem::replace(&mut seen[index], true) {
            queue.extend(&plan.steps[index].after);
        }
    }
    false
}

/// Every `image` of every container in a manifest, whatever its kind nests them in.
fn collect_images<'a>(value: &'a Value, images: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let containers =
                    matches!(key.as_str(), "containers" | "initContainers" | "ephemeralContainers");
                if let (true, Value::Array(items)) = (containers, value) {
                    images.extend(items.iter().filter_map(|container| container["image"].as_str()));
                } else {
                    collect_images(value, images);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_images(item, images)),
        _ => {}
    }
}
