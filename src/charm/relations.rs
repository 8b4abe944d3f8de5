//! Writing what belongs into databags, and only where it is not there yet.

use std::collections::BTreeMap;

use trainerd_juju::databag::scrape::{self, Group, Rule, Scraped};
use trainerd_juju::databag::{Bag, Topology, changes, cmr, dashboard, links, mesh};
use trainerd_juju::hook::{Endpoint, Hook, RelationEvent};
use trainerd_juju::tools;

use super::course::Relations;
use super::dispatch::{Dispatch, Facts, warned};
use crate::monitoring;

impl Dispatch {
    /// Writes the databags of these relations.
    pub(super) async fn relate(&self, facts: &Facts, relations: Relations) {
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
            let ids = self.live(endpoint).await;
            for id in &ids {
                if endpoint == Endpoint::Metrics {
                    self.write_unit(id).await;
                }
                self.listen(endpoint, id).await;
                if self.still_leads(facts).await
                    && let Some(wanted) = self.app_bag(endpoint, facts).await
                {
                    self.write_app(id, &wanted).await;
                }
            }
            // Whom the mesh lets in follows from who scrapes.
            if endpoint == Endpoint::Metrics && relations != Relations::All && self.still_leads(facts).await {
                for id in self.live(Endpoint::Mesh).await {
                    if let Some(wanted) = self.app_bag(Endpoint::Mesh, facts).await {
                        self.write_app(&id, &wanted).await;
                    }
                }
            }
        }
    }

    /// The relations of an endpoint that are not being broken.
    async fn live(&self, endpoint: Endpoint) -> Vec<String> {
        let mut ids = warned(self.tools.relations(endpoint.name()).await).unwrap_or_default();
        if let (Hook::Relation(of, RelationEvent::Broken), Some(relation)) =
            (&self.environment.hook, &self.environment.relation)
            && *of == endpoint
        {
            ids.retain(|id| *id != relation.id);
        }
        ids
    }

    /// What the leader writes for an endpoint.
    async fn app_bag(&self, endpoint: Endpoint, facts: &Facts) -> Option<Bag> {
        let topology = self.topology();
        match endpoint {
            Endpoint::Metrics => {
                let daemon = self.shared.exists();
                let scraped = Scraped { trainer: !(daemon && facts.hosts_reconciler()), daemon };
                Some(scrape::app_bag(&topology, alert_groups(&topology), scraped))
            }
            Endpoint::Dashboard => {
                let dashboard = warned(monitoring::dashboard())?;
                warned(dashboard::app_bag(&topology, &dashboard))
            }
            Endpoint::Links => Some(links::app_bag()),
            Endpoint::Mesh => Some(self.policies(&topology).await),
            Endpoint::RequireCmr => Some(cmr::app_bag(&topology)),
            Endpoint::ProvideCmr => None,
        }
    }

    /// Who may reach us: whoever scrapes us, by the name that he has in his own model.
    async fn policies(&self, topology: &Topology) -> Bag {
        let mut scrapers = Vec::new();
        for id in self.live(Endpoint::Metrics).await {
            scrapers.extend(warned(self.tools.remote_app(&id).await));
        }
        scrapers.sort();
        scrapers.dedup();
        let mut identities = BTreeMap::new();
        for id in self.live(Endpoint::ProvideCmr).await {
            let Some(app) = warned(self.tools.remote_app(&id).await) else { continue };
            let bag = warned(self.tools.bag(&id, tools::Bag::App(&app)).await).unwrap_or_default();
            identities.extend(cmr::identity(&bag).map(|identity| (app, identity)));
        }
        mesh::app_bag(topology, &scrapers, &identities)
    }

    async fn write_app(&self, id: &str, wanted: &Bag) {
        let app = self.environment.unit.application.clone();
        let Some(known) = warned(self.tools.bag(id, tools::Bag::App(&app)).await) else { return };
        self.write(id, true, &changes(&known, wanted, &[])).await;
    }

    async fn write_unit(&self, id: &str) {
        let unit = self.environment.unit.to_string();
        let Some(known) = warned(self.tools.bag(id, tools::Bag::Unit(&unit)).await) else { return };
        let address = warned(self.tools.bind_address(id, Endpoint::Metrics.name()).await).flatten();
        let Some(address) = address.or_else(host) else { return };
        self.write(id, false, &changes(&known, &scrape::unit_bag(&self.topology(), &address), &[])).await;
    }

    async fn write(&self, id: &str, app: bool, changes: &Bag) {
        if !changes.is_empty() {
            warned(self.tools.write_bag(id, app, changes).await);
        }
    }

    /// Warns of what the other end says is wrong with what we wrote.
    async fn listen(&self, endpoint: Endpoint, id: &str) {
        let read: fn(&Bag) -> Vec<String> = match endpoint {
            Endpoint::Metrics => scrape::complaints,
            Endpoint::Dashboard => dashboard::complaints,
            _ => return,
        };
        let about_it =
            matches!(self.environment.hook, Hook::Relation(of, RelationEvent::Changed) if of == endpoint);
        let Some(relation) =
            self.environment.relation.as_ref().filter(|relation| about_it && relation.id == id)
        else {
            return;
        };
        let bag = warned(self.tools.bag(id, tools::Bag::App(&relation.remote_app)).await).unwrap_or_default();
        for complaint in read(&bag) {
            warn_of!("{} of {}: {complaint}", endpoint.name(), relation.remote_app);
        }
    }
}

/// The name of this host, where Juju knows no address.
fn host() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// The alerts: those that the application always had, and the daemon's own.
fn alert_groups(topology: &Topology) -> Vec<Group> {
    let matchers = scrape::matchers(topology);
    let labels: Vec<(&str, &str)> = matchers.iter().map(|(label, value)| (*label, value.as_str())).collect();
    let mut groups = vec![services(&labels)];
    groups.extend(warned(monitoring::rules_about(&labels)).unwrap_or_default());
    groups
}

/// What Kubeflow's charms alert of alike.
fn services(labels: &[(&str, &str)]) -> Group {
    let matchers: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let up = format!("up{{{}}}", matchers.join(","));
    let rule =
        |alert: &str, expr: String, lasting: &str, severity: &str, summary: &str, description: &str| {
            let map = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            };
            Rule {
                alert: alert.to_owned(),
                expr,
                lasting: lasting.to_owned(),
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
    fn every_alert_is_about_this_application_alone_and_parses() {
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
            // A selector without a brace would be about everybody's.
            let matcher = "juju_application=\"my-trainer\"";
            let selectors = rule.expr.matches('{').count();
            assert!(selectors > 0 && rule.expr.matches(matcher).count() == selectors, "{}", rule.expr);
        }
    }
}
