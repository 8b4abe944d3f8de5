//! A plan that takes the whole installation away, and keeps what is stored unless told otherwise.

use crate::desired::Installation;
use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed};
use crate::order::{ObjectClass, defines, object_class};
use crate::ownership;
use crate::plan::{Plan, Purpose};
use crate::planner::checked;
use crate::prune::{deletes, left_alone, releases, sinks};
use crate::refused::Refused;

/// Why a CRD of ours is released.
const SHARED: &str = "another field manager has applied it too";

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything but CRDs and what is stored under them, whoever made it: a runtime that a job uses could not
    /// go once its controller is gone.
    KeepStored,
    /// CRDs and our objects of their kinds too, if nothing else is stored there.
    Purge,
    /// CRDs and every object of their kinds.
    PurgeWithJobs,
}

/// Plans the removal of an installation: of what carries its label and was applied by `field_manager`.
///
/// What carries the label alone stays, with a note, unless it is stored under a CRD of ours that goes; a CRD that
/// others have applied too is released. The
/// namespace is not part of the plan: whether it is empty is known only at the end.
pub fn plan(
    installation: &Installation,
    observed: &Observed,
    extent: Extent,
    field_manager: &str,
) -> Result<Plan, Vec<Refused>> {
    let goes = |key: &ObjectKey| match object_class(key) {
        ObjectClass::Namespace => false,
        ObjectClass::Crd | ObjectClass::Custom => extent != Extent::KeepStored,
        _ => true,
    };
    let labelled = observed.objects.iter().filter(|(key, live)| goes(key) && live.belongs_to(installation));
    let (ours, copies): (Vec<_>, Vec<_>) =
        labelled.partition(|(_, live)| live.is_member(installation, field_manager));
    // Who else applied a CRD relies on it.
    let (shared, ours): (Vec<_>, Vec<_>) = ours.into_iter().partition(|(key, live)| {
        object_class(key) == ObjectClass::Crd && ownership::is_shared(&live.value, field_manager)
    });
    let crds: Vec<&LiveObject> =
        ours.iter().filter(|(key, _)| object_class(key) == ObjectClass::Crd).map(|(_, live)| *live).collect();
    let stored: Vec<(&ObjectKey, &LiveObject)> = observed
        .custom_objects
        .iter()
        .filter(|(key, _)| !ours.iter().any(|(own, _)| own == key))
        .filter(|(key, _)| crds.iter().any(|crd| defines(&crd.value, key)))
        .collect();
    if extent == Extent::Purge && !stored.is_empty() {
        let objects = stored.into_iter().map(|(key, _)| key.clone()).collect();
        return Err(vec![Refused::CustomObjectsExist { objects }]);
    }
    let mut notes: Vec<String> = copies
        .into_iter()
        .filter(|(key, _)| !stored.iter().any(|(stored, _)| stored == key))
        .map(|(key, _)| left_alone(key))
        .collect();
    notes.extend(shared.iter().map(|(key, _)| format!("{key} stays and is released: {SHARED}")));
    let mut going: Vec<_> =
        ours.into_iter().map(|(key, live)| (key, live, "part of the installation".to_owned())).collect();
    going
        .extend(stored.into_iter().map(|(key, live)| (key, live, "stored under a CRD that goes".to_owned())));
    let mut steps = deletes(going, 0, Vec::new());
    let last = sinks(&steps);
    steps.extend(releases(shared.into_iter().map(|(key, live)| (key, live, SHARED)).collect(), &last));
    checked(Plan {
        purpose: Purpose::Remove,
        installation: installation.clone(),
        steps,
        probes: Vec::new(),
        point_of_no_return: Some(0),
        pending_deletions: Vec::new(),
        notes,
    })
}
