//! What Prometheus reads, in the OpenMetrics text format.
//!
//! A metric is defined once, as a constant [`Definition`]: its type says what kind it is and how many labels it has, so
//! that a wrong use does not compile. Registering it gives a [`Family`] to count with, and adds its [`Description`]
//! to those that rules and dashboards are made from and checked against.
//!
//! ```
//! use trainerd_serve::Metrics;
//! use trainerd_serve::metrics::{Counter, Definition};
//!
//! const PASSES: Definition<Counter, 1> =
//!     Definition::counter("trainerd_passes", "Reconciliation passes by result", ["result"]);
//!
//! let metrics = Metrics::new();
//! let passes = metrics.register(&PASSES)?;
//! passes.with(["settled"]).inc();
//! assert!(metrics.encode()?.contains("trainerd_passes_total{result=\"settled\"} 1\n"));
//! # Ok::<_, trainerd_serve::metrics::MetricsError>(())
//! ```

mod computed;
mod definition;
mod family;
mod kind;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text;
use prometheus_client::registry;

use crate::problem::Problem;
use computed::Computed;
pub use definition::{Definition, Description, Unit};
pub use family::Family;
pub use kind::{Counter, Gauge, Histogram, Info, Kind, Metric, Scalar};

/// Content type of the exposition.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why metrics are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Another metric has the name, or a series of it.
    #[error("failed to register the metric {name}: {series} is another's")]
    Taken {
        /// Name of the metric.
        name: &'static str,
        /// What both would be called.
        series: String,
    },
    /// A value cannot be written.
    #[error("failed to write the metrics")]
    Encode {
        /// What went wrong.
        #[source]
        source: std::fmt::Error,
    },
}

/// The metrics of a process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Registered>>);

#[derive(Debug, Default)]
struct Registered {
    registry: registry::Registry,
    descriptions: Vec<Description>,
}

impl Metrics {
    /// No metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a metric and gives what counts it. One without labels is exposed from now on, others from when a
    /// label set is first used.
    pub fn register<M: Metric, const N: usize>(
        &self,
        definition: &Definition<M, N>,
    ) -> Result<Family<M, N>, MetricsError> {
        let family = Family::new(definition);
        self.add(definition.describe(), family.clone())?;
        Ok(family)
    }

    /// Registers a metric whose label sets and values are asked for at every scrape. `values` looks at something known
    /// already and does not wait; a label set that occurs twice has the last value. Counters among them must not fall, and
    /// `values` must not use these metrics, which are locked meanwhile.
    pub fn compute<M: Scalar, const N: usize>(
        &self,
        definition: &Definition<M, N>,
        values: impl Fn() -> Vec<([String; N], f64)> + Send + Sync + 'static,
    ) -> Result<(), MetricsError> {
        self.add(definition.describe(), Computed::new(definition, values))
    }

    fn add(
        &self,
        description: Description,
        metric: impl EncodeMetric + std::fmt::Debug + Send + Sync + 'static,
    ) -> Result<(), MetricsError> {
        let mut registered = self.registered();
        let taken: Vec<_> = registered.descriptions.iter().flat_map(Description::names).collect();
        if let Some(series) = description.names().into_iter().find(|name| taken.contains(name)) {
            return Err(MetricsError::Taken { name: description.name, series });
        }
        let (name, unit) = description.name_and_unit();
        match unit {
            Some(unit) => registered.registry.register_with_unit(name, description.help, unit, metric),
            None => registered.registry.register(name, description.help, metric),
        }
        registered.descriptions.push(description);
        Ok(())
    }

    /// Every metric that was registered, by name.
    pub fn descriptions(&self) -> Vec<Description> {
        let mut descriptions = self.registered().descriptions.clone();
        descriptions.sort_by_key(|description| description.name);
        descriptions
    }

    /// The exposition: metrics in the order they were registered, label sets in the order of their values.
    pub fn encode(&self) -> Result<String, MetricsError> {
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.registered().registry)
            .map_err(|source| MetricsError::Encode { source })?;
        Ok(exposition)
    }

    /// `GET /metrics`.
    pub fn router(&self) -> Router {
        let metrics = self.clone();
        Router::new().route("/metrics", get(move || async move { metrics.exposition() }))
    }

    fn exposition(&self) -> Response {
        match self.encode() {
            Ok(exposition) => ([(CONTENT_TYPE, OPENMETRICS)], exposition).into_response(),
            Err(error) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "MetricsUnreadable", error.to_string())
                    .into_response()
            }
        }
    }

    fn registered(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
