//! Encoded rows in memory, within a budget, on the disk where there is one, and read again from the source where they are
//! not.
//!
//! A chunk is a fixed number of consecutive rows of one unit, so that its borders do not depend on who loads it. What
//! is kept is a cache only: whatever is not there is read from the source. Streams that miss the same rows at the same
//! time read them once.

mod disk;
mod file;
mod flights;
mod readers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use foyer::{Cache, CacheBuilder, LfuConfig};
use futures::TryStreamExt as _;
use tokio::sync::{OnceCell, Semaphore};

pub use self::disk::Folder;
use self::disk::{Disk, Form};
use self::flights::Flights;
use self::readers::Readers;
use crate::frame::{self, Frame};
use crate::meters::Meters;
use crate::plan::Unit;
use crate::source::{Dataset, Error};

/// Bytes of a chunk, about; less where there is little memory.
const CHUNK_BYTES: u64 = 4 << 20;

/// Least bytes of a chunk, about: smaller ones would be messages that are hardly worth one.
const LEAST_CHUNK_BYTES: u64 = 1 << 20;

/// So many chunks fit into the memory at least.
const LEAST_CHUNKS: u64 = 128;

/// Chunks that a load takes while it runs: its rows as they are decoded, as they are encoded, and as they are kept.
const LOAD_CHUNKS: u64 = 3;

/// Chunks that a stream may hold when nobody reads it: the one that it is at, and the messages that wait.
const STREAM_CHUNKS: u64 = 2;

/// Most rows of a chunk.
const CHUNK_ROWS: u64 = 1 << 20;

/// Part of the memory that is for chunks; the rest is for loading and sending.
const SHARE_PERCENT: u64 = 70;

/// Part of the memory that is for what is being read: compressed bytes of row groups, rows that are not taken yet, and the
/// chunks that are made of them.
const LOADING_PERCENT: u64 = 15;

/// Part of the memory that is for streams; what they need beyond it is taken from that of the chunks.
const STREAMS_PERCENT: u64 = 5;

/// Part of the memory that is for chunks on their way to the disk, of that for chunks.
const DISK_PERCENT: u64 = 5;

/// Part of the memory that chunks have however many streams there are.
const LEAST_SHARE_PERCENT: u64 = 20;

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
    /// Chunks that were on the disk.
    pub disk_hits: AtomicU64,
    /// Chunks that another stream was reading already.
    pub shared: AtomicU64,
}

/// The chunks of one dataset.
#[derive(Debug)]
pub struct Chunks {
    dataset: Dataset,
    cache: Cache<Key, Arc<Chunk>>,
    disk: Option<Arc<Disk>>,
    /// Bytes that are not for the disk's buffers.
    memory: u64,
    chunk_bytes: u64,
    streams: Mutex<u64>,
    /// Rows of a chunk, known from the first rows that were read.
    rows: OnceCell<u64>,
    loads: Semaphore,
    most_loads: usize,
    flights: Flights<Key, Chunk>,
    readers: Readers,
    most_bytes: usize,
    counts: Counts,
    meters: Option<Arc<Meters>>,
}

impl Chunks {
    /// Of a dataset, within so many bytes of memory and in a folder of a disk, with so many loads at the same time and
    /// messages of at most so many bytes.
    pub fn new(
        dataset: Dataset,
        memory: u64,
        disk: Option<Arc<Folder>>,
        loads: usize,
        most_bytes: usize,
    ) -> Self {
        let chunk_bytes = (memory / LEAST_CHUNKS).clamp(LEAST_CHUNK_BYTES, CHUNK_BYTES);
        let loading = memory / 100 * LOADING_PERCENT;
        // Half of it is for the loads themselves: with little memory there are fewer at the same time.
        let most_loads = (loading / 2 / (chunk_bytes * LOAD_CHUNKS)).max(1);
        let loads = loads.min(usize::try_from(most_loads).unwrap_or(usize::MAX));
        let readers = loading.saturating_sub(loads as u64 * chunk_bytes * LOAD_CHUNKS);
        let plan = dataset.plan.id();
        let buffers = if disk.is_some() { memory / 100 * DISK_PERCENT } else { 0 };
        let disk = disk.and_then(|folder| {
            let form = Form { plan, chunk_bytes, message_bytes: most_bytes };
            let opened = Disk::open(folder, form, buffers);
            opened
                .inspect_err(|error| tracing::warn!(%error, "rows are not kept on the disk"))
                .ok()
                .map(Arc::new)
        });
        let memory = memory - buffers;
        // Epochs are scans that come again: what was used least often goes, or nothing would ever be met again where
        // the data is larger than the memory.
        let cache = CacheBuilder::new(capacity(memory, chunk_bytes, 0))
            .with_eviction_config(LfuConfig::default())
            .with_weighter(|_: &Key, chunk: &Arc<Chunk>| chunk.size())
            .build();
        Self {
            dataset,
            cache,
            disk,
            memory,
            chunk_bytes,
            streams: Mutex::new(0),
            rows: OnceCell::new(),
            loads: Semaphore::new(loads),
            most_loads: loads,
            flights: Flights::default(),
            readers: Readers::new(readers, loads),
            most_bytes,
            counts: Counts::default(),
            meters: None,
        }
    }

