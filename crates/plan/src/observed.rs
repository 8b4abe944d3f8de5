//! What the cluster looks like: the facts that a plan is made from.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::ObjectKey;

/// The live objects that matter to a plan: every object of the desired and of the current revision that
/// exists, and every other object that carries the installation's ApplySet label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Live objects, as the API server returned them, `managedFields` included.
    pub objects: BTreeMap<ObjectKey, Value>,
}
