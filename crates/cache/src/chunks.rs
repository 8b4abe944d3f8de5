//! Encoded rows in memory, within a budget, and read again from the source where they are not.
//!
//! A chunk is a fixed number of consecutive rows of one unit, so that its borders do not depend on who loads it. What
//! is kept is a cache only: whatever is not there is read from the source. Two streams that miss the same rows at the
//! same time both read them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foyer::{Cache, CacheBuilder, LfuConfig};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{OnceCell, Semaphore};

use crate::arrow::RecordBatch;
use crate::frame::{self, Frame};
use crate::plan::Unit;
use crate::source::{Batches, Dataset, Error};

/// Bytes of a chunk, about.
const CHUNK_BYTES: u64 = 4 << 20;

/// Most rows of a chunk.
const CHUNK_ROWS: u64 = 1 << 20;

/// Part of the memory that is for chunks; the rest is for loading and sending.
const SHARE_PERCENT: u64 = 70;

/// A number of consecutive rows of a unit.
#[derive(Debug)]
pub struct Chunk {
    frames: Vec<Frame>,
    rows: u64,
}

impl Chunk {
    /// The rows as frames, each with the place of its first row in the chunk.
    pub fn frames(&self) -> impl Iterator<Item = (u64, &Frame)> {
        self.frames.iter().scan(0, |next, frame| {
            let first = *next;
            *next += frame.rows();
            Some((first, frame))
        })
    }

    fn size(&self) -> usize {
        self.frames.iter().map(Frame::size).sum()
    }
}

/// Which chunk: the number of its unit in the plan, and its own in the unit.
type Key = (u32, u64);

/// What happened with chunks, for metrics and status.
#[derive(Debug, Default)]
pub struct Counts {
    /// Chunks that were in memory.
    pub hits: AtomicU64,
    /// Chunks that were read.
    pub misses: AtomicU64,
    /// Bytes of chunks that were read, as encoded.
    pub loaded_bytes: AtomicU64,
}

/// The chunks of one dataset.
#[derive(Debug)]
pub struct Chunks {
    dataset: Dataset,
    cache: Cache<Key, Arc<Chunk>>,
    capacity: usize,
    /// Rows of a chunk, known from the first rows that were read.
    rows: OnceCell<u64>,
    loads: Semaphore,
    most_bytes: usize,
    counts: Counts,
}

impl Chunks {
    /// Of a dataset, within a part of so many bytes of memory, with so many loads at the same time and messages of at
    /// most so many bytes.
    pub fn new(dataset: Dataset, memory: u64, loads: usize, most_bytes: usize) -> Self {
        let capacity = usize::try_from(memory / 100 * SHARE_PERCENT).unwrap_or(usize::MAX);
        // Epochs are scans that come again: what was used least often goes, or nothing would ever be met again where
        // the data is larger than the memory.
        let cache = CacheBuilder::new(capacity)
            .with_eviction_config(LfuConfig::default())
            .with_weighter(|_: &Key, chunk: &Arc<Chunk>| chunk.size())
            .build();
        Self {
            dataset,
            cache,
            capacity,
            rows: OnceCell::new(),
            loads: Semaphore::new(loads),
            most_bytes,
            counts: Counts::default(),
        }
    }

    /// The dataset.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes of the chunks in memory.
    pub fn used(&self) -> usize {
        self.cache.usage()
    }

    /// Whether another chunk would drive one out.
    pub fn is_full(&self) -> bool {
        self.used() + usize::try_from(CHUNK_BYTES).unwrap_or(0) > self.capacity
    }

    /// Reads consecutive rows of a unit, chunk by chunk.
    pub fn scan(self: &Arc<Self>, unit: u32) -> Scan {
        Scan { chunks: Arc::clone(self), unit, open: None }
    }

    fn unit(&self, number: u32) -> Result<&Unit, Error> {
        let unit = usize::try_from(number).ok().and_then(|number| self.dataset.plan.units().get(number));
        unit.ok_or_else(|| Error::Changed(format!("the plan has no unit {number}")))
    }

