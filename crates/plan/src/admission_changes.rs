//! Fields that the API server's admission changes: a policy or webhook that is not ours sets another value than ours
//! in every write, whoever writes.
//!
//! The answer to an apply that still differs from what was sent is the proof. It is kept with the object, as an
//! annotation that the same manager applies: which fields, and a digest of what was intended for each. As long as the
//! intent of such a field stays the same and nobody else owns it, that it differs is neither a change to plan nor
//! drift: the same apply would be answered the same way, for ever.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::desired::Desired;
use crate::drift::is_among;
use crate::observed::Observed;
use crate::ownership::{self, Comparison, FieldChange, FieldPath};
use crate::{applyset, mask, webhook_port};

/// Annotation of a live object: the fields that admission changed, each with 16 hexadecimal digits of a SHA-256 of the
/// value that was intended.
pub const CHANGED: &str = "trainerd.dev/changed-by-admission";

/// What an object needs, and what admission changed of it.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// What is to be done.
    pub comparison: Comparison,
    /// Fields that differ because admission changed them, sorted by path.
    pub by_admission: Vec<FieldChange>,
}

/// As [`ownership::compare`], without what admission is known to change. Fields among `ignored` that we alone own count
/// as known: nobody but admission can have changed them.
pub fn compare(
    intent: &Value,
    last: Option<&Value>,
    live: &Value,
    manager: &str,
    ignored: &[FieldPath],
) -> Compared {
    let known = recorded(live);
    let intent = carried(Cow::Borrowed(intent), live, manager);
    let mut comparison = ownership::compare(&intent, last, live, manager);
    let mut by_admission = Vec::new();
    if !known.is_empty() || !ignored.is_empty() {
        comparison.changes.retain(|change| {
            let path = &change.path;
            let is_proven = known.get(&path.to_string()).is_some_and(|seen| *seen == digest(change))
                && ownership::foreign(live, manager, path).is_none();
            if is_proven {
                by_admission.push(change.clone());
            }
            let is_left = is_among(ignored, path) && ownership::is_ours_alone(live, manager, path);
            !is_proven && !is_left
        });
    }
    Compared { comparison, by_admission }
}

/// The manifest with what the live object says of admission, and with the ports by which its webhooks are called, so
/// that an apply of it does not take that away.
pub fn carried<'m>(manifest: Cow<'m, Value>, live: &Value, manager: &str) -> Cow<'m, Value> {
    let manifest = webhook_port::carried(manifest, live, manager);
    let Some(annotation) = annotation(live) else { return manifest };
    let mut manifest = manifest.into_owned();
    annotate(&mut manifest, Some(annotation));
    Cow::Owned(manifest)
}

/// The manifest to apply once more, with what the answer to the first apply proves; `None` where that is what the
/// answer says already. `answer` is the whole object. Beside it, the fields that admission changed.
pub fn proven(manifest: &Value, answer: &Value, manager: &str) -> Option<(Value, Vec<FieldChange>)> {
    let comparison = ownership::compare(manifest, Some(manifest), answer, manager);
    let differ = comparison.changes.into_iter();
    let differ: Vec<FieldChange> =
        differ.filter(|change| ownership::foreign(answer, manager, &change.path).is_none()).collect();
    let found: BTreeMap<String, String> =
        differ.iter().map(|change| (change.path.to_string(), digest(change))).collect();
    if found == recorded(answer) {
        return None;
    }
    let mut again = manifest.clone();
    let text = (!found.is_empty()).then(|| json!(found).to_string());
    annotate(&mut again, text.as_deref());
    Some((again, differ))
}

/// What a plan says of the fields that it leaves as admission changed them, a sentence an object.
pub(crate) fn notes(desired: &Desired, observed: &Observed, manager: &str) -> Vec<String> {
    let marked = desired.objects.iter().filter_map(|object| {
        let live = observed.objects.get(&object.key())?;
        annotation(&live.value).map(|_| (object, live))
    });
    let note = |(object, live): (&crate::desired::DesiredObject, &crate::observed::LiveObject)| {
        let intent = applyset::owned(desired, object);
        let changed = compare(&intent, Some(&intent), &live.value, manager, &[]).by_admission;
        let key = object.key();
        let shown = |change: FieldChange| {
            let FieldChange { path, from, to } = mask::masked(&key, change);
            let text =
                |value: Option<Value>| value.map_or_else(|| "(none)".to_owned(), |value| value.to_string());
            format!("{path} ({}, not {})", text(from), text(to))
        };
        let fields: Vec<String> = changed.into_iter().map(shown).collect();
        (!fields.is_empty())
            .then(|| format!("{key}: changed by admission control and left as it is: {}", fields.join(", ")))
    };
    marked.filter_map(note).collect()
}

