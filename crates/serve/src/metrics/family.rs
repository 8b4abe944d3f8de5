//! A metric with its label sets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{
    EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder,
};
use prometheus_client::metrics::MetricType;

use super::definition::Definition;
use super::kind::{Metric, sealed::Make};

/// A metric by the values of its `N` labels. Clones share it.
///
/// The label sets are exposed in order, which prometheus-client's own family does not do.
#[derive(Clone, Debug)]
pub struct Family<M, const N: usize> {
    labels: [&'static str; N],
    buckets: &'static [f64],
    sets: Sets<M, N>,
}

type Sets<M, const N: usize> = Arc<Mutex<BTreeMap<[String; N], M>>>;

impl<M: Metric, const N: usize> Family<M, N> {
    pub(super) fn new(definition: &Definition<M, N>) -> Self {
        let (labels, buckets) = (definition.labels(), definition.buckets());
        let family = Self { labels, buckets, sets: Arc::default() };
        if N == 0 {
            family.with(std::array::from_fn(|_| ""));
        }
        family
    }

    /// The metric with these label values, in the order the labels were defined in. It may be kept: what is done to it
    /// shows here until the label set is removed. Every set that was ever asked for stays, so values come from a
    /// small, known choice.
    pub fn with(&self, values: [&str; N]) -> M {
        let values = values.map(str::to_owned);
        self.sets().entry(values).or_insert_with(|| M::make(self.buckets)).clone()
    }

    /// Removes a label set, of something that is no more.
    pub fn remove(&self, values: [&str; N]) {
        self.sets().remove(&values.map(str::to_owned));
    }

    /// Removes every label set.
    pub fn clear(&self) {
        self.sets().clear();
    }

    fn sets(&self) -> MutexGuard<'_, BTreeMap<[String; N], M>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Metric, const N: usize> EncodeMetric for Family<M, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (values, metric) in &*self.sets() {
            let labels = Labels { names: &self.labels, values };
            Make::encode(metric, encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::KIND.metric_type()
    }

    fn is_empty(&self) -> bool {
        self.sets().is_empty()
    }
}

/// Label names with their values.
pub(super) struct Labels<'a> {
    pub(super) names: &'a [&'static str],
    pub(super) values: &'a [String],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in self.names.iter().zip(self.values) {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
