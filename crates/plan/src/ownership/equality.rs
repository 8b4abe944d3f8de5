//! When two spellings are one value: what the API server rewrites on the way in is no difference.

use serde_json::Value;
use trainerd_schema::Quantity;

/// Fields whose values, or whose maps' values, are quantities.
const QUANTITIES: [&str; 14] = [
    "requests",
    "limits",
    "resources",
    "capacity",
    "allocatable",
    "storage",
    "sizeLimit",
    "overhead",
    "hard",
    "divisor",
    "minResources",
    "defaultRequest",
    "maxLimitRequestRatio",
    "averageValue",
];

/// Whether values below this field are quantities.
pub(super) fn holds_quantities(field: &str) -> bool {
    QUANTITIES.contains(&field)
}

/// Nothing but emptiness: null, an empty list, or a map of nothing but that. The API server drops it
/// from kinds it knows.
pub(super) fn void(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(void),
        _ => false,
    }
}

/// The value that Go leaves out of its JSON (`omitempty`): `""`, `false`, `0`.
pub(super) fn zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Whether two scalars are one value. A string and a number are not, unless they spell one quantity.
pub(super) fn same_scalar(intent: &Value, live: &Value, quantities: bool) -> bool {
    if intent == live {
        return true;
    }
    if quantities && let (Some(intent), Some(live)) = (Quantity::of(intent), Quantity::of(live)) {
        return intent == live;
    }
    match (intent, live) {
        // YAML's 1.0 and JSON's 1.
        (Value::Number(intent), Value::Number(live)) => {
            !(intent.is_i64() && live.is_i64() || intent.is_u64() && live.is_u64())
                && intent.as_f64() == live.as_f64()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{same_scalar, void, zero};

    #[test]
    fn scalars() {
        let rows = [
            (json!("1000m"), json!("1"), true, true),
            (json!("1000m"), json!("1"), false, false),
            (json!(1), json!("1"), true, true),
            (json!(8080), json!("8080"), false, false),
            (json!(1.0), json!(1), false, true),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64), false, false),
            (json!("50%"), json!("50%"), true, true),
            (json!(true), json!("true"), true, false),
        ];
        for (intent, live, quantities, same) in rows {
            assert_eq!(same_scalar(&intent, &live, quantities), same, "{intent} {live} {quantities}");
        }
    }

    #[test]
    fn empty_and_zero_values_differ() {
        for value in [json!(null), json!([]), json!({}), json!({"a": {"b": null}})] {
            assert!(void(&value) && !zero(&value), "{value}");
        }
        for value in [json!(""), json!(false), json!(0)] {
            assert!(zero(&value) && !void(&value), "{value}");
        }
        assert!(!void(&json!([{}])) && !zero(&json!("0")));
    }
}
