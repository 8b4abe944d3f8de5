//! A metric whose values are asked for at every scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

use super::definition::Definition;
use super::family::Labels;
use super::kind::{Scalar, sealed::Number};

pub(super) struct Computed<M, F, const N: usize> {
    labels: [&'static str; N],
    values: F,
    kind: PhantomData<fn() -> M>,
}

impl<M, F, const N: usize> Computed<M, F, N> {
    pub(super) fn new(definition: &Definition<M, N>, values: F) -> Self {
        Self { labels: definition.labels(), values, kind: PhantomData }
    }
}

impl<M: Scalar, F: Fn() -> Vec<([String; N], f64)>, const N: usize> EncodeMetric for Computed<M, F, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let sets: BTreeMap<_, _> = (self.values)().into_iter().collect();
        for (values, value) in sets {
            let labels = Labels { names: &self.labels, values: &values };
            <M as Number>::encode_number(value, encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::KIND.metric_type()
    }
}

impl<M, F, const N: usize> fmt::Debug for Computed<M, F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Computed").field("labels", &self.labels).finish_non_exhaustive()
    }
}
