//! How the daemon is watched by others: alert rules for Prometheus and a dashboard for Grafana.
//!
//! Both are files, embedded as they stand in `docs/monitoring`. Tests hold every expression in them against the metrics
//! of the daemon, so that a metric that is renamed, or loses a label, leaves no alert and no panel behind.

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr};
use promql_parser::util::visitor::{ExprVisitorMut, walk_expr_mut};
use serde_json::Value;
use trainerd_juju::databag::scrape::Group;

#[cfg(test)]
mod tests;

/// The rule file.
pub(crate) const RULES: &str = include_str!("../../docs/monitoring/prometheus-rules.yaml");

/// The dashboard, as Grafana imports it.
pub(crate) const DASHBOARD: &str = include_str!("../../docs/monitoring/grafana-dashboard.json");

/// An embedded file that cannot be read: tests see to it that there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitoringError {
    /// The rule file.
    #[error("failed to read the alert rules")]
    Rules(#[source] serde_yaml::Error),
    /// The dashboard.
    #[error("failed to read the dashboard")]
    Dashboard(#[source] serde_json::Error),
    /// An expression of an alert.
    #[error("failed to read the expression of {alert}: {why}")]
    Expression {
        /// The alert.
        alert: String,
        /// What the parser says.
        why: String,
    },
}

/// A rule file of Prometheus: <https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/>.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct RuleFile {
    pub(crate) groups: Vec<Group>,
}

/// The alert rules.
pub(crate) fn rules() -> Result<RuleFile, MonitoringError> {
    serde_yaml::from_str(RULES).map_err(MonitoringError::Rules)
}

/// The alert rules about series that have these labels alone, as Juju's Prometheus labels what it scrapes of an
/// application.
pub(crate) fn rules_about(labels: &[(&str, &str)]) -> Result<Vec<Group>, MonitoringError> {
    let mut groups = rules()?.groups;
    for rule in groups.iter_mut().flat_map(|group| &mut group.rules) {
        let failed = |why| MonitoringError::Expression { alert: rule.alert.clone(), why };
        let mut expression = parser::parse(&rule.expr).map_err(failed)?;
        walk_expr_mut(&mut Labelling(labels), &mut expression).map_err(failed)?;
        rule.expr = expression.to_string();
    }
    Ok(groups)
}

/// The dashboard.
pub(crate) fn dashboard() -> Result<Value, MonitoringError> {
    serde_json::from_str(DASHBOARD).map_err(MonitoringError::Dashboard)
}

/// Adds labels to every selector of an expression.
struct Labelling<'a>(&'a [(&'a str, &'a str)]);

impl ExprVisitorMut for Labelling<'_> {
    type Error = String;

    fn pre_visit(&mut self, expression: &mut Expr) -> Result<bool, String> {
        let selector = match expression {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(selector) => &mut selector.vs,
            _ => return Ok(true),
        };
        let matchers = self.0.iter().map(|(name, value)| Matcher::new(MatchOp::Equal, name, value));
        selector.matchers.matchers.extend(matchers);
        Ok(true)
    }
}
