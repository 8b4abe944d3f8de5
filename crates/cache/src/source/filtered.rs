//! Rows of a source that a filter selects.

use std::collections::HashMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{Batches, Error, Progress, projection};
use crate::arrow::{Schema, SchemaRef};
use crate::filter::{Filter, Selector};
use crate::plan::Unit;

/// Rows of a batch that is decoded to be counted.
pub(super) const COUNTED_ROWS: usize = 8192;

/// A filter over a source, and the columns that are read for it.
#[derive(Clone, Debug)]
pub(super) struct Filtered {
    pub(super) selector: Selector,
    /// Those of the dataset and those of the filter.
    pub(super) wide: SchemaRef,
    /// Those of the filter.
    pub(super) own: SchemaRef,
}

impl Filtered {
    /// Over a source of this schema, for a dataset of these columns.
    pub(super) fn new(filter: &Filter, source: &Schema, dataset: &Schema) -> Result<Self, Error> {
        let own: Vec<String> = filter.columns().into_iter().map(str::to_owned).collect();
        let mut wide: Vec<String> = dataset.fields().iter().map(|field| field.name().clone()).collect();
        wide.extend(own.iter().filter(|name| dataset.field_with_name(name).is_err()).cloned());
        let own = projection::dataset(source, &own)?;
        Ok(Self { selector: Selector::new(filter, &own)?, wide: projection::dataset(source, &wide)?, own })
    }

    /// The selected rows of batches that have the filter's columns, from this one on, with the columns of `schema`.
    pub(super) fn select(&self, batches: Batches, schema: &SchemaRef, from: u64, path: &str) -> Batches {
        let (filtered, schema) = (self.clone(), SchemaRef::clone(schema));
        let path = crate::store::redacted_path(path);
        let mut skip = usize::try_from(from).unwrap_or(usize::MAX);
        batches
            .map(move |batch| {
                let selected = filtered.selector.select(&batch?);
                let batch = selected
                    .and_then(|batch| projection::conform(&batch, &schema))
                    .map_err(|source| Error::Arrow { path: path.clone(), source })?;
                let skipped = skip.min(batch.num_rows());
                skip -= skipped;
                Ok(batch.slice(skipped, batch.num_rows() - skipped))
            })
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
            .boxed()
    }
}

/// Number of rows of batches.
pub(super) async fn count(batches: Batches) -> Result<u64, Error> {
    batches.try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows() as u64) }).await
}

/// Fills in the live rows of units that nobody knows without reading: a head counts them, and tells its workers. The units
/// have the rows that are to be read.
pub(super) async fn counted<F>(
    units: Vec<(Unit, Option<u64>)>,
    (known, progress): (&[Unit], &Progress),
    concurrency: usize,
    count: impl Fn(Unit) -> F,
) -> Result<Vec<Unit>, Error>
where
    F: Future<Output = Result<u64, Error>>,
{
    let known: HashMap<(&str, Option<u32>), u64> =
        known.iter().map(|unit| ((unit.path.as_str(), unit.row_group), unit.rows)).collect();
    let told = |unit: &Unit| known.get(&(unit.path.as_str(), unit.row_group)).copied();
    let units = units.into_iter().map(|(unit, rows)| {
        let rows = rows.or_else(|| told(&unit));
        (unit, rows)
    });
    let units: Vec<(Unit, Option<u64>)> = units.collect();
    progress.begin_counting(units.iter().filter(|(_, rows)| rows.is_none()).map(|(unit, _)| unit.rows).sum());
    let counted = units.into_iter().map(|(unit, rows)| {
        let read = rows.is_none().then(|| count(unit.clone()));
        async move {
            let rows = match (rows, read) {
                (Some(rows), _) => rows,
                (None, Some(read)) => {
                    let rows = read.await?;
                    progress.advance(unit.rows);
                    rows
                }
                (None, None) => 0,
            };
            Ok(Unit { rows, ..unit })
        }
    });
    stream::iter(counted).buffer_unordered(concurrency).try_collect().await
}
