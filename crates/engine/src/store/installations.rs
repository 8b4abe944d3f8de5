//! Which installations a cluster has, by what trainerd keeps of them and by what carries their labels.

use std::collections::BTreeMap;

use semver::Version;
use serde::Serialize;
use serde_json::Value;
use trainerd_cluster::{Cluster, ListParams, builtin};
use trainerd_plan::applyset;

use super::{RECORD, copies, decompressed, json_of};
use crate::error::EngineError;
use crate::record::{Outcome, Record};
use crate::retry::patiently;
use crate::revision::Header;

/// An installation, as far as it can be told from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether its record is there and can be read.
    pub record: bool,
    /// The revision that it is at.
    pub revision: Option<u64>,
    /// The outcome of that revision.
    pub outcome: Option<Outcome>,
    /// Whether a plan has begun and is not done.
    pub plan_open: bool,
    /// Component versions of that revision.
    pub versions: BTreeMap<String, Version>,
}

/// The installations of a cluster, by namespace and name; those without a record among them.
///
/// # Errors
/// [`EngineError::Request`]: it takes the permission to list Secrets and Deployments in all namespaces.
pub async fn installations(cluster: &Cluster) -> Result<Vec<Found>, EngineError> {
    let params = |selector: String, metadata_only| ListParams {
        label_selector: Some(selector),
        metadata_only,
        ..ListParams::default()
    };
    let kept = params(format!("{RECORD} in (record,revision)"), false);
    let secrets = patiently(async || cluster.list(&builtin::secret(), &kept).await).await;
    let secrets = secrets.map_err(EngineError::request("list", "trainerd's own Secrets"))?.items;
    let members = params(format!("{},{}", applyset::PART_OF, applyset::INSTALLATION), true);
    let workloads = patiently(async || cluster.list(&builtin::deployment(), &members).await).await;
    let workloads = workloads.map_err(EngineError::request("list", "Deployments"))?.items;
    Ok(found(&secrets, &workloads))
}

fn found(secrets: &[Value], workloads: &[Value]) -> Vec<Found> {
    let mut found: BTreeMap<(String, String), Found> = BTreeMap::new();
    let mut headers: BTreeMap<(String, String, u64), Header> = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for secret in secrets {
        let namespace = text(&secret["metadata"]["namespace"]);
        let name = applyset::label(secret, applyset::INSTALLATION).unwrap_or_default().to_owned();
        let entry = found.entry((namespace.clone(), name.clone())).or_default();
        let mut known = Vec::new();
        if applyset::label(secret, RECORD) == Some("record") {
            known = copies(secret);
            if let Ok(record) = json_of::<Record>(secret, "record") {
                entry.record = true;
                entry.revision = record.current;
                entry.outcome = record.current.and_then(|current| record.results.get(&current).cloned());
                entry.plan_open = record.journal.is_some();
            }
        } else {
            known.extend(decompressed::<Header>(secret, "revision").ok());
        }
        headers.extend(
            known.into_iter().map(|header| ((namespace.clone(), name.clone(), header.number), header)),
        );
    }
    for workload in workloads {
        let label = |name| applyset::label(workload, name).unwrap_or_default().to_owned();
        found.entry((label(applyset::NAMESPACE), label(applyset::INSTALLATION))).or_default();
    }
    found
        .into_iter()
        .map(|((namespace, name), found)| {
            let header =
                found.revision.and_then(|revision| headers.get(&(namespace.clone(), name.clone(), revision)));
            let components = header.into_iter().flat_map(|header| &header.components);
            let versions = components.map(|(name, component)| (name.clone(), component.version.clone()));
            Found { versions: versions.collect(), namespace, name, ..found }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    #[test]
    fn installations_are_found_with_and_without_a_record() {
        let labels = |name: &str, what: &str| json!({(applyset::INSTALLATION): name, (RECORD): what});
        let record = json!({"current": 2, "journal": null, "results": {"2": {"result": "deployed"}}});
        let secrets = [
            json!({"metadata": {"namespace": "a", "labels": labels("one", "record")},
                   "data": {"record": STANDARD.encode(record.to_string())}}),
            json!({"metadata": {"namespace": "a", "labels": labels("two", "revision")}, "data": {}}),
        ];
        let workloads = [json!({"metadata": {"labels": {
            (applyset::INSTALLATION): "three", (applyset::NAMESPACE): "b",
        }}})];
        let found = found(&secrets, &workloads);
        let told: Vec<_> =
            found.iter().map(|found| (found.name.as_str(), found.record, found.revision)).collect();
        assert_eq!(told, [("one", true, Some(2)), ("two", false, None), ("three", false, None)]);
        assert_eq!(found[0].outcome, Some(Outcome::Deployed));
    }
}
