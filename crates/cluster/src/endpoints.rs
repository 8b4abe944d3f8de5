//! Whether anybody stands behind a Service.

use std::collections::BTreeSet;

use serde_json::Value;

/// Label of an EndpointSlice: the Service it is about.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Label selector of the EndpointSlices of these Services, in their namespace.
pub fn selector<'s>(services: impl IntoIterator<Item = &'s str>) -> String {
    let names: Vec<&str> = services.into_iter().collect();
    format!("{SERVICE_NAME} in ({})", names.join(","))
}

/// Name of the Service that an EndpointSlice is about.
pub fn service_of(slice: &Value) -> Option<&str> {
    slice.get("metadata")?.get("labels")?.get(SERVICE_NAME)?.as_str()
}

/// Whether a Service, given as `namespace/name`, has a ready endpoint by what is among these EndpointSlices.
pub fn answers<'s>(service: &str, slices: impl IntoIterator<Item = &'s Value>) -> bool {
    let Some((namespace, name)) = service.split_once('/') else { return false };
    let of_service = |slice: &&Value| {
        slice.pointer("/metadata/namespace").and_then(Value::as_str) == Some(namespace)
            && service_of(slice) == Some(name)
    };
    ready_endpoints(slices.into_iter().filter(of_service)) > 0
}

/// How many distinct addresses the EndpointSlices of one Service have that take traffic.
///
/// An endpoint whose readiness is not said counts as ready, as the API has it. During a rollout an address may
/// stand in two slices; it counts once, and as ready if either says so.
pub fn ready_endpoints<'s>(slices: impl IntoIterator<Item = &'s Value>) -> usize {
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
