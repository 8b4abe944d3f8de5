//! Whether anybody stands behind a Service.

use std::collections::BTreeSet;

use serde_json::Value;
use trainerd_plan::object::Resource;

/// The kind that lists a Service's endpoints.
pub fn resource() -> Resource {
    Resource {
        group: "discovery.k8s.io".to_owned(),
        version: "v1".to_owned(),
        kind: "EndpointSlice".to_owned(),
        plural: "endpointslices".to_owned(),
        namespaced: true,
    }
}

/// Label selector of the EndpointSlices of a Service, in its namespace.
pub fn selector(service: &str) -> String {
    format!("kubernetes.io/service-name={service}")
}

/// How many distinct addresses the EndpointSlices of one Service have that take traffic.
///
/// An endpoint whose readiness is not said counts as ready, as the API has it. During a rollout an address may
/// stand in two slices; it counts once, and as ready if either says so.
pub fn ready_endpoints(slices: &[Value]) -> usize {
    let mut addresses = BTreeSet::new();
    for slice in slices {
        for endpoint in array(slice, "endpoints") {
            let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            if ready {
                addresses.extend(array(endpoint, "addresses").iter().filter_map(Value::as_str));
            }
        }
    }
    addresses.len()
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_addresses_are_counted_once() {
        let endpoint =
            |address: &str, conditions: Value| json!({ "addresses": [address], "conditions": conditions });
        let ready = json!({ "ready": true });
        let cases = [
            ("no slice", vec![], 0),
            ("a slice without endpoints", vec![json!({ "endpoints": null }), json!({})], 0),
            ("ready", vec![json!({ "endpoints": [endpoint("10.0.0.1", ready.clone())] })], 1),
            ("not ready", vec![json!({ "endpoints": [endpoint("10.0.0.1", json!({ "ready": false }))] })], 0),
            (
                "not said",
                vec![
                    json!({ "endpoints": [endpoint("10.0.0.1", json!({})), endpoint("10.0.0.2", Value::Null)] }),
                ],
                2,
            ),
            (
                "twice",
                vec![
                    json!({ "endpoints": [endpoint("10.0.0.1", ready.clone())] }),
                    json!({ "endpoints": [endpoint("10.0.0.1", ready), endpoint("10.0.0.3", json!({ "ready": false }))] }),
                ],
                1,
            ),
            ("no address", vec![json!({ "endpoints": [{ "addresses": [] }] })], 0),
        ];
        for (what, slices, expected) in cases {
            assert_eq!(ready_endpoints(&slices), expected, "{what}");
        }
    }
}
