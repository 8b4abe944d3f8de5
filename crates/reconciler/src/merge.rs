//! JSON merge patches (RFC 7386) from one value to another.

use serde_json::{Map, Value};

/// The patch that makes `new` of `old`; `None` where they are the same. Lists are replaced as a whole, and what is gone is
/// null.
pub(crate) fn diff(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(olds), Value::Object(news)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for key in olds.keys().filter(|key| !news.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in news {
        match olds.get(key) {
            Some(before) => {
                if let Some(change) = diff(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As RFC 7386 says it is applied.
    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let Some(target) = target.as_object_mut() else { return };
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                apply(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), "[a-c]{0,2}".prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_patch_transforms_old_into_new(old in value(), new in value()) {
            let mut patched = old.clone();
            if let Some(patch) = diff(&old, &new) {
                apply(&mut patched, &patch);
            }
            prop_assert_eq!(patched, new);
        }
    }

    #[test]
    fn a_patch_contains_only_changes() {
        let old = json!({"conditions": [1], "trainerStatus": {"a": 1}, "jobsStatus": [2]});
        let new = json!({"conditions": [1, 2], "trainerStatus": {"a": 1}});
        assert_eq!(diff(&old, &new), Some(json!({"conditions": [1, 2], "jobsStatus": null})));
        assert_eq!(diff(&new, &new), None);
        assert_eq!(diff(&Value::Null, &new), Some(new));
    }
}
