//! `metrics-endpoint`: interface `prometheus_scrape`, of which we are the provider.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Bag, CHARM, Topology, canonical};

/// Port of the daemon's metrics, in every unit.
pub const DAEMON_PORT: u16 = 38991;

/// Port of the trainer's metrics.
const TRAINER_PORT: u16 = 8080;

/// A group of alert rules. Expressions are to have the matchers of [`matchers`] already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, before the topology is put around it.
    pub name: String,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// An alert rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub alert: String,
    /// In PromQL.
    pub expr: String,
    /// How long it must hold.
    #[serde(rename = "for")]
    pub duration: String,
    /// What it is routed by.
    pub labels: std::collections::BTreeMap<String, String>,
    /// What is said to people.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The labels that tell series of this application from others; the consumer adds them once more, harmlessly.
pub fn matchers(topology: &Topology) -> [(&'static str, String); 3] {
    [
        ("juju_model", topology.model.clone()),
        ("juju_model_uuid", topology.model_uuid.clone()),
        ("juju_application", topology.application().to_owned()),
    ]
}

/// Whose metrics there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The trainer's, behind its Service; one that the daemon hosts has none of its own.
    pub trainer: bool,
    /// The daemon's, which runs in the workload container.
    pub daemon: bool,
}

/// The leader's part: what is to be scraped, and what is alerted of.
pub fn app_bag(topology: &Topology, groups: Vec<Group>, targets: Targets) -> Bag {
    let metadata = json!({
        "application": topology.application(),
        "charm_name": CHARM,
        "model": topology.model,
        "model_uuid": topology.model_uuid,
        "unit": topology.unit.to_string(),
    });
    Bag::from([
        ("scrape_metadata".to_owned(), canonical(&metadata)),
        ("scrape_jobs".to_owned(), canonical(&jobs(topology, targets))),
        ("alert_rules".to_owned(), canonical(&alert_rules(topology, groups))),
    ])
}

/// The trainer's job stays unnamed and first: consumers have known it so since before trainerd, and name it
/// themselves.
fn jobs(topology: &Topology, targets: Targets) -> Value {
    let mut jobs = Vec::new();
    if targets.trainer {
        let trainer =
            format!("{}-controller-manager.{}.svc:{TRAINER_PORT}", topology.application(), topology.model);
        jobs.push(json!({"metrics_path": "/metrics", "static_configs": [{"targets": [trainer]}]}));
    }
    if targets.daemon {
        // `*` stands for every unit.
        let daemon = format!("*:{DAEMON_PORT}");
        jobs.push(json!({"job_name": "trainerd", "metrics_path": "/metrics",
            "static_configs": [{"targets": [daemon]}]}));
    }
    Value::from(jobs)
}

fn alert_rules(topology: &Topology, groups: Vec<Group>) -> Value {
    let labels = matchers(topology).into_iter().chain([("juju_charm", CHARM.to_owned())]);
    let labels: Vec<(&str, String)> = labels.collect();
    let group = |group: Group| {
        let name = format!(
            "{}_{}_{}_{}_rules",
            topology.model,
            topology.short_uuid(),
            topology.application(),
            group.name
        );
        let rules: Vec<Rule> = group
            .rules
            .into_iter()
            .map(|mut rule| {
                rule.labels.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
                rule
            })
            .collect();
        json!({"name": identifier(&name), "rules": rules})
    };
    json!({"groups": groups.into_iter().map(group).collect::<Vec<_>>()})
}

/// A name of which Prometheus takes every character.
fn identifier(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    name.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}

/// What every unit says of itself: where it is.
pub fn unit_bag(topology: &Topology, address: &str) -> Bag {
    Bag::from([
        ("prometheus_scrape_unit_address".to_owned(), address.to_owned()),
        ("prometheus_scrape_unit_name".to_owned(), topology.unit.to_string()),
    ])
}

/// What the consumer says is wrong with what we wrote, if anything is.
pub fn remote_errors(remote: &Bag) -> Vec<String> {
    let event: Value =
        remote.get("event").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let text = |key: &str| event[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    ["errors", "scrape_job_errors"].into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::topology;
    use super::*;

    fn group() -> Group {
        let text = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let rule = Rule {
            alert: "Down".into(),
            expr: "up < 1".into(),
            duration: "5m".into(),
            labels: text("severity", "critical"),
            annotations: text("summary", "gone"),
        };
        Group { name: "Train-erd".into(), rules: vec![rule] }
    }

    #[test]
    fn the_databags_have_their_exact_content() {
        let bag = app_bag(&topology(), vec![group()], Targets { trainer: true, daemon: true });
        let text: Vec<String> = bag.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
        alert_rules = {"groups":[{"name":"kubeflow_0d1a0b1e_my_trainer_Train_erd_rules","rules":[{"alert":"Down","annotations":{"summary":"gone"},"expr":"up < 1","for":"5m","labels":{"juju_application":"my-trainer","juju_charm":"kubeflow-trainer","juju_model":"kubeflow","juju_model_uuid":"0d1a0b1e-2b3c-4d5e-8f90-123456789abc","severity":"critical"}}]}]}
        scrape_jobs = [{"metrics_path":"/metrics","static_configs":[{"targets":["my-trainer-controller-manager.kubeflow.svc:8080"]}]},{"job_name":"trainerd","metrics_path":"/metrics","static_configs":[{"targets":["*:38991"]}]}]
        scrape_metadata = {"application":"my-trainer","charm_name":"kubeflow-trainer","model":"kubeflow","model_uuid":"0d1a0b1e-2b3c-4d5e-8f90-123456789abc","unit":"my-trainer/0"}
        "#);
    }

    #[test]
    fn absent_targets_are_not_scraped() {
        for (trainer, daemon, ports) in
            [(true, true, vec!["8080", "38991"]), (true, false, vec!["8080"]), (false, true, vec!["38991"])]
        {
            let bag = app_bag(&topology(), Vec::new(), Targets { trainer, daemon });
            let jobs: Vec<Value> = serde_json::from_str(&bag["scrape_jobs"]).unwrap();
            let target = |job: &Value| job["static_configs"][0]["targets"][0].as_str().unwrap().to_owned();
            let targets: Vec<String> = jobs.iter().map(target).collect();
            assert!(
                targets.len() == ports.len()
                    && targets.iter().zip(ports).all(|(it, port)| it.ends_with(port))
            );
        }
    }

    #[test]
    fn errors_of_the_remote_application_are_read() {
        let bag = |event: &str| Bag::from([("event".to_owned(), event.to_owned())]);
        let said = bag(r#"{"valid":false,"errors":"bad rule","scrape_job_errors":""}"#);
        assert_eq!(remote_errors(&said), ["bad rule"]);
        for nothing in [bag(r#"{"valid":true,"errors":""}"#), bag("x"), Bag::new()] {
            assert!(remote_errors(&nothing).is_empty());
        }
    }
}