    /// Counts there.
    #[must_use]
    pub fn metered(mut self, meters: Option<Arc<Meters>>) -> Self {
        self.meters = meters;
        self
    }

    /// Where this process counts.
    pub fn meters(&self) -> Option<&Arc<Meters>> {
        self.meters.as_ref()
    }

    /// Bytes that memory is set aside for now, by what for.
    pub fn reserved(&self) -> Vec<(&'static str, u64)> {
        let free = self.loads.available_permits();
        let loads = self.most_loads.saturating_sub(free) as u64 * self.chunk_bytes * LOAD_CHUNKS;
        let streams = *self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        vec![
            ("chunks", self.cache.capacity() as u64),
            ("loads", loads),
            ("readers", self.readers.reserved()),
            ("streams", streams.saturating_mul(self.chunk_bytes * STREAM_CHUNKS)),
            ("disk", self.disk.as_ref().map_or(0, |disk| disk.reserved())),
        ]
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

    /// Bytes of the chunks on the disk; nothing where there is no disk.
    pub fn disk_used(&self) -> Option<u64> {
        self.disk.as_ref().map(|disk| disk.used())
    }

    /// Forgets what is kept.
    pub async fn clear(&self) {
        // The cache's own `clear` goes on counting what it has forgotten.
        self.cache.evict_all();
        if let Some(disk) = &self.disk {
            disk.clear().await;
        }
    }

    /// Why nothing more is kept on the disk.
    pub fn disk_reason(&self) -> Option<String> {
        self.disk.as_ref().and_then(|disk| disk.reason())
    }

    /// Whether another chunk would drive one out, and the disk takes none either.
    pub fn is_full(&self) -> bool {
        self.disk.as_ref().is_none_or(|disk| disk.is_full())
            && self.used() + usize::try_from(self.chunk_bytes).unwrap_or(0) > self.cache.capacity()
    }

    /// Counts a stream for as long as it holds rows. What many streams hold is memory that chunks cannot have.
    pub fn hold(self: &Arc<Self>) -> Holding {
        self.count(|streams| streams + 1);
        Holding(Arc::clone(self))
    }

    fn count(&self, change: impl FnOnce(u64) -> u64) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        *streams = change(*streams);
        let capacity = capacity(self.memory, self.chunk_bytes, *streams);
        if capacity != self.cache.capacity()
            && let Err(error) = self.cache.resize(capacity)
        {
            tracing::warn!(%error, "failed to resize the cache of rows");
        }
    }

    /// Reads consecutive rows of a unit, chunk by chunk.
    pub fn scan(self: &Arc<Self>, unit: u32) -> Scan {
        Scan { chunks: Arc::clone(self), unit }
    }

    fn unit(&self, number: u32) -> Result<&Unit, Error> {
        let unit = usize::try_from(number).ok().and_then(|number| self.dataset.plan.units().get(number));
        unit.ok_or_else(|| Error::Changed(format!("the plan has no unit {number}")))
    }

    /// Rows of a chunk: as many as make about the bytes of one, by the first rows of the dataset.
    pub async fn chunk_rows(&self) -> Result<u64, Error> {
        let measure = || async {
            let Some(unit) = self.dataset.plan.units().iter().find(|unit| unit.rows > 0) else {
                return Ok(1);
            };
            let mut batches = self.dataset.reader.read(unit, 0).await?;
            let Some(batch) = batches.try_next().await? else { return Ok(1) };
            let frame = frame::encode_one(&batch).map_err(|source| arrow(unit, source))?;
            let row = (frame.size() as u64 / frame.rows().max(1)).max(1);
            Ok((self.chunk_bytes / row).clamp(1, CHUNK_ROWS))
        };
        self.rows.get_or_try_init(measure).await.copied()
    }
}

