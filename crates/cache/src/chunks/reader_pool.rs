//! Readers of the source that stay open from one chunk to the next, within a budget of bytes.
//!
//! A reader of a row group holds its compressed columns. The load of the next chunk takes the reader over, even if another
//! stream opened it, so there are as many readers as loads, not as many as streams.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::budget::Budget;
use crate::arrow::RecordBatch;
use crate::plan::Unit;
use crate::source::{Batches, Dataset, Error};

/// How often idle readers are looked for while there is no room.
const RETRY: Duration = Duration::from_millis(50);

/// Open readers.
pub(super) struct ReaderPool {
    budget: Budget,
    /// Those that no load uses, with the numbers of their units; the oldest first.
    idle: Mutex<VecDeque<(u32, Reader)>>,
    max_idle: usize,
}

impl std::fmt::Debug for ReaderPool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ReaderPool").field("budget", &self.budget).finish_non_exhaustive()
    }
}

impl ReaderPool {
    /// For readers that hold so many bytes together, of which so many may be idle.
    pub(super) fn new(bytes: u64, max_idle: usize) -> Self {
        Self { budget: Budget::new(bytes), idle: Mutex::default(), max_idle }
    }

    /// A reader of a unit from this row on: an idle one that is there, or a new one once there is room for it.
    pub(super) async fn open(
        &self,
        dataset: &Dataset,
        number: u32,
        unit: &Unit,
        first: u64,
        batch_rows: usize,
    ) -> Result<Reader, Error> {
        if let Some(reader) = self.take_idle(number, first) {
            return Ok(reader);
        }
        let permit = self.reserve(dataset.reader.held_bytes(unit)).await;
        let batches = dataset.reader.read(unit, first, batch_rows).await?;
        Ok(Reader { batches, rest: VecDeque::new(), next: first, _permit: permit })
    }

    /// Bytes that open readers have now.
    pub(super) fn reserved(&self) -> u64 {
        self.budget.reserved()
    }

    /// Room for so many bytes. A reader that needs more than the whole budget gets all of it, and reads alone.
    async fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Some(permit) = self.budget.try_reserve(bytes) {
                return Some(permit);
            }
            // Idle readers are closed, the oldest first.
            if self.drop_oldest() {
                continue;
            }
            // Readers in use come to their end, or become idle.
            if let Ok(permit) = tokio::time::timeout(RETRY, self.budget.reserve(bytes)).await {
                return permit;
            }
        }
    }

    fn take_idle(&self, number: u32, first: u64) -> Option<Reader> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let place = idle.iter().position(|(unit, reader)| *unit == number && reader.next == first)?;
        idle.remove(place).map(|(_, reader)| reader)
    }

    fn drop_oldest(&self) -> bool {
        let oldest = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        oldest.is_some()
    }

    /// Keeps a reader open for the load of the next chunk.
    pub(super) fn put_back(&self, number: u32, reader: Reader) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A load that waits for room gets it at once.
        if self.budget.is_exhausted() {
            return;
        }
        idle.push_back((number, reader));
        if idle.len() > self.max_idle {
            idle.pop_front();
        }
    }
}

/// An open reader of a unit, and what it has read and nobody has taken.
pub(super) struct Reader {
    batches: Batches,
    rest: VecDeque<RecordBatch>,
    next: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// The row of the unit that it continues with.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The next rows, as many as are wanted. Fewer than the plan has is an error, never a short answer.
    pub(super) async fn take(&mut self, wanted: u64, unit: &Unit) -> Result<Vec<RecordBatch>, Error> {
        let mut taken = Vec::new();
        let mut missing = wanted;
        while missing > 0 {
            let batch = match self.rest.pop_front() {
                Some(batch) => batch,
                None => match self.batches.next().await {
                    Some(batch) => batch?,
                    None => {
                        return Err(Error::Rows {
                            path: crate::store::redacted_path(&unit.path),
                            found: self.next + wanted - missing,
                            planned: unit.rows,
                        });
                    }
                },
            };
            let rows = usize::try_from(missing).unwrap_or(usize::MAX).min(batch.num_rows());
            taken.push(batch.slice(0, rows));
            if rows < batch.num_rows() {
                self.rest.push_front(batch.slice(rows, batch.num_rows() - rows));
            }
            missing -= rows as u64;
        }
        self.next += wanted;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::super::budget::GRANULARITY;
    use super::*;
    use crate::arrow::{Int64Array, Schema};
    use crate::plan::{Origin, Plan};
    use crate::source::UnitReader;

    /// Units of a hundred rows, whose readers hold so many permits.
    struct Units(u64);

    #[async_trait]
    impl UnitReader for Units {
        async fn read(&self, _unit: &Unit, from: u64, _batch_rows: usize) -> Result<Batches, Error> {
            let rows = Int64Array::from_iter_values(i64::try_from(from).unwrap()..100);
            let batch = RecordBatch::try_from_iter([("n", Arc::new(rows) as _)]).unwrap();
            Ok(futures::stream::iter([Ok(batch)]).boxed())
        }

        fn held_bytes(&self, _unit: &Unit) -> u64 {
            self.0 * GRANULARITY
        }
    }

    fn dataset(permits: u64) -> Dataset {
        let unit = |path: &str| Unit { path: path.to_owned(), row_group: None, rows: 100 };
        let plan = Plan::new(&Origin::default(), vec![unit("a"), unit("b"), unit("c")]).unwrap();
        Dataset { schema: Arc::new(Schema::empty()), plan, snapshot: None, reader: Arc::new(Units(permits)) }
    }

    #[tokio::test]
    async fn readers_stay_within_the_budget_and_idle_ones_are_closed_for_others() {
        let dataset = dataset(4);
        let readers = ReaderPool::new(8 * GRANULARITY, 8);
        let open = async |number: u32, first: u64| {
            let unit = &dataset.plan.units()[usize::try_from(number).unwrap()];
            readers.open(&dataset, number, unit, first, 100).await.unwrap()
        };
        let mut one = open(0, 0).await;
        assert_eq!(one.take(10, &dataset.plan.units()[0]).await.unwrap()[0].num_rows(), 10);
        let other = open(1, 0).await;
        // There is room for two; the third waits for one of them to end.
        assert!(tokio::time::timeout(Duration::from_millis(120), open(2, 0)).await.is_err());
        readers.put_back(0, one);
        // The next load of the unit takes it over.
        let one = open(0, 10).await;
        assert_eq!(one.next(), 10);
        readers.put_back(0, one);
        // It is closed for a reader of another unit.
        let third = open(2, 0).await;
        assert!(readers.take_idle(0, 10).is_none());
        drop((other, third));
        assert_eq!(readers.reserved(), 0);
    }

    #[tokio::test]
    async fn a_unit_larger_than_the_budget_is_read_alone() {
        let dataset = dataset(100);
        let readers = ReaderPool::new(8 * GRANULARITY, 8);
        let unit = &dataset.plan.units()[0];
        let alone = readers.open(&dataset, 0, unit, 0, 100).await.unwrap();
        let next = readers.open(&dataset, 0, unit, 0, 100);
        assert!(tokio::time::timeout(Duration::from_millis(120), next).await.is_err());
        drop(alone);
        readers.open(&dataset, 0, unit, 0, 100).await.unwrap();
    }
}