    /// Rows of a chunk: as many as make about four megabytes, by the first rows of the dataset.
    pub async fn chunk_rows(&self) -> Result<u64, Error> {
        let measure = || async {
            let Some(unit) = self.dataset.plan.units().iter().find(|unit| unit.rows > 0) else {
                return Ok(1);
            };
            let mut batches = self.dataset.reader.read(unit, 0).await?;
            let Some(batch) = batches.try_next().await? else { return Ok(1) };
            let frame = frame::encode_one(&batch).map_err(|source| arrow(unit, source))?;
            let row = (frame.size() as u64 / frame.rows().max(1)).max(1);
            Ok((CHUNK_BYTES / row).clamp(1, CHUNK_ROWS))
        };
        self.rows.get_or_try_init(measure).await.copied()
    }
}

fn arrow(unit: &Unit, source: crate::arrow::ArrowError) -> Error {
    Error::Arrow { path: crate::store::shown_text(&unit.path), source }
}

/// Reads one unit's rows forward; where chunks are missing one reader of the source stays open from one to the next.
#[derive(Debug)]
pub struct Scan {
    chunks: Arc<Chunks>,
    unit: u32,
    open: Option<Reading>,
}

impl Scan {
    /// The chunk that holds this row of the unit, and the row that it begins with.
    pub async fn chunk(&mut self, row: u64) -> Result<(u64, Arc<Chunk>), Error> {
        let rows = self.chunks.chunk_rows().await?;
        let number = row / rows;
        let first = number * rows;
        if let Some(entry) = self.chunks.cache.get(&(self.unit, number)) {
            self.chunks.counts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok((first, Arc::clone(entry.value())));
        }
        self.chunks.counts.misses.fetch_add(1, Ordering::Relaxed);
        // Nobody closes the semaphore; if it were closed, loading would go on without it.
        let _turn = self.chunks.loads.acquire().await;
        let unit = self.chunks.unit(self.unit)?;
        let wanted = rows.min(unit.rows.saturating_sub(first));
        let mut open = match self.open.take().filter(|open| open.next == first) {
            Some(open) => open,
            None => Reading::new(self.chunks.dataset.reader.read(unit, first).await?, first),
        };
        let batches = open.take(wanted, unit).await?;
        let mut frames = Vec::new();
        for batch in &batches {
            frames
                .extend(frame::encode(batch, self.chunks.most_bytes).map_err(|source| arrow(unit, source))?);
        }
        let chunk = Arc::new(Chunk { frames, rows: wanted });
        self.chunks.counts.loaded_bytes.fetch_add(chunk.size() as u64, Ordering::Relaxed);
        self.chunks.cache.insert((self.unit, number), Arc::clone(&chunk));
        self.open = (open.next < unit.rows).then_some(open);
        Ok((first, chunk))
    }

    /// Loads the unit's chunks in order until the budget is used up; whether all of it is in memory then.
    pub async fn warm(mut self) -> Result<bool, Error> {
        let rows = self.chunks.unit(self.unit)?.rows;
        let mut row = 0;
        while row < rows {
            if self.chunks.is_full() {
                return Ok(false);
            }
            let (first, chunk) = self.chunk(row).await?;
            row = first + chunk.rows;
        }
        Ok(true)
    }
}

/// An open reader of a unit, and what was read of it and not yet taken.
struct Reading {
    batches: Batches,
    rest: VecDeque<RecordBatch>,
    next: u64,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reading").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Reading {
    fn new(batches: Batches, next: u64) -> Self {
        Self { batches, rest: VecDeque::new(), next }
    }

    /// The next rows, as many as are wanted. Fewer than the plan has is an error, never a short answer.
    async fn take(&mut self, wanted: u64, unit: &Unit) -> Result<Vec<RecordBatch>, Error> {
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