/// The fields that the live object says admission changed, with the digests of what was intended.
fn recorded(live: &Value) -> BTreeMap<String, String> {
    annotation(live).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn annotation(live: &Value) -> Option<&str> {
    live.get("metadata")?.get("annotations")?.get(CHANGED)?.as_str()
}

fn annotate(manifest: &mut Value, text: Option<&str>) {
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(annotations) = annotations.as_object_mut() {
        match text {
            Some(text) => annotations.insert(CHANGED.to_owned(), Value::from(text)),
            None => annotations.remove(CHANGED),
        };
    }
}

fn digest(change: &FieldChange) -> String {
    let intended = change.to.as_ref().map(Value::to_string).unwrap_or_default();
    let digest = Sha256::digest(intended.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: &str = "trainerd";

    fn intent(cpu: &str) -> Value {
        let container = json!({"name": "m", "image": "i:1", "resources": {"requests": {"cpu": cpu}}});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "ns"},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
        })
    }

    /// What the API server stores of an apply of ours where admission sets the CPU.
    fn stored(sent: &Value, cpu: &str) -> Value {
        let mut live = sent.clone();
        live["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(cpu);
        let container = json!({"k:{\"name\":\"m\"}": {".": {}, "f:name": {}, "f:image": {},
            "f:resources": {"f:requests": {"f:cpu": {}}}}});
        let mut fields =
            json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": container}}}});
        if annotation(sent).is_some() {
            fields["f:metadata"] = json!({"f:annotations": {format!("f:{CHANGED}"): {}}});
        }
        live["metadata"]["managedFields"] =
            json!([{"manager": US, "operation": "Apply", "fieldsV1": fields}]);
        live
    }

    fn changes(compared: &Compared) -> (Vec<String>, Vec<String>) {
        let paths = |changes: &[FieldChange]| changes.iter().map(|change| change.path.to_string()).collect();
        (paths(&compared.comparison.changes), paths(&compared.by_admission))
    }

    const CPU: &str = ".spec.template.spec.containers[name=m].resources.requests.cpu";

    #[test]
    fn an_apply_that_still_differs_proves_an_admission_change_of_that_intent() {
        let ours = intent("20m");
        let none: Vec<String> = Vec::new();
        // Without a proof it is a change to make.
        let live = stored(&ours, "50m");
        let compared = compare(&ours, Some(&ours), &live, US, &[]);
        assert_eq!(changes(&compared), (vec![CPU.to_owned()], none.clone()));
        // The answer proves it; what is applied next says so, and needs nothing more.
        let (again, differ) = proven(&ours, &live, US).unwrap();
        assert_eq!(differ.len(), 1);
        let live = stored(&again, "50m");
        assert!(proven(&again, &live, US).is_none());
        let compared = compare(&ours, Some(&ours), &live, US, &[]);
        assert_eq!(changes(&compared), (none.clone(), vec![CPU.to_owned()]));
        assert!(compared.comparison.holds());
        // Another value of admission's is as good as the first.
        let compared = compare(&ours, Some(&ours), &stored(&again, "60m"), US, &[]);
        assert_eq!(changes(&compared), (none.clone(), vec![CPU.to_owned()]));
        // Another intent is tried, and where it holds the mark goes.
        let other = intent("30m");
        let compared = compare(&other, Some(&ours), &live, US, &[]);
        assert_eq!(changes(&compared), (vec![CPU.to_owned()], none.clone()));
        let sent = carried(Cow::Borrowed(&other), &live, US).into_owned();
        let (again, differ) = proven(&sent, &stored(&sent, "30m"), US).unwrap();
        assert!(differ.is_empty() && annotation(&again).is_none());
        // What admission leaves alone proves nothing.
        assert!(proven(&ours, &stored(&ours, "20m"), US).is_none());
        assert!(proven(&ours, &stored(&ours, "0.02"), US).is_none(), "another spelling");
    }

    #[test]
    fn a_field_owned_by_another_manager_is_drift() {
        let ours = intent("20m");
        let (again, _) = proven(&ours, &stored(&ours, "50m"), US).unwrap();
        let mut live = stored(&again, "90m");
        let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
        let item = &mut entries[0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"];
        item["k:{\"name\":\"m\"}"]["f:resources"] = json!({});
        let theirs = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"m\"}":
            {"f:resources": {"f:requests": {"f:cpu": {}}}}}}}}});
        entries.push(json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": theirs}));
        let compared = compare(&ours, Some(&ours), &live, US, &[]);
        assert_eq!(changes(&compared), (vec![CPU.to_owned()], vec![]));
    }

    #[test]
    fn a_changed_field_that_only_we_own_was_changed_by_admission() {
        let ours = intent("20m");
        let live = stored(&ours, "50m");
        let ignored = [ownership::pointed(&ours, "/spec/template/spec/containers/0/resources").unwrap()];
        assert!(compare(&ours, Some(&ours), &live, US, &ignored).comparison.holds());
        // Nobody's: it is adopted.
        let mut nobodys = live;
        nobodys["metadata"]["managedFields"] = json!([{"manager": US, "operation": "Apply",
            "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
        assert!(!compare(&ours, Some(&ours), &nobodys, US, &ignored).comparison.holds());
    }
}
