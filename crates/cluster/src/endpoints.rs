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
    !ready(service, slices).is_empty()
}

/// The endpoints of a Service, given as `namespace/name`, that take traffic by what is among these EndpointSlices: the uids
/// of their pods; of one that is no pod, its address.
///
/// An endpoint whose readiness is not said counts as ready, as the API has it. During a rollout it may stand in two
/// slices; it is ready if either says so.
pub fn ready<'s>(service: &str, slices: impl IntoIterator<Item = &'s Value>) -> BTreeSet<&'s str> {
    let Some((namespace, name)) = service.split_once('/') else { return BTreeSet::new() };
    let of_service = |slice: &&Value| {
        slice.pointer("/metadata/namespace").and_then(Value::as_str) == Some(namespace)
            && service_of(slice) == Some(name)
    };
    let endpoints = slices.into_iter().filter(of_service).flat_map(|slice| array(slice, "endpoints"));
    let is_ready =
        |endpoint: &&Value| endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
    endpoints.filter(is_ready).filter_map(identity).collect()
}

/// Which endpoint it is; `None` for one without an address.
fn identity(endpoint: &Value) -> Option<&str> {
    let address = array(endpoint, "addresses").first()?.as_str()?;
    Some(endpoint.pointer("/targetRef/uid").and_then(Value::as_str).unwrap_or(address))
}

fn array<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_endpoints_are_counted_once() {
        let endpoint =
            |address: &str, conditions: Value| json!({ "addresses": [address], "conditions": conditions });
        let pod =
            |uid: &str| json!({ "addresses": ["10.0.0.1"], "targetRef": { "kind": "Pod", "uid": uid } });
        let is_ready = json!({ "ready": true });
        let cases = [
            ("no slice", vec![], vec![]),
            ("a slice without endpoints", vec![json!({ "endpoints": null }), json!({})], vec![]),
            (
                "ready",
                vec![json!({ "endpoints": [endpoint("10.0.0.1", is_ready.clone())] })],
                vec!["10.0.0.1"],
            ),
            (
                "not ready",
                vec![json!({ "endpoints": [endpoint("10.0.0.1", json!({ "ready": false }))] })],
                vec![],
            ),
            (
                "not said",
                vec![
                    json!({ "endpoints": [endpoint("10.0.0.1", json!({})), endpoint("10.0.0.2", Value::Null)] }),
                ],
                vec!["10.0.0.1", "10.0.0.2"],
            ),
            (
                "twice",
                vec![
                    json!({ "endpoints": [endpoint("10.0.0.1", is_ready.clone())] }),
                    json!({ "endpoints": [endpoint("10.0.0.1", is_ready), endpoint("10.0.0.3", json!({ "ready": false }))] }),
                ],
                vec!["10.0.0.1"],
            ),
            ("no address", vec![json!({ "endpoints": [{ "addresses": [] }] })], vec![]),
            ("pods at one address", vec![json!({ "endpoints": [pod("a"), pod("b")] })], vec!["a", "b"]),
        ];
        for (what, mut slices, expected) in cases {
            for slice in &mut slices {
                slice["metadata"] = json!({ "namespace": "ns", "labels": { SERVICE_NAME: "webhooks" } });
            }
            assert_eq!(ready("ns/webhooks", &slices), BTreeSet::from_iter(expected), "{what}");
            assert!(!answers("ns/others", &slices), "{what}");
        }
    }
}
