//! Which kinds the API server serves.

use std::collections::BTreeSet;

use serde_json::Value;
use trainerd_object::Resource;

use crate::cluster::Cluster;
use crate::error::{RequestError, Verb};
use crate::transport::Call;

/// Every group and version in one answer (KEP-3352, served since Kubernetes 1.30).
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Cluster {
    /// The kinds that live in a namespace and can be listed, each in the version that its group prefers of
    /// those that serve it.
    pub async fn namespaced_resources(&self) -> Result<Vec<Resource>, RequestError> {
        let mut resources = self.resources().await?;
        resources.retain(|resource| resource.namespaced);
        Ok(resources)
    }

    /// The kinds of both scopes that can be listed, each in the version that its group prefers of those that serve
    /// it.
    pub async fn resources(&self) -> Result<Vec<Resource>, RequestError> {
        let mut resources = Vec::new();
        for path in ["/api", "/apis"] {
            let answer = self.call(Call::get(Verb::List, path.to_owned()).accept(AGGREGATED)).await?;
            resources.extend(listable(&answer));
        }
        Ok(resources)
    }
}

/// The versions of a group are in the order of its preference; not every kind is in the first.
fn listable(discovery: &Value) -> Vec<Resource> {
    let mut resources = Vec::new();
    for group in items(&discovery["items"]) {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        let mut known = BTreeSet::new();
        let versions = items(&group["versions"]);
        let served = versions
            .flat_map(|version| items(&version["resources"]).map(move |resource| (version, resource)));
        for (version, resource) in served {
            let listable = items(&resource["verbs"]).any(|verb| verb == "list");
            let text = |value: &Value| value.as_str().map(str::to_owned);
            if let (true, Some(kind), Some(plural), Some(version)) = (
                listable,
                text(&resource["responseKind"]["kind"]),
                text(&resource["resource"]),
                text(&version["version"]),
            ) && known.insert(plural.clone())
            {
                let namespaced = resource["scope"] == "Namespaced";
                resources.push(Resource { group: name.to_owned(), version, kind, plural, namespaced });
            }
        }
    }
    resources
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn listable_kinds_are_found() {
        let resource = |name: &str, kind: &str, scope: &str, verbs: &[&str]| json!({"resource": name, "responseKind": {"kind": kind}, "scope": scope, "verbs": verbs});
        let discovery = json!({"items": [{
            "metadata": {"name": "apps"},
            "versions": [
                {"version": "v1", "resources": [
                    resource("deployments", "Deployment", "Namespaced", &["get", "list"]),
                    resource("bindings", "Binding", "Namespaced", &["create"]),
                    resource("nodes", "Node", "Cluster", &["list"]),
                ]},
                {"version": "v1beta1", "resources": [
                    resource("deployments", "Deployment", "Namespaced", &["get", "list"]),
                    resource("old", "Old", "Namespaced", &["list"]),
                ]},
            ],
        }]});
        let found: Vec<_> =
            listable(&discovery).into_iter().map(|r| (r.api_version(), r.plural, r.namespaced)).collect();
        let expected =
            [("apps/v1", "deployments", true), ("apps/v1", "nodes", false), ("apps/v1beta1", "old", true)];
        assert_eq!(
            found,
            expected.map(|(version, plural, scope)| (version.to_owned(), plural.to_owned(), scope))
        );
    }
}
