//! Which kinds there are.

use serde_json::Value;
use trainerd_plan::object::Resource;

/// The kinds of an aggregated discovery document that can be listed, but for Events.
pub(crate) fn listable(document: &Value) -> Vec<Resource> {
    let mut kinds = Vec::new();
    for group in array(document, "items") {
        // The first version is the preferred one; the others serve the same objects.
        let Some(version) = array(group, "versions").next() else { continue };
        for row in array(version, "resources") {
            let text = |path: &str| row.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            let kind = text("/responseKind/kind");
            if kind == "Event" || !array(row, "verbs").any(|verb| verb == "list") {
                continue;
            }
            kinds.push(Resource {
                group: group["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                version: version["version"].as_str().unwrap_or_default().to_owned(),
                kind,
                plural: text("/resource"),
                namespaced: row["scope"] == "Namespaced",
            });
        }
    }
    kinds
}

fn array<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_that_can_be_listed_are_found_once() {
        let row = |kind: &str, plural: &str, verbs: &[&str]| json!({"resource": plural, "responseKind": {"kind": kind}, "scope": "Cluster", "verbs": verbs});
        let document = json!({"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v1", "resources": [
                row("A", "as", &["get", "list"]), row("Review", "reviews", &["create"]), row("Event", "events", &["list"]),
            ]},
            {"version": "v1beta1", "resources": [row("A", "as", &["list"])]},
        ]}]});
        let found: Vec<_> =
            listable(&document).into_iter().map(|kind| (kind.group, kind.version, kind.kind)).collect();
        assert_eq!(found, [("g".to_owned(), "v1".to_owned(), "A".to_owned())]);
    }
}
