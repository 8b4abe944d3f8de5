//! How the daemon is watched by others: alert rules for Prometheus and a dashboard for Grafana.
//!
//! Both are made from the definitions of the metrics. A [`query`] takes its names and labels from them, so that a
//! metric that is renamed, or loses a label, leaves no alert and no panel behind. What is watched is in [`alerts`] and
//! [`dashboard`]; how Prometheus and Grafana write it, in [`rules`] and [`grafana`].

pub(crate) mod alerts;
pub(crate) mod dashboard;
mod grafana;
mod query;
mod rules;

#[cfg(test)]
mod tests;
