//! The stack that the tests plan for.

use std::collections::BTreeMap;

use semver::Version;
use serde_json::{Value, json};
use trainerd_plan::allowed::Allowed;
use trainerd_plan::applyset;
use trainerd_plan::desired::{Component, Desired, DesiredObject, Installation};
use trainerd_plan::object::{ObjectKey, Resource};
use trainerd_plan::observed::{LiveObject, Observed};
use trainerd_plan::plan::{Plan, Purpose};
use trainerd_plan::request::{Conflicts, Request};

pub(crate) const MANAGER: &str = "trainerd";

pub(crate) fn installation() -> Installation {
    Installation { name: "kubeflow-trainer".into(), namespace: "kf".into() }
}

pub(crate) fn object(
    component: &str,
    resource: (&str, &str, &str, bool),
    name: &str,
    body: Value,
) -> DesiredObject {
    let (group, kind, plural, namespaced) = resource;
    let resource = Resource {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced,
    };
    let mut manifest =
        json!({"apiVersion": resource.api_version(), "kind": kind, "metadata": {"name": name}});
    if namespaced {
        manifest["metadata"]["namespace"] = json!("kf");
    }
    for (key, value) in body.as_object().unwrap() {
        manifest[key] = value.clone();
    }
    DesiredObject { component: component.into(), resource, manifest, after: Vec::new(), yielded: Vec::new() }
}

pub(crate) const DEPLOYMENT: (&str, &str, &str, bool) = ("apps", "Deployment", "deployments", true);
pub(crate) const CONFIG_MAP: (&str, &str, &str, bool) = ("", "ConfigMap", "configmaps", true);
pub(crate) const SERVICE_ACCOUNT: (&str, &str, &str, bool) = ("", "ServiceAccount", "serviceaccounts", true);
pub(crate) const NAMESPACE: (&str, &str, &str, bool) = ("", "Namespace", "namespaces", false);
pub(crate) const CRD: (&str, &str, &str, bool) =
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false);
pub(crate) const WEBHOOK: (&str, &str, &str, bool) = (
    "admissionregistration.k8s.io",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    false,
);
pub(crate) const RUNTIME: (&str, &str, &str, bool) = ("trainer.example.org", "Runtime", "runtimes", false);

pub(crate) fn stack() -> Desired {
    let component = |needs: &[&str]| Component {
        version: Version::new(1, 0, 0),
        needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        probes: Vec::new(),
    };
    let mut objects = vec![
        object("trainer", NAMESPACE, "kf", json!({})),
        object(
            "trainer",
            CRD,
            "runtimes.trainer.example.org",
            json!({"spec": {"group": "trainer.example.org", "names": {"kind": "Runtime"}}}),
        ),
        object("trainer", SERVICE_ACCOUNT, "manager", json!({})),
        object("trainer", CONFIG_MAP, "config", json!({"data": {"a": "1"}})),
        object(
            "trainer",
            DEPLOYMENT,
            "manager",
            json!({"spec": {"replicas": 1, "template": {"spec": {
                "serviceAccountName": "manager",
                "containers": [{"name": "manager", "image": "example.org/manager:v1"}],
            }}}}),
        ),
        object(
            "trainer",
            WEBHOOK,
            "validator",
            json!({"webhooks": [{
                "name": "validator.example.org",
                "clientConfig": {"service": {"name": "manager", "namespace": "kf"}},
                "rules": [{"apiGroups": ["trainer.example.org"], "resources": ["runtimes"]}],
            }]}),
        ),
        object("runtimes", RUNTIME, "torch", json!({"spec": {"image": "x:1"}})),
    ];
    objects.sort_by_cached_key(DesiredObject::key);
    Desired {
        installation: installation(),
        naming: trainerd_plan::desired::Naming::default(),
        components: BTreeMap::from([
            ("trainer".to_owned(), component(&[])),
            ("runtimes".to_owned(), component(&["trainer"])),
        ]),
        options: BTreeMap::new(),
        given: Vec::new(),
        objects,
    }
}

/// The object as the API server has it after we applied it.
pub(crate) fn applied(desired: &Desired, object: &DesiredObject) -> LiveObject {
    fn fields(value: &Value) -> Value {
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().map(|(key, value)| (format!("f:{key}"), fields(value))).collect()
            }
            _ => json!({}),
        }
    }
    let sent = applyset::owned(desired, object);
    let mut value = sent.clone();
    value["metadata"]["uid"] = json!(format!("uid-of-{}", object.key()));
    value["metadata"]["resourceVersion"] = json!("7");
    let owned: Value = sent
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"))
        .map(|(key, value)| {
            let labels = json!({"f:labels": fields(&sent["metadata"]["labels"])});
            (format!("f:{key}"), if key == "metadata" { labels } else { fields(value) })
        })
        .collect();
    value["metadata"]["managedFields"] = json!([
        {"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": owned}
    ]);
    LiveObject { resource: object.resource.clone(), value }
}

pub(crate) fn all_applied(desired: &Desired) -> Observed {
    let objects = desired.objects.iter().map(|object| (object.key(), applied(desired, object)));
    Observed { objects: objects.collect(), ..Observed::default() }
}

pub(crate) fn request<'a>(
    desired: &'a Desired,
    last: Option<&'a Desired>,
    observed: &'a Observed,
) -> Request<'a> {
    Request {
        purpose: Purpose::Change,
        desired,
        last,
        observed,
        conflicts: Conflicts::Refuse,
        ignored: &[],
        allow: Allowed::default(),
        only: None,
        field_manager: MANAGER,
    }
}

pub(crate) fn position(plan: &Plan, kind: &str) -> usize {
    plan.steps.iter().position(|step| step.object.kind == kind).unwrap()
}

pub(crate) fn find<'a>(desired: &'a Desired, kind: &str) -> &'a DesiredObject {
    desired.objects.iter().find(|object| object.resource.kind == kind).unwrap()
}

/// The desired state without everything of some kinds.
pub(crate) fn without(kinds: &[&str]) -> Desired {
    let mut desired = stack();
    desired.objects.retain(|object| !kinds.contains(&object.resource.kind.as_str()));
    desired
}

/// A runtime that a person made.
pub(crate) fn users_runtime(observed: &mut Observed) -> ObjectKey {
    let mut live = observed.objects.values().find(|live| live.resource.kind == "Runtime").unwrap().clone();
    live.value["metadata"]["name"] = json!("mine");
    live.value["metadata"]["labels"] = json!({});
    let key = ObjectKey::of(&live.value).unwrap();
    observed.custom_objects.insert(key.clone(), live);
    key
}

/// `manager` sets a field with an update: whoever had it with another value has it no longer.
pub(crate) fn edit(observed: &mut Observed, key: &ObjectKey, manager: &str, path: [&str; 2], value: Value) {
    let live = &mut observed.objects.get_mut(key).unwrap().value;
    let [parent, field] = path;
    live[parent][field] = value;
    let (parent, field) = (format!("f:{parent}"), format!("f:{field}"));
    for entry in live["metadata"]["managedFields"].as_array_mut().unwrap() {
        if let Some(fields) = entry["fieldsV1"][&parent].as_object_mut() {
            fields.remove(&field);
        }
    }
    let fields = json!({parent: {field: {}}});
    let entry = json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
    live["metadata"]["managedFields"].as_array_mut().unwrap().push(entry);
}

pub(crate) fn set(desired: &mut Desired, kind: &str, pointer: &str, value: Value) {
    let object = desired.objects.iter_mut().find(|object| object.resource.kind == kind).unwrap();
    *object.manifest.pointer_mut(pointer).unwrap() = value;
}
