//! How the kinds of a group are served: for whoever knows a kind only by its name.

use serde_json::Value;
use trainerd_object::Resource;

use crate::cluster::Cluster;
use crate::error::{RequestError, Verb};
use crate::transport::Call;

impl Cluster {
    /// The kinds of an API group (empty for the core group) that can be listed, of both scopes, each in the
    /// first version that has it, in the group's own order of preference. A group that is not served has none.
    ///
    /// Costs one request, and one more a version. Unlike [`Self::namespaced_resources`] it asks about one group
    /// only, so that a broken aggregated API server elsewhere does not matter.
    pub async fn kinds_of(&self, group: &str) -> Result<Vec<Resource>, RequestError> {
        let versions = if group.is_empty() {
            vec!["v1".to_owned()]
        } else {
            match self.call(Call::get(Verb::Get, format!("/apis/{group}"))).await {
                Ok(answer) => versions(&answer),
                Err(error) if error.is_absent() => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        };
        let mut kinds: Vec<Resource> = Vec::new();
        for version in versions {
            let path =
                if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
            let answer = match self.call(Call::get(Verb::List, path)).await {
                Ok(answer) => answer,
                // Dropped since the group was asked.
                Err(error) if error.is_absent() => continue,
                Err(error) => return Err(error),
            };
            for resource in listable(&answer, group, &version) {
                if kinds.iter().all(|known| known.kind != resource.kind) {
                    kinds.push(resource);
                }
            }
        }
        Ok(kinds)
    }
}

/// The versions of an `APIGroup`, the preferred one first.
fn versions(group: &Value) -> Vec<String> {
    let all = group["versions"].as_array().into_iter().flatten().map(|version| &version["version"]);
    let mut versions: Vec<String> = Vec::new();
    for version in std::iter::once(&group["preferredVersion"]["version"]).chain(all) {
        if let Some(version) =
            version.as_str().filter(|version| versions.iter().all(|known| known != version))
        {
            versions.push(version.to_owned());
        }
    }
    versions
}

/// The rows of an `APIResourceList` that are kinds of their own and can be listed.
fn listable(list: &Value, group: &str, version: &str) -> Vec<Resource> {
    let rows = list["resources"].as_array().into_iter().flatten();
    rows.filter(|row| row["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|verb| verb == "list")))
        .filter_map(|row| {
            let plural = row["name"].as_str().filter(|name| !name.contains('/'))?;
            Some(Resource {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: row["kind"].as_str()?.to_owned(),
                plural: plural.to_owned(),
                namespaced: row["namespaced"] == true,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_preferred_version_comes_first_without_duplicates() {
        let version = |name: &str| json!({"groupVersion": format!("g/{name}"), "version": name});
        let group = json!({"versions": [version("v2"), version("v1")], "preferredVersion": version("v1")});
        assert_eq!(versions(&group), ["v1", "v2"]);
        assert!(versions(&json!({})).is_empty());
    }

    #[test]
    fn subresources_and_unlistable_kinds_are_skipped() {
        let row = |name: &str, kind: &str, namespaced: bool, verbs: &[&str]| json!({"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs});
        let list = json!({"resources": [
            row("deployments", "Deployment", true, &["get", "list"]),
            row("deployments/status", "Deployment", true, &["get", "list"]),
            row("reviews", "Review", false, &["create"]),
            row("nodes", "Node", false, &["list"]),
        ]});
        let found: Vec<_> =
            listable(&list, "apps", "v1").into_iter().map(|r| (r.plural, r.namespaced)).collect();
        assert_eq!(found, [("deployments".to_owned(), true), ("nodes".to_owned(), false)]);
    }
}
