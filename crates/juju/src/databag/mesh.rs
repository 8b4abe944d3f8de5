//! `service-mesh`: interface `service_mesh`, which we require.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cmr::Identity;
use super::scrape::DAEMON_PORT;
use super::{Bag, Topology, canonical};

/// What the provider tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Labels that put a pod into the mesh.
    pub labels: BTreeMap<String, String>,
    /// Which mesh: `istio`.
    pub mesh_type: String,
}

impl Provider {
    /// Reads the provider's databag; `None` while it has said nothing.
    pub fn read(remote: &Bag) -> Option<Self> {
        let labels = serde_json::from_str(remote.get("labels")?).ok()?;
        let mesh_type = serde_json::from_str(remote.get("mesh_type")?).ok()?;
        Some(Self { labels, mesh_type })
    }
}

/// Who may reach what. These eight keys and no others.
#[derive(Clone, Debug, Serialize)]
struct Policy {
    source_namespace: String,
    source_app_name: String,
    target_namespace: String,
    target_app_name: String,
    target_selector_labels: Option<Value>,
    target_service: Option<String>,
    target_type: &'static str,
    endpoints: Vec<Access>,
}

/// A mesh discards a policy of type `unit` that has hosts, methods or paths.
#[derive(Clone, Debug, Serialize)]
struct Access {
    hosts: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    ports: Vec<u16>,
}

/// The leader's part: every application that scrapes us may reach the daemon's metrics. `identities` has those that
/// live in another model, by the name that they have in ours.
pub fn app_bag(topology: &Topology, scrapers: &[String], identities: &BTreeMap<String, Identity>) -> Bag {
    let policy = |scraper: &String| {
        let elsewhere = identities.get(scraper);
        Policy {
            source_namespace: elsewhere.map_or(&topology.model, |them| &them.juju_model_name).clone(),
            source_app_name: elsewhere.map_or(scraper, |them| &them.app_name).clone(),
            target_namespace: topology.model.clone(),
            target_app_name: topology.application().to_owned(),
            target_selector_labels: None,
            target_service: None,
            target_type: "unit",
            endpoints: vec![Access { hosts: None, methods: None, paths: None, ports: vec![DAEMON_PORT] }],
        }
    };
    let policies: Vec<Policy> = scrapers.iter().map(policy).collect();
    Bag::from([("policies".to_owned(), canonical(&policies))])
}

#[cfg(test)]
mod tests {
    use super::super::tests::topology;
    use super::*;

    #[test]
    fn a_scraper_of_another_model_has_its_own_name() {
        let them = Identity { app_name: "prometheus".into(), juju_model_name: "cos".into() };
        let identities = BTreeMap::from([("remote-abc".to_owned(), them)]);
        let bag = app_bag(&topology(), &["grafana-agent".into(), "remote-abc".into()], &identities);
        insta::assert_snapshot!(bag["policies"], @r#"[{"endpoints":[{"hosts":null,"methods":null,"paths":null,"ports":[38991]}],"source_app_name":"grafana-agent","source_namespace":"kubeflow","target_app_name":"my-trainer","target_namespace":"kubeflow","target_selector_labels":null,"target_service":null,"target_type":"unit"},{"endpoints":[{"hosts":null,"methods":null,"paths":null,"ports":[38991]}],"source_app_name":"prometheus","source_namespace":"cos","target_app_name":"my-trainer","target_namespace":"kubeflow","target_selector_labels":null,"target_service":null,"target_type":"unit"}]"#);
        assert_eq!(app_bag(&topology(), &[], &BTreeMap::new())["policies"], "[]");
    }

    #[test]
    fn an_empty_databag_is_no_provider() {
        let bag = Bag::from([
            ("labels".into(), r#"{"istio.io/dataplane-mode":"ambient"}"#.into()),
            ("mesh_type".into(), "\"istio\"".into()),
        ]);
        let provider = Provider::read(&bag).unwrap();
        assert_eq!(provider.mesh_type, "istio");
        assert_eq!(provider.labels["istio.io/dataplane-mode"], "ambient");
        assert_eq!(Provider::read(&Bag::new()), None);
    }
}
