//! Patches on rendered objects.

use std::collections::BTreeMap;

use semver::Version;
use serde_json::Value;
use trainerd_api::kinds::{self, Described};
use trainerd_plan::applyset;
use trainerd_plan::desired::DesiredObject;
use trainerd_plan::intent_digest;
use trainerd_plan::object::ObjectKey;
use trainerd_schema::{Levels, Table};

use super::{Change, Patch, PatchFault};
use crate::nearest::nearest;
use crate::pods;

/// Labels and annotations that say whose an object is, and what was applied last.
const RESERVED: [&str; 7] = [
    applyset::PART_OF,
    applyset::ID,
    applyset::INSTALLATION,
    applyset::NAMESPACE,
    applyset::COMPONENT,
    applyset::CREATED_FOR,
    intent_digest::ANNOTATION,
];

/// What the objects that are patched belong to.
pub(crate) struct Context<'a> {
    /// The type table.
    pub(crate) table: &'a Table,
    /// The versions of the components that are rendered.
    pub(crate) versions: &'a BTreeMap<String, Version>,
    /// The Kubernetes that is rendered for, where one is known.
    pub(crate) kubernetes: Option<&'a Version>,
    /// Names of the daemon's objects by kind, to tell who addresses one without its component.
    pub(crate) of_daemon: &'a [ObjectKey],
}

/// An entry, counted from one, with what is wrong and the nearest spelling.
pub(crate) type InvalidPatch = (usize, PatchFault, Option<String>);

/// Applies patches in their order. What is wrong is told once an entry, and the object it is wrong with stays.
pub(crate) fn apply(
    patches: &[&Patch],
    objects: &mut BTreeMap<ObjectKey, DesiredObject>,
    context: &Context<'_>,
) -> Vec<InvalidPatch> {
    let mut wrong = Vec::new();
    for patch in patches {
        let targets: Vec<ObjectKey> = objects
            .iter()
            .filter(|(key, object)| patch.target.matches(&object.component, key))
            .map(|(key, _)| key.clone())
            .collect();
        if targets.is_empty() {
            let (fault, near) = no_target(patch, objects, context);
            wrong.push((patch.entry, fault, near));
        }
        for key in targets {
            let Some(object) = objects.get_mut(&key) else { continue };
            match patched(patch, &key, &object.manifest, context) {
                Ok(manifest) => object.manifest = manifest,
                Err(fault) => {
                    wrong.push((patch.entry, fault, None));
                    break;
                }
            }
        }
    }
    wrong
}

fn no_target(
    patch: &Patch,
    objects: &BTreeMap<ObjectKey, DesiredObject>,
    context: &Context<'_>,
) -> (PatchFault, Option<String>) {
    let target = &patch.target;
    let is_of_daemon = |key: &&ObjectKey| key.kind == target.kind && target.name.as_ref() == Some(&key.name);
    if target.component.is_none() && context.of_daemon.iter().any(|key| is_of_daemon(&key)) {
        return (PatchFault::OfDaemon(target.clone()), None);
    }
    let alike = objects.iter().filter(|(key, object)| {
        let component = &target.component;
        key.kind == target.kind && component.as_ref().is_none_or(|name| *name == object.component)
    });
    let known: Vec<String> = alike.map(|(key, _)| key.name.clone()).collect();
    let near = target.name.as_ref().and_then(|name| nearest(name, known.iter().map(String::as_str)));
    (PatchFault::NoTarget { target: Box::new(target.clone()), known }, near)
}

fn patched(
    patch: &Patch,
    key: &ObjectKey,
    before: &Value,
    context: &Context<'_>,
) -> Result<Value, PatchFault> {
    let object = || Box::new(key.clone());
    let schema = |faults| PatchFault::Schema { object: object(), faults };
    let merge = |cause| PatchFault::Merge { object: object(), cause: Box::new(cause) };
    let unknown = || PatchFault::UnknownKind(key.kind.clone());
    let Described { type_name, component } = kinds::describe(&key.group, &key.kind).ok_or_else(unknown)?;
    let levels = match component {
        None => kinds::kubernetes_levels(context.kubernetes),
        Some(component) => {
            let version = context.versions.get(component);
            version.and_then(|version| kinds::levels(component, version)).ok_or_else(unknown)?
        }
    };
    let after = match &patch.change {
        Change::Merge(change) => {
            let faults = check_patch(context.table, type_name, &levels, change).map_err(merge)?;
            if !faults.is_empty() {
                return Err(schema(faults));
            }
            context.table.merge(type_name, &levels, before, change).map_err(merge)?
        }
        Change::Json(operations) => {
            let mut after = before.clone();
            json_patch::patch(&mut after, operations)
                .map_err(|error| PatchFault::Operation { object: object(), cause: error.to_string() })?;
            after
        }
    };
    let faults = context.table.check(type_name, &levels, &after).map_err(|source| merge(source.into()))?;
    if !faults.is_empty() {
        return Err(schema(faults));
    }
    judge(key, before, &after)?;
    Ok(after)
}

fn check_patch(
    table: &Table,
    type_name: &str,
    levels: &Levels,
    change: &Value,
) -> Result<Vec<trainerd_schema::Fault>, trainerd_schema::MergeError> {
    Ok(table.check_patch(type_name, levels, change)?)
}

/// What no patch may do, whatever the type allows.
fn judge(key: &ObjectKey, before: &Value, after: &Value) -> Result<(), PatchFault> {
    let object = || Box::new(key.clone());
    for (field, pointer) in [
        ("apiVersion", "/apiVersion"),
        ("kind", "/kind"),
        ("metadata.name", "/metadata/name"),
        ("metadata.namespace", "/metadata/namespace"),
    ] {
        if before.pointer(pointer) != after.pointer(pointer) {
            return Err(PatchFault::Identity { object: object(), field });
        }
    }
    // What a Secret holds would be an option that everybody reads; the schema of a CRD decides about stored objects.
    let is_sealed = matches!(key.kind.as_str(), "Secret" | "CustomResourceDefinition");
    if is_sealed && without_labels(before) != without_labels(after) {
        return Err(PatchFault::OnlyMetadata { object: object() });
    }
    for pointer in ["/metadata/labels", "/metadata/annotations"] {
        let fields = after.pointer(pointer).and_then(Value::as_object);
        let own = |key: &&String| RESERVED.contains(&key.as_str());
        if let Some(own) = fields.into_iter().flat_map(serde_json::Map::keys).find(own) {
            return Err(PatchFault::Reserved { object: object(), key: own.clone() });
        }
    }
    let known = pods::containers(before);
    if let Some(added) = pods::containers(after).into_iter().find(|name| !known.contains(name)) {
        let known = known.into_iter().map(str::to_owned).collect();
        return Err(PatchFault::NoContainer { object: object(), container: added.to_owned(), known });
    }
    let known = pods::images(before);
    if let Some(image) = pods::images(after).into_iter().find(|image| !known.contains(image)) {
        return Err(PatchFault::Image { object: object(), image: image.to_owned() });
    }
    let selected = after.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let labels = after.pointer("/spec/template/metadata/labels");
    if key.kind == "Deployment"
        && let Some((label, _)) = selected
            .into_iter()
            .flatten()
            .find(|(label, value)| labels.and_then(|labels| labels.get(label)) != Some(value))
    {
        return Err(PatchFault::Selector { object: object(), label: label.clone() });
    }
    Ok(())
}

fn without_labels(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
    object
}
