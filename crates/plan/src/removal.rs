//! A plan that takes the whole installation away, and keeps what is stored unless told otherwise.

use crate::desired::Installation;
use crate::object::ObjectKey;
use crate::observed::{LiveObject, Observed};
use crate::order::{Role, role};
use crate::plan::{Plan, Purpose};
use crate::planner::{checked, deletes};
use crate::refused::Refused;

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything but CRDs and what is stored under them.
    KeepStored,
    /// CRDs too, if nothing is stored under them.
    Purge,
    /// CRDs and every object of their kinds.
    PurgeWithJobs,
}

/// Plans the removal of an installation.
///
/// Built-in runtimes and other custom objects that we made go in any case; what users made stays, or stands
/// against a purge, or goes with it, as `extent` says. The namespace is not part of the plan: whether it is
/// empty is known only at the end.
pub fn plan(installation: &Installation, observed: &Observed, extent: Extent) -> Result<Plan, Vec<Refused>> {
    let ours = observed.objects.iter().filter(|(key, live)| {
        live.belongs_to(installation)
            && role(key) != Role::Namespace
            && (extent != Extent::KeepStored || role(key) != Role::Crd)
    });
    let stored: Vec<(&ObjectKey, &LiveObject)> =
        observed.custom_objects.iter().filter(|(key, _)| !observed.objects.contains_key(*key)).collect();
    if extent == Extent::Purge && !stored.is_empty() {
        let objects = stored.into_iter().map(|(key, _)| key.clone()).collect();
        return Err(vec![Refused::CustomObjectsExist { objects }]);
    }
    let stored = stored.into_iter().filter(|_| extent == Extent::PurgeWithJobs);
    let all = ours
        .map(|(key, live)| (key, live, "part of the installation"))
        .chain(stored.map(|(key, live)| (key, live, "stored under a CRD that goes")));
    checked(Plan {
        purpose: Purpose::Remove,
        installation: installation.clone(),
        steps: deletes(all, &[]),
        probes: Vec::new(),
        point_of_no_return: Some(0),
    })
}
