//! Objects that are deleted and made again, because no update may change what differs of them.
//!
//! Only where a person says so: what an object does is not done while it is gone.

use crate::object::ObjectKey;
use crate::observed::LiveObject;
use crate::order::{ObjectClass, object_class};
use crate::plan::{Step, Until, Verb};
use crate::refused::Refused;
use crate::request::Request;

/// Whether an object can be made again without a loss: it carries the installation's label, nothing is stored under it or
/// in it, and nothing holds it.
fn may_be(request: &Request<'_>, key: &ObjectKey, live: &LiveObject) -> bool {
    let keeps_data = matches!(object_class(key), ObjectClass::Namespace | ObjectClass::Crd)
        || key.kind == "PersistentVolumeClaim";
    !keeps_data && live.belongs_to(&request.desired.installation) && live.finalizers().is_empty()
}

/// Takes the refusals out that making the object again does away with, where that is allowed; why it is made again.
pub(crate) fn taken_out(
    refused: &mut Vec<Refused>,
    request: &Request<'_>,
    key: &ObjectKey,
    live: &LiveObject,
) -> Option<String> {
    if !request.allow.recreate || !may_be(request, key, live) {
        return None;
    }
    let mut first = None;
    refused.retain(|refusal| match refusal {
        Refused::ImmutableField { path, why, .. } => {
            first.get_or_insert_with(|| format!("made again, for {path} cannot be changed in place: {why}"));
            false
        }
        _ => true,
    });
    first
}

/// What whoever confirms the plan has to know.
pub(crate) fn notes(steps: &[Step]) -> Vec<String> {
    let again = steps.iter().filter(|step| {
        object_class(&step.object) == ObjectClass::Workload
            && step.until == Until::Gone
            && matches!(step.verb, Verb::Delete { .. })
    });
    let note = |step: &Step| {
        format!(
            "{} is deleted and made again: until it is ready, nobody answers for it, and what its webhooks admit is refused",
            step.object
        )
    };
    again.map(note).collect()
}
