//! What becomes of a CRD that the desired state no longer has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::applyset;
use crate::desired::Desired;
use crate::observed::LiveObject;
use crate::ownership;

/// The option `crd-policy`: whether the CRDs of a component go with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CrdPolicy {
    /// They stay, with what is stored under them.
    #[default]
    Keep,
    /// They are deleted, unless objects are stored under them.
    Delete,
}

impl CrdPolicy {
    /// The policy that these options set; revisions that are older than the option keep.
    pub fn of(options: &BTreeMap<String, Value>) -> Self {
        let value = options.get("crd-policy").cloned();
        value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }
}

/// What a plan does with a CRD of ours that is no longer desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrdOutcome {
    /// It stays ours.
    Stays,
    /// It stays, and is no longer ours: somebody else relies on it.
    Released(&'static str),
    /// It is deleted.
    Deleted,
}

/// Decides the outcome for a CRD of ours that `desired` does not have.
///
/// Who else applied it relies on it, and so does whoever provides a component that an installed one needs and that
/// is not installed here: such a CRD is never deleted, whatever the policy.
pub(crate) fn outcome(desired: &Desired, crd: &LiveObject, field_manager: &str) -> CrdOutcome {
    if ownership::is_shared(&crd.value, field_manager) {
        return CrdOutcome::Released("another field manager has applied it too");
    }
    let component = applyset::label(&crd.value, applyset::COMPONENT).unwrap_or_default();
    if desired.leaves_to_others(component) {
        return CrdOutcome::Released("its component is not in the option components");
    }
    match CrdPolicy::of(&desired.options) {
        CrdPolicy::Keep => CrdOutcome::Stays,
        CrdPolicy::Delete => CrdOutcome::Deleted,
    }
}
