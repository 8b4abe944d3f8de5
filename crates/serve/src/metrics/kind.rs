//! The kinds of metrics there are.

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, gauge, histogram};
use serde::Serialize;

/// A number that only grows, shared by its clones.
pub use prometheus_client::metrics::counter::Counter;
/// A number that goes up and down, shared by its clones.
pub type Gauge = gauge::Gauge<f64, AtomicU64>;
/// Values, counted by bucket, shared by its clones.
pub use histogram::Histogram;

/// Nothing to count: the labels tell it all.
#[derive(Clone, Copy, Debug)]
pub struct Info;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// See [`Counter`].
    Counter,
    /// See [`Gauge`].
    Gauge,
    /// See [`Histogram`].
    Histogram,
    /// See [`Info`].
    Info,
}

impl Kind {
    pub(super) fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }
}

/// [`Counter`], [`Gauge`], [`Histogram`] or [`Info`].
pub trait Metric: sealed::Make + Clone + fmt::Debug + Send + Sync + 'static {
    /// Which of them.
    const KIND: Kind;
}

/// [`Counter`] or [`Gauge`]: what a single number says.
pub trait Scalar: Metric + sealed::Number {}

impl Metric for Counter {
    const KIND: Kind = Kind::Counter;
}

impl Metric for Gauge {
    const KIND: Kind = Kind::Gauge;
}

impl Metric for Histogram {
    const KIND: Kind = Kind::Histogram;
}

impl Metric for Info {
    const KIND: Kind = Kind::Info;
}

impl Scalar for Counter {}

impl Scalar for Gauge {}

/// What nobody outside implements or calls.
pub(super) mod sealed {
    use super::{Counter, EncodeMetric, Gauge, Histogram, Info, MetricEncoder, NoLabelSet, fmt};

    pub trait Make {
        fn make(buckets: &'static [f64]) -> Self;
        fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result;
    }

    pub trait Number {
        fn encode_number(value: f64, encoder: MetricEncoder<'_>) -> fmt::Result;
    }

    impl Make for Counter {
        fn make(_: &'static [f64]) -> Self {
            Self::default()
        }

        fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
            EncodeMetric::encode(self, encoder)
        }
    }

    impl Make for Gauge {
        fn make(_: &'static [f64]) -> Self {
            Self::default()
        }

        fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
            EncodeMetric::encode(self, encoder)
        }
    }

    impl Make for Histogram {
        fn make(buckets: &'static [f64]) -> Self {
            Self::new(buckets.iter().copied())
        }

        fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
            EncodeMetric::encode(self, encoder)
        }
    }

    impl Make for Info {
        fn make(_: &'static [f64]) -> Self {
            Self
        }

        fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
            encoder.encode_info(&[("", ""); 0])
        }
    }

    impl Number for Counter {
        fn encode_number(value: f64, mut encoder: MetricEncoder<'_>) -> fmt::Result {
            encoder.encode_counter::<NoLabelSet, _, f64>(&value, None)
        }
    }

    impl Number for Gauge {
        fn encode_number(value: f64, mut encoder: MetricEncoder<'_>) -> fmt::Result {
            encoder.encode_gauge(&value)
        }
    }
}