/// Bytes that chunks may have while there are so many streams.
fn capacity(memory: u64, chunk_bytes: u64, streams: u64) -> usize {
    let held = streams.saturating_mul(chunk_bytes * STREAM_CHUNKS);
    let beyond = held.saturating_sub(memory / 100 * STREAMS_PERCENT);
    let rest = (memory / 100 * SHARE_PERCENT).saturating_sub(beyond);
    usize::try_from(rest.max(memory / 100 * LEAST_SHARE_PERCENT)).unwrap_or(usize::MAX)
}

/// A stream that is open.
#[derive(Debug)]
pub struct Holding(Arc<Chunks>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.count(|streams| streams.saturating_sub(1));
    }
}

fn arrow(unit: &Unit, source: crate::arrow::ArrowError) -> Error {
    Error::Arrow { path: crate::store::shown_text(&unit.path), source }
}

/// Reads one unit's rows forward; where chunks are missing, a reader of the source stays open from one to the next.
#[derive(Debug)]
pub struct Scan {
    chunks: Arc<Chunks>,
    unit: u32,
}

impl Scan {
    /// The chunk that holds this row of the unit, and the row that it begins with.
    pub async fn chunk(&mut self, row: u64) -> Result<(u64, Arc<Chunk>), Error> {
        let rows = self.chunks.chunk_rows().await?;
        let number = row / rows;
        let first = number * rows;
        let key = (self.unit, number);
        let counts = &self.chunks.counts;
        if let Some(entry) = self.chunks.cache.get(&key) {
            counts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok((first, Arc::clone(entry.value())));
        }
        let flight = self.chunks.flights.join(key);
        let mut turn = flight.turn().await;
        if let Some(chunk) = turn.landed() {
            counts.shared.fetch_add(1, Ordering::Relaxed);
            return Ok((first, chunk));
        }
        let kept = match &self.chunks.disk {
            Some(disk) => disk.read(key).await,
            None => None,
        };
        let chunk = if let Some(chunk) = kept {
            counts.disk_hits.fetch_add(1, Ordering::Relaxed);
            Arc::new(chunk)
        } else {
            counts.misses.fetch_add(1, Ordering::Relaxed);
            let chunk = Arc::new(self.load(first, rows).await?);
            if let Some(disk) = &self.chunks.disk {
                disk.write(key, &chunk);
            }
            chunk
        };
        // It is kept before the others go on: they find it there, or here.
        self.chunks.cache.insert(key, Arc::clone(&chunk));
        turn.land(&chunk);
        Ok((first, chunk))
    }

    /// Reads a chunk from the source.
    async fn load(&self, first: u64, rows: u64) -> Result<Chunk, Error> {
        let chunks = &self.chunks;
        // Nobody closes the semaphore; if it were closed, loading would go on without it.
        let _turn = chunks.loads.acquire().await;
        let unit = chunks.unit(self.unit)?;
        let wanted = rows.min(unit.rows.saturating_sub(first));
        let begun = Instant::now();
        let mut reading = chunks.readers.open(&chunks.dataset, self.unit, unit, first).await?;
        let batches = reading.take(wanted, unit).await?;
        let mut frames = Vec::new();
        for batch in &batches {
            frames.extend(frame::encode(batch, chunks.most_bytes).map_err(|source| arrow(unit, source))?);
        }
        let chunk = Chunk { frames, rows: wanted };
        if let Some(meters) = &chunks.meters {
            meters.loaded(chunk.size(), begun.elapsed());
        }
        if reading.next() < unit.rows {
            chunks.readers.park(self.unit, reading);
        }
        Ok(chunk)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_streams_hold_is_taken_from_what_chunks_have() {
        let (memory, chunk) = (1 << 30, 4 << 20);
        let none = capacity(memory, chunk, 0);
        assert_eq!(none as u64, memory / 100 * SHARE_PERCENT);
        assert_eq!(capacity(memory, chunk, 6), none, "a few have their own part");
        let many = capacity(memory, chunk, 40) as u64;
        let held = 40 * chunk * STREAM_CHUNKS;
        assert!(many + held <= memory / 100 * (SHARE_PERCENT + STREAMS_PERCENT), "{many} + {held}");
        assert_eq!(capacity(memory, chunk, u64::MAX) as u64, memory / 100 * LEAST_SHARE_PERCENT);
    }
}
