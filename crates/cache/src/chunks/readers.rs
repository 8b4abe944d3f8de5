//! Readers of the source that stay open from one chunk to the next, within a budget of bytes.
//!
//! A reader of a row group holds its compressed columns. Whoever loads the chunk that comes next takes the reader over,
//! also if another stream opened it: so there are as many as there are loads, not as many as there are streams.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::arrow::RecordBatch;
use crate::plan::Unit;
use crate::source::{Batches, Dataset, Error};

/// How soon readers that only wait are looked for again.
const AGAIN: Duration = Duration::from_millis(50);

/// Bytes of a permit.
const GRAIN: u64 = 64 << 10;

/// Open readers.
pub(super) struct Readers {
    budget: Arc<Semaphore>,
    permits: u32,
    parked: Mutex<VecDeque<(u32, Reading)>>,
    most: usize,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Readers").field("permits", &self.permits).finish_non_exhaustive()
    }
}

impl Readers {
    /// Which hold so many bytes together; so many of them wait for whoever goes on.
    pub(super) fn new(bytes: u64, most: usize) -> Self {
        let permits = u32::try_from((bytes / GRAIN).max(1)).unwrap_or(u32::MAX >> 4).min(u32::MAX >> 4);
        let budget = Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(1)));
        Self { budget, permits, parked: Mutex::default(), most }
    }

    /// A reader of a unit from this row on: one that waits there, or a new one when there is room for it.
    pub(super) async fn open(
        &self,
        dataset: &Dataset,
        number: u32,
        unit: &Unit,
        first: u64,
    ) -> Result<Reading, Error> {
        if let Some(reading) = self.unpark(number, first) {
            return Ok(reading);
        }
        let permit = self.reserve(dataset.reader.held_bytes(unit)).await;
        let batches = dataset.reader.read(unit, first).await?;
        Ok(Reading { batches, rest: VecDeque::new(), next: first, _permit: permit })
    }

    /// Bytes that open readers have now.
    pub(super) fn reserved(&self) -> u64 {
        let free = u64::try_from(self.budget.available_permits()).unwrap_or_default();
        u64::from(self.permits).saturating_sub(free) * GRAIN
    }

    /// Room for so many bytes. What needs more than there is at all gets all of it: it is read alone.
    async fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX).clamp(1, self.permits);
        loop {
            match Arc::clone(&self.budget).try_acquire_many_owned(wanted) {
                Ok(permit) => return Some(permit),
                // Those that only wait give way, the oldest first.
                Err(_) if self.drop_oldest() => {}
                // Those that are read from end by themselves, and may then wait for somebody to go on. Nobody closes the
                // semaphore.
                Err(_) => {
                    let room = Arc::clone(&self.budget).acquire_many_owned(wanted);
                    if let Ok(permit) = tokio::time::timeout(AGAIN, room).await {
                        return permit.ok();
                    }
                }
            }
        }
    }

    fn unpark(&self, number: u32, first: u64) -> Option<Reading> {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let place = parked.iter().position(|(unit, reading)| *unit == number && reading.next == first)?;
        parked.remove(place).map(|(_, reading)| reading)
    }

    fn drop_oldest(&self) -> bool {
        let oldest = self.parked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        oldest.is_some()
    }

    /// Leaves a reader to whoever goes on.
    pub(super) fn park(&self, number: u32, reading: Reading) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody who waits for room gets it at once.
        if self.budget.available_permits() == 0 {
            return;
        }
        parked.push_back((number, reading));
        if parked.len() > self.most {
            parked.pop_front();
        }
    }
}

/// An open reader of a unit, and what was read of it and not yet taken.
pub(super) struct Reading {
    batches: Batches,
    rest: VecDeque<RecordBatch>,
    next: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Reading {
    /// The row of the unit that it goes on with.
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
                            path: crate::store::shown_text(&unit.path),
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
    use async_trait::async_trait;

    use super::*;
    use crate::arrow::{Int64Array, Schema};
    use crate::plan::{Origin, Plan};
    use crate::source::UnitReader;

    /// Units of a hundred rows, whose readers hold so many grains.
    struct Units(u64);

    #[async_trait]
    impl UnitReader for Units {
        async fn read(&self, _unit: &Unit, from: u64) -> Result<Batches, Error> {
            let rows = Int64Array::from_iter_values(i64::try_from(from).unwrap()..100);
            let batch = RecordBatch::try_from_iter([("n", Arc::new(rows) as _)]).unwrap();
            Ok(futures::stream::iter([Ok(batch)]).boxed())
        }

        fn held_bytes(&self, _unit: &Unit) -> u64 {
            self.0 * GRAIN
        }
    }

    fn dataset(grains: u64) -> Dataset {
        let unit = |path: &str| Unit { path: path.to_owned(), row_group: None, rows: 100 };
        let plan = Plan::new(&Origin::default(), vec![unit("a"), unit("b"), unit("c")]).unwrap();
        Dataset { schema: Arc::new(Schema::empty()), plan, snapshot: None, reader: Arc::new(Units(grains)) }
    }

    #[tokio::test]
    async fn readers_stay_within_the_budget_and_those_that_wait_give_way() {
        let dataset = dataset(4);
        let readers = Readers::new(8 * GRAIN, 8);
        let open = async |number: u32, first: u64| {
            let unit = &dataset.plan.units()[usize::try_from(number).unwrap()];
            readers.open(&dataset, number, unit, first).await.unwrap()
        };
        let mut one = open(0, 0).await;
        assert_eq!(one.take(10, &dataset.plan.units()[0]).await.unwrap()[0].num_rows(), 10);
        let other = open(1, 0).await;
        // There is room for two; the third waits for one of them to end.
        assert!(tokio::time::timeout(Duration::from_millis(120), open(2, 0)).await.is_err());
        readers.park(0, one);
        // Whoever goes on with the unit takes it over.
        let one = open(0, 10).await;
        assert_eq!(one.next(), 10);
        readers.park(0, one);
        // For somebody else it gives way.
        let third = open(2, 0).await;
        assert!(readers.unpark(0, 10).is_none());
        drop((other, third));
        assert_eq!(readers.budget.available_permits(), 8);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_budget_is_read_alone() {
        let dataset = dataset(100);
        let readers = Readers::new(8 * GRAIN, 8);
        let unit = &dataset.plan.units()[0];
        let alone = readers.open(&dataset, 0, unit, 0).await.unwrap();
        let next = readers.open(&dataset, 0, unit, 0);
        assert!(tokio::time::timeout(Duration::from_millis(120), next).await.is_err());
        drop(alone);
        readers.open(&dataset, 0, unit, 0).await.unwrap();
    }
}
