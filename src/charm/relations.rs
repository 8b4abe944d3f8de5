//! Writes databags, where their content changes.

use std::collections::BTreeMap;

use trainerd_juju::databag::scrape::{self, Group, Rule, Targets};
use trainerd_juju::databag::{Bag, Topology, changes, cmr, dashboard, links, mesh};
use trainerd_juju::hook::{Endpoint, Hook, RelationEvent};
use trainerd_juju::tools;

use super::dispatch::{Dispatch, Facts, ok_or_warn};
use super::handlers::Relations;
use crate::monitoring;

impl Dispatch {
    /// Writes the databags of these relations.
    pub(super) async fn update_relations(&self, facts: &Facts, relations: Relations) {
        let endpoints = match relations {
            Relations::None => return,
            Relations::One(endpoint) => vec![endpoint],
            Relations::All => {
                vec![
                    Endpoint::Metrics,
                    Endpoint::Dashboard,
                    Endpoint::Links,
                    Endpoint::Mesh,
                    Endpoint::RequireCmr,
                ]
            }
        };
        for endpoint in endpoints {
            let ids = self.live_relations(endpoint).await;
            for id in &ids {
                if endpoint == Endpoint::Metrics {
                    self.write_unit(id).await;
                }
                self.warn_of_remote_errors(endpoint, id).await;
                if self.is_still_leader(facts).await
                    && let Some(wanted) = self.app_bag(endpoint, facts).await
                {
                    self.write_app(id, &wanted).await;
                }
            }
            // The mesh policies follow from who scrapes.
            if endpoint == Endpoint::Metrics
                && relations != Relations::All
                && self.is_still_leader(facts).await
            {
                for id in self.live_relations(Endpoint::Mesh).await {
                    if let Some(wanted) = self.app_bag(Endpoint::Mesh, facts).await {
                        self.write_app(&id, &wanted).await;
                    }
                }
            }
        }
    }

    /// The relations of an endpoint, without one that is being broken.
    async fn live_relations(&self, endpoint: Endpoint) -> Vec<String> {
        let mut ids = ok_or_warn(self.tools.relations(endpoint.name()).await).unwrap_or_default();
        if let (Hook::Relation(of, RelationEvent::Broken), Some(relation)) =
            (&self.environment.hook, &self.environment.relation)
            && *of == endpoint
        {
            ids.retain(|id| *id != relation.id);
        }
        ids
    }

    /// The application databag for an endpoint.
    async fn app_bag(&self, endpoint: Endpoint, facts: &Facts) -> Option<Bag> {
        let topology = self.topology();
        match endpoint {
            Endpoint::Metrics => {
                let daemon = self.shared.exists();
                let targets = Targets { trainer: !(daemon && facts.hosts_reconciler()), daemon };
                Some(scrape::app_bag(&topology, alert_groups(&topology), targets))
            }
            Endpoint::Dashboard => {
                let dashboard = ok_or_warn(monitoring::dashboard())?;
                ok_or_warn(dashboard::app_bag(&topology, &dashboard))
            }
            Endpoint::Links => Some(links::app_bag()),
            Endpoint::Mesh => Some(self.mesh_policies(&topology).await),
            Endpoint::RequireCmr => Some(cmr::app_bag(&topology)),
            Endpoint::ProvideCmr => None,
        }
    }

    /// Access for the applications that scrape us, by their names in their own models.
    async fn mesh_policies(&self, topology: &Topology) -> Bag {
        let mut scrapers = Vec::new();
        for id in self.live_relations(Endpoint::Metrics).await {
            scrapers.extend(ok_or_warn(self.tools.remote_app(&id).await));
        }
        scrapers.sort();
        scrapers.dedup();
        let mut identities = BTreeMap::new();
        for id in self.live_relations(Endpoint::ProvideCmr).await {
            let Some(app) = ok_or_warn(self.tools.remote_app(&id).await) else { continue };
            let bag = ok_or_warn(self.tools.bag(&id, tools::Bag::App(&app)).await).unwrap_or_default();
            identities.extend(cmr::identity(&bag).map(|identity| (app, identity)));
        }
        mesh::app_bag(topology, &scrapers, &identities)
    }

    async fn write_app(&self, id: &str, wanted: &Bag) {
        let app = self.environment.unit.application.clone();
        let Some(known) = ok_or_warn(self.tools.bag(id, tools::Bag::App(&app)).await) else { return };
        self.write(id, true, &changes(&known, wanted, &[])).await;
    }

