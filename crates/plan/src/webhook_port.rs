//! By which port of its Service the API server calls a webhook: another one whenever the pods behind it are replaced.
//!
//! The API server has one HTTP/1.1 client, with the connections that it keeps open, for each `clientConfig`
//! (`webhook.ClientManager`). A connection leads to one pod until that pod closes it, at its end, and a call that is
//! being sent in that moment is refused (`EOF`): admission is not tried again. A `clientConfig` that names another port
//! is another client, whose connections are opened now and lead to pods that are ready. The Service has several ports
//! that lead to the same one of its pods, so nothing else changes; several, for a client that is taken up again too soon
//! still has its connections to the pods of then.
//!
//! Which of them is used is a state of the cluster, and no part of a revision: what is there is carried into the intent.

use std::borrow::Cow;

use serde_json::Value;

use crate::desired::{Desired, DesiredObject};
use crate::object::ObjectKey;
use crate::order::{ObjectClass, object_class};
use crate::ownership::{self, FieldChange, FieldPath, Segment};
use crate::plan::Verb;

/// What the API server takes where a `clientConfig` names no port.
const DEFAULT: u64 = 443;

/// Why a webhook configuration is written of which nothing else changes.
pub(crate) const WHY: &str = "so that the API server connects to the new pods";

/// The intent with the ports that the live webhook configuration has from us, where it names none itself.
pub(crate) fn carried<'m>(manifest: Cow<'m, Value>, live: &Value, manager: &str) -> Cow<'m, Value> {
    let ours = |index: usize| {
        let port = port(counterpart(&manifest, live, index)?)?;
        ownership::is_ours_alone(live, manager, &path(&manifest, index)?).then_some((index, port))
    };
    let ports: Vec<(usize, u64)> = unnamed(&manifest).into_iter().filter_map(ours).collect();
    if ports.is_empty() {
        return manifest;
    }
    let mut manifest = manifest.into_owned();
    for (index, port) in ports {
        set(&mut manifest, index, port);
    }
    Cow::Owned(manifest)
}

/// Names the next port of its Service for each webhook where pods are `replaced`, and one that the Service still has
/// for each; of `desired` the Services are looked at. A port that somebody else owns is left to them. Whether the intent
/// names any now.
pub(crate) fn turn(
    manifest: &mut Value,
    live: &Value,
    desired: &Desired,
    manager: &str,
    replaced: bool,
) -> bool {
    let next = |index: usize| {
        let now = port(counterpart(manifest, live, index)?).unwrap_or(DEFAULT);
        let ports = ports(desired, &manifest["webhooks"][index]["clientConfig"]["service"]);
        let next = match ports.iter().position(|port| *port == now) {
            Some(at) if replaced => ports[(at + 1) % ports.len()],
            Some(_) => now,
            None => DEFAULT,
        };
        let is_free = || {
            let path = path(manifest, index);
            path.is_some_and(|path| ownership::foreign(live, manager, &path).is_none())
        };
        (next != now && is_free()).then_some((index, next))
    };
    let turned: Vec<(usize, u64)> = unnamed(manifest).into_iter().filter_map(next).collect();
    for (index, port) in &turned {
        set(manifest, *index, *port);
    }
    !turned.is_empty()
}

/// Whether a write replaces pods: those that were there end.
pub(crate) fn replaces_pods(object: &ObjectKey, verb: &Verb, changes: &[FieldChange]) -> bool {
    let of_pods = |path: String| path.starts_with(".spec");
    object_class(object) == ObjectClass::Workload
        && match verb {
            Verb::Create => true,
            Verb::Apply { .. } => changes.iter().any(|change| of_pods(change.path.to_string())),
            Verb::Keep | Verb::Release { .. } | Verb::Delete { .. } => false,
        }
}

/// Whether a plan that was interrupted may have replaced the pods of an object, and ended before it came to their webhooks:
/// where nothing says whether it did, a port that is turned once more costs a write.
pub(crate) fn replaced_pods(last: Option<&DesiredObject>, object: &DesiredObject) -> bool {
    object_class(&object.key()) == ObjectClass::Workload
        && last.is_some_and(|last| last.manifest["spec"] != object.manifest["spec"])
}

/// Whether a path is that of such a port.
pub(crate) fn is_one(path: &FieldPath) -> bool {
    path.to_string().ends_with(".clientConfig.service.port")
}

/// The webhooks of a manifest that call a Service and name no port.
fn unnamed(manifest: &Value) -> Vec<usize> {
    let group = "admissionregistration.k8s.io/";
    if !manifest["apiVersion"].as_str().is_some_and(|version| version.starts_with(group)) {
        return Vec::new();
    }
    let webhooks = manifest["webhooks"].as_array().into_iter().flatten().enumerate();
    let names_none = |webhook: &Value| {
        let service = &webhook["clientConfig"]["service"];
        service.is_object() && service.get("port").is_none()
    };
    webhooks.filter(|(_, webhook)| names_none(webhook)).map(|(index, _)| index).collect()
}

/// The live webhook of the same name.
fn counterpart<'l>(manifest: &Value, live: &'l Value, index: usize) -> Option<&'l Value> {
    let name = &manifest["webhooks"][index]["name"];
    live["webhooks"].as_array()?.iter().find(|webhook| webhook["name"] == *name)
}

fn port(webhook: &Value) -> Option<u64> {
    webhook["clientConfig"]["service"]["port"].as_u64()
}

/// The ports of a Service that lead where its webhooks are called.
fn ports(desired: &Desired, service: &Value) -> Vec<u64> {
    let is_it = |manifest: &Value| {
        manifest["kind"] == "Service"
            && manifest["metadata"]["name"] == service["name"]
            && manifest["metadata"]["namespace"] == service["namespace"]
    };
    let found = desired.objects.iter().map(|object| &object.manifest).find(|manifest| is_it(manifest));
    let all = found.and_then(|found| found["spec"]["ports"].as_array()).map_or(&[][..], Vec::as_slice);
    let target = all.iter().find(|port| port["port"] == DEFAULT).map(|port| &port["targetPort"]);
    let same = all.iter().filter(|port| Some(&port["targetPort"]) == target);
    same.filter_map(|port| port["port"].as_u64()).collect()
}

fn set(manifest: &mut Value, index: usize, port: u64) {
    if let Some(service) = manifest.pointer_mut(&format!("/webhooks/{index}/clientConfig/service")) {
        service["port"] = Value::from(port);
    }
}

fn path(manifest: &Value, index: usize) -> Option<FieldPath> {
    let service = ownership::pointed(manifest, &format!("/webhooks/{index}/clientConfig/service"))?;
    let port = Segment::Field("port".to_owned());
    Some(service.segments().iter().cloned().chain([port]).collect())
}
