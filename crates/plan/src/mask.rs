//! Values that nobody may see: what a Secret holds.

use serde_json::{Value, json};

use crate::object::ObjectKey;
use crate::ownership::FieldChange;

/// The change with a Secret's values replaced by a word; other changes as they are.
pub fn masked(key: &ObjectKey, change: FieldChange) -> FieldChange {
    let secret = key.kind == "Secret" && key.group.is_empty();
    let hidden = secret && change.path.fields().next().is_some_and(|field| matches!(field, "data" | "stringData"));
    if !hidden {
        return change;
    }
    let word = |value: Option<Value>| value.map(|_| json!("(sensitive)"));
    FieldChange { from: word(change.from), to: word(change.to), path: change.path }
}
