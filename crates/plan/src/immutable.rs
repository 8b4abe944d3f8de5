//! Fields that no update may change, per kind.

use serde_json::Value;

use crate::object::ObjectKey;
use crate::ownership::FieldChange;

/// Why a change cannot be made in place; `None` where it can.
pub fn violates(key: &ObjectKey, _live: &Value, change: &FieldChange) -> Option<&'static str> {
    let selector = matches!((key.group.as_str(), key.kind.as_str()), ("apps", _));
    (selector && change.path.is_under(&["spec", "selector"])).then_some("a workload's selector is immutable")
}