    async fn write_unit(&self, id: &str) {
        let unit = self.environment.unit.to_string();
        let Some(known) = ok_or_warn(self.tools.bag(id, tools::Bag::Unit(&unit)).await) else { return };
        let address = ok_or_warn(self.tools.bind_address(id, Endpoint::Metrics.name()).await).flatten();
        let Some(address) = address.or_else(host) else { return };
        self.write(id, false, &changes(&known, &scrape::unit_bag(&self.topology(), &address), &[])).await;
    }

    async fn write(&self, id: &str, app: bool, changes: &Bag) {
        if !changes.is_empty() {
            ok_or_warn(self.tools.write_bag(id, app, changes).await);
        }
    }

    /// Logs the errors that the other application reports about what we wrote.
    async fn warn_of_remote_errors(&self, endpoint: Endpoint, id: &str) {
        let errors_of: fn(&Bag) -> Vec<String> = match endpoint {
            Endpoint::Metrics => scrape::remote_errors,
            Endpoint::Dashboard => dashboard::remote_errors,
            _ => return,
        };
        let is_this_hook =
            matches!(self.environment.hook, Hook::Relation(of, RelationEvent::Changed) if of == endpoint);
        let Some(relation) =
            self.environment.relation.as_ref().filter(|relation| is_this_hook && relation.id == id)
        else {
            return;
        };
        let bag =
            ok_or_warn(self.tools.bag(id, tools::Bag::App(&relation.remote_app)).await).unwrap_or_default();
        for error in errors_of(&bag) {
            warn_of!("{} of {}: {error}", endpoint.name(), relation.remote_app);
        }
    }
}

/// The host's name, in place of an address that Juju does not know.
fn host() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// The alert groups: that of all Kubeflow charms, and the daemon's own.
fn alert_groups(topology: &Topology) -> Vec<Group> {
    let matchers = scrape::matchers(topology);
    let labels: Vec<(&str, &str)> = matchers.iter().map(|(label, value)| (*label, value.as_str())).collect();
    let mut groups = vec![services(&labels)];
    groups.extend(ok_or_warn(monitoring::rules_about(&labels)).unwrap_or_default());
    groups
}

/// The alerts that all Kubeflow charms have.
fn services(labels: &[(&str, &str)]) -> Group {
    let matchers: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let up = format!("up{{{}}}", matchers.join(","));
    let rule =
        |alert: &str, expr: String, duration: &str, severity: &str, summary: &str, description: &str| {
            let map = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            };
            Rule {
                alert: alert.to_owned(),
                expr,
                duration: duration.to_owned(),
                labels: map(&[("severity", severity)]),
                annotations: map(&[("summary", summary), ("description", description)]),
            }
        };
    Group {
        name: "KubeflowTrainingOperatorServices".to_owned(),
        rules: vec![
            rule(
                "KubeflowServiceDown",
                format!("{up} < 1"),
                "5m",
                "critical",
                "{{ $labels.juju_charm }} service is down ({{ $labels.juju_model }}/{{ $labels.juju_unit }})",
                "A service of the Kubeflow Trainer does not answer Prometheus.\n  LABELS = {{ $labels }}",
            ),
            rule(
                "KubeflowServiceIsNotStable",
                format!("avg_over_time({up}[10m]) < 0.5"),
                "0m",
                "warning",
                "{{ $labels.juju_charm }} service is not stable ({{ $labels.juju_model }}/{{ $labels.juju_unit }})",
                "A service of the Kubeflow Trainer did not answer Prometheus half of the last ten minutes.\n  LABELS = {{ $labels }}",
            ),
        ],
    }
}

#[cfg(test)]
mod tests {
    use trainerd_juju::environment::Unit;

    use super::*;

    #[test]
    fn alert_expressions_parse_and_select_only_this_application() {
        let topology = Topology {
            unit: Unit { application: "my-trainer".into(), number: 0 },
            model: "kubeflow".into(),
            model_uuid: "0d1a0b1e-2b3c-4d5e-8f90-123456789abc".into(),
        };
        let groups = alert_groups(&topology);
        let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["KubeflowTrainingOperatorServices", "Trainerd"]);
        for rule in groups.iter().flat_map(|group| &group.rules) {
            promql_parser::parser::parse(&rule.expr).unwrap();
            // A selector without matchers would match other applications.
            let matcher = "juju_application=\"my-trainer\"";
            let selectors = rule.expr.matches('{').count();
            assert!(selectors > 0 && rule.expr.matches(matcher).count() == selectors, "{}", rule.expr);
        }
    }
}
