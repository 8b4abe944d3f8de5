//! What a pod requests, as the scheduler counts it: containers, init containers, the pod itself and its overhead.

use std::collections::BTreeMap;

use serde_json::Value;
use trainerd_schema::Quantity;

use crate::value::{at, items, text};

/// Amounts by resource.
pub(crate) type Resources = BTreeMap<String, Quantity>;

fn read(value: &Value) -> Resources {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), Quantity::of(amount)?))).collect()
}

/// Adds amounts, in the family of what is there.
pub(crate) fn add(sum: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let total = sum.get(name).map_or(*amount, |known| *known + *amount);
        sum.insert(name.clone(), total);
    }
}

fn raise_to(most: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        if most.get(name).is_none_or(|known| amount > known) {
            most.insert(name.clone(), *amount);
        }
    }
}

/// Requests of one pod. Limits never count.
pub(crate) fn of_pod(spec: &Value) -> Resources {
    let own = |container: &Value| read(at(container, &["resources", "requests"]));
    let mut sum = Resources::new();
    for container in items(spec, &["containers"]) {
        add(&mut sum, &own(container));
    }
    // Sidecars continue beside whatever starts after them.
    let mut sidecars = Resources::new();
    let mut most = Resources::new();
    for container in items(spec, &["initContainers"]) {
        let mut candidate = own(container);
        if text(container, &["restartPolicy"]) == Some("Always") {
            add(&mut sum, &candidate);
            add(&mut sidecars, &candidate);
            candidate = sidecars.clone();
        } else {
            add(&mut candidate, &sidecars);
        }
        raise_to(&mut most, &candidate);
    }
    raise_to(&mut sum, &most);
    for (name, amount) in read(at(spec, &["resources", "requests"])) {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            sum.insert(name, amount);
        }
    }
    add(&mut sum, &read(at(spec, &["overhead"])));
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_requests_the_maximum_of_its_containers() {
        let cpu =
            |amount: &str| json!({"resources": {"requests": {"cpu": amount}, "limits": {"cpu": "100"}}});
        let sidecar = |amount: &str| {
            let mut container = cpu(amount);
            container["restartPolicy"] = json!("Always");
            container
        };
        for (spec, expected) in [
            (json!({"containers": [cpu("1"), cpu("500m")]}), "1500m"),
            (json!({"containers": [cpu("1")], "initContainers": [cpu("3"), cpu("2")]}), "3"),
            (
                json!({"containers": [cpu("1")], "initContainers": [sidecar("1"), cpu("2"), sidecar("1")]}),
                "3",
            ),
            (json!({"containers": [cpu("1")], "initContainers": [cpu("2"), sidecar("2")]}), "3"),
            (json!({"containers": [cpu("1")], "resources": {"requests": {"cpu": "4", "x.org/y": "1"}}}), "4"),
            (json!({"containers": [cpu("1")], "overhead": {"cpu": "250m"}}), "1250m"),
        ] {
            let requests = of_pod(&spec);
            assert_eq!(requests.len(), 1, "{spec}");
            assert_eq!(requests["cpu"].to_string(), expected, "{spec}");
        }
        assert!(of_pod(&json!({"containers": [{"resources": {"limits": {"cpu": "1"}}}]})).is_empty());
    }
}
