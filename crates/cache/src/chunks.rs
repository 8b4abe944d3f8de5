//! Encoded rows in memory, within a budget, on the disk where there is one, and read again from the source where they are
//! not.
//!
//! A chunk is a fixed number of consecutive rows of one unit, so that its borders do not depend on who loads it. What
//! is kept is a cache only: whatever is not there is read from the source. Streams that miss the same rows at the same
//! time read them once.

mod budget;
mod disk;
mod file;
mod load_slots;
mod reader_pool;
mod single_flight;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use foyer::{Cache, CacheBuilder, LfuConfig};
use futures::TryStreamExt as _;
use opentelemetry::{Context, KeyValue};
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use self::budget::Budget;
pub use self::disk::Folder;
use self::disk::{Disk, Form};
use self::load_slots::{LoadSlots, Slot};
use self::reader_pool::ReaderPool;
use self::single_flight::SingleFlight;
use crate::arrow::concat_batches;
use crate::config::PrefetchLimits;
use crate::frame::{self, Frame};
use crate::meters::Meters;
use crate::plan::Unit;
use crate::source::{Dataset, Error};
use crate::spans::{self, Span};

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

/// Most rows that are decoded at a time. A chunk's rows are decoded at once where they are fewer, so that a reader holds no
/// rows that its load does not want.
const BATCH_ROWS: u64 = 65_536;

/// Rows that tell how large a row is, and how many of them are decoded at a time: they may be large.
const SAMPLE_ROWS: usize = 8192;
const SAMPLE_BATCH_ROWS: usize = 16;

/// Part of the memory that is for chunks; the rest is for loading and sending.
const SHARE_PERCENT: u64 = 70;

/// Part of the memory that is for what is being read: compressed bytes of row groups, rows that are not taken yet, and the
/// chunks that are made of them.
const LOADING_PERCENT: u64 = 15;

/// Part of the memory that is for streams; what they need beyond it is taken from that of the chunks.
const STREAMS_PERCENT: u64 = 5;

/// Part of the memory that is for prefetched chunks until their streams send them.
const PREFETCH_PERCENT: u64 = 5;

/// Part of the memory that is for chunks on their way to the disk, of that for chunks.
const DISK_PERCENT: u64 = 5;

/// Part of the memory that chunks have however many streams there are.
const LEAST_SHARE_PERCENT: u64 = 20;

/// A number of consecutive rows of a unit.
#[derive(Debug)]
pub struct Chunk {
    frames: Vec<Frame>,
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
pub(crate) type Key = (u32, u64);

/// What a worker may use for its chunks.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: u64,
    /// Loads from the source at the same time; fewer where there is little memory.
    pub loads: usize,
    /// Bytes of a message.
    pub message_bytes: usize,
    /// Chunks that are loaded ahead of each stream.
    pub prefetch: PrefetchLimits,
}

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
    slots: LoadSlots,
    loads: SingleFlight<Key, Chunk>,
    readers: ReaderPool,
    prefetched: Budget,
    limits: Limits,
    counts: Counts,
    meters: Option<Arc<Meters>>,
}

impl Chunks {
    /// Of a dataset, within these limits and in a folder of a disk.
    pub fn new(dataset: Dataset, limits: Limits, disk: Option<Arc<Folder>>) -> Self {
        let memory = limits.memory;
        let chunk_bytes = (memory / LEAST_CHUNKS).clamp(LEAST_CHUNK_BYTES, CHUNK_BYTES);
        let loading = loading_bytes(memory);
        // Half of it is for the loads themselves: with little memory there are fewer at the same time.
        let most_loads = (loading / 2 / (chunk_bytes * LOAD_CHUNKS)).max(1);
        let loads = limits.loads.min(usize::try_from(most_loads).unwrap_or(usize::MAX));
        let readers = loading.saturating_sub(loads as u64 * chunk_bytes * LOAD_CHUNKS);
        let plan = dataset.plan.id();
        let buffers = if disk.is_some() { memory / 100 * DISK_PERCENT } else { 0 };
        let disk = disk.and_then(|folder| {
            let form = Form { plan, chunk_bytes, message_bytes: limits.message_bytes };
            let opened = Disk::open(folder, form, buffers);
            opened
                .inspect_err(|error| tracing::warn!(%error, "rows are not kept on the disk"))
                .ok()
                .map(Arc::new)
        });
        let rest = memory - buffers;
        // Epochs are scans that come again: what was used least often goes, or nothing would ever be met again where
        // the data is larger than the memory.
        let cache = CacheBuilder::new(capacity(rest, chunk_bytes, 0))
            .with_eviction_config(LfuConfig::default())
            .with_weighter(|_: &Key, chunk: &Arc<Chunk>| chunk.size())
            .build();
        Self {
            dataset,
            cache,
            disk,
            memory: rest,
            chunk_bytes,
            streams: Mutex::new(0),
            rows: OnceCell::new(),
            slots: LoadSlots::new(loads),
            loads: SingleFlight::default(),
            readers: ReaderPool::new(readers, loads),
            prefetched: Budget::new(rest / 100 * PREFETCH_PERCENT),
            limits,
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
        let loads = self.slots.used() as u64 * self.chunk_bytes * LOAD_CHUNKS;
        let streams = *self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        vec![
            ("chunks", self.cache.capacity() as u64),
            ("loads", loads),
            ("readers", self.readers.reserved()),
            ("streams", streams.saturating_mul(self.chunk_bytes * STREAM_CHUNKS)),
            ("prefetch", self.prefetched.reserved()),
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

    /// Reads consecutive rows of a unit, chunk by chunk, as part of a trace.
    pub fn scan(self: &Arc<Self>, unit: u32, context: Context) -> Scan {
        Scan { chunks: Arc::clone(self), unit, context }
    }

    /// How far to prefetch: chunks of a stream, about their bytes included.
    pub(crate) fn prefetch_window(&self) -> usize {
        let PrefetchLimits { chunks, bytes } = self.limits.prefetch;
        chunks.min(usize::try_from(bytes / self.chunk_bytes).unwrap_or(usize::MAX))
    }

    /// Whether a chunk is in memory.
    pub(crate) fn is_cached(&self, key: Key) -> bool {
        self.cache.contains(&key)
    }

    /// Memory for a chunk that is prefetched, if it is available.
    pub(crate) fn reserve_prefetch(&self) -> Option<OwnedSemaphorePermit> {
        self.prefetched.try_reserve(self.chunk_bytes)
    }

    /// Loads a chunk that was reserved for; `has_started` is set once it has a slot. Nothing where it failed: whoever
    /// asks for the chunk meets the same error.
    pub(crate) async fn prefetch(
        &self,
        key: Key,
        mut reserved: OwnedSemaphorePermit,
        has_started: &AtomicBool,
        context: &Context,
    ) -> Option<Prefetched> {
        let chunk = self.background(key, Some(has_started), context).await.ok()??;
        let size = chunk.size() as u64;
        // Rows that are longer than the first ones make larger chunks. One without room is not held.
        if size > self.chunk_bytes {
            reserved.merge(self.prefetched.try_reserve(size - self.chunk_bytes)?);
        }
        Some(Prefetched { chunk, _reserved: reserved })
    }

    fn cached(&self, key: Key) -> Option<Arc<Chunk>> {
        let entry = self.cache.get(&key)?;
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(entry.value()))
    }

    /// A chunk that a stream waits for.
    async fn foreground(&self, key: Key, context: &Context) -> Result<Arc<Chunk>, Error> {
        if let Some(chunk) = self.cached(key) {
            return Ok(chunk);
        }
        let call = self.loads.join(key);
        let mut leader = call.lead().await;
        if let Some(chunk) = leader.result() {
            self.counts.shared.fetch_add(1, Ordering::Relaxed);
            return Ok(chunk);
        }
        let chunk = self.fetch(key, None, context).await?;
        leader.complete(&chunk);
        Ok(chunk)
    }

    /// A chunk that nobody waits for yet; nothing where another stream's load of it failed. It leads no call before it has
    /// a slot, so that no stream waits behind it for other streams' loads.
    async fn background(
        &self,
        key: Key,
        has_started: Option<&AtomicBool>,
        context: &Context,
    ) -> Result<Option<Arc<Chunk>>, Error> {
        let slot = self.slots.background().await;
        if let Some(has_started) = has_started {
            has_started.store(true, Ordering::Release);
        }
        if let Some(chunk) = self.cached(key) {
            return Ok(Some(chunk));
        }
        let call = self.loads.join(key);
        let Some(mut leader) = call.try_lead() else {
            // Another stream loads it, and may need the slot for that.
            drop(slot);
            let shared = call.lead().await.result();
            self.counts.shared.fetch_add(u64::from(shared.is_some()), Ordering::Relaxed);
            return Ok(shared);
        };
        if let Some(chunk) = leader.result() {
            self.counts.shared.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(chunk));
        }
        let chunk = self.fetch(key, Some(slot), context).await?;
        leader.complete(&chunk);
        Ok(Some(chunk))
    }

    /// Reads a chunk from the disk or from the source, and keeps it.
    async fn fetch(&self, key: Key, slot: Option<Slot<'_>>, context: &Context) -> Result<Arc<Chunk>, Error> {
        let on_disk = match &self.disk {
            Some(disk) => disk.read(key).await,
            None => None,
        };
        let chunk = if let Some(chunk) = on_disk {
            self.counts.disk_hits.fetch_add(1, Ordering::Relaxed);
            Arc::new(chunk)
        } else {
            self.counts.misses.fetch_add(1, Ordering::Relaxed);
            let _slot = match slot {
                Some(slot) => slot,
                None => self.slots.foreground().await,
            };
            let span = Span::child("load", context);
            let loaded = self.load(key, &span).await;
            let chunk = loaded.inspect_err(|error| span.fail(&trainerd_causes::one_line(error)))?;
            let chunk = Arc::new(chunk);
            if let Some(disk) = &self.disk {
                disk.write(key, &chunk);
            }
            chunk
        };
        // It is kept before the others continue: they find it there, or in the call.
        self.cache.insert(key, Arc::clone(&chunk));
        Ok(chunk)
    }

    /// Reads a chunk from the source.
    async fn load(&self, (number, place): Key, span: &Span) -> Result<Chunk, Error> {
        let rows = self.chunk_rows().await?;
        let unit = self.unit(number)?;
        let first = place.saturating_mul(rows);
        let wanted = rows.min(unit.rows.saturating_sub(first));
        span.set(KeyValue::new("datacache.path", crate::store::redacted_path(&unit.path)));
        span.set(KeyValue::new("datacache.first_row", spans::number(first)));
        span.set(KeyValue::new("datacache.rows", spans::number(wanted)));
        let begun = Instant::now();
        let batch_rows = usize::try_from(rows.min(BATCH_ROWS)).unwrap_or(usize::MAX);
        let mut reader = self.readers.open(&self.dataset, number, unit, first, batch_rows).await?;
        let batches = reader.take(wanted, unit).await?;
        let mut frames = Vec::new();
        for batch in &batches {
            let encoded = frame::encode(batch, self.limits.message_bytes);
            frames.extend(encoded.map_err(|source| arrow(unit, source))?);
        }
        let chunk = Chunk { frames };
        let budget = loading_bytes(self.limits.memory);
        let is_too_large = |(_, frame): &(u64, &Frame)| frame.rows() == 1 && frame.size() as u64 > budget;
        if let Some((place, frame)) = chunk.frames().find(is_too_large) {
            let (path, bytes) = (crate::store::redacted_path(&unit.path), frame.size() as u64);
            return Err(Error::RowTooLarge { path, row: first + place, bytes, budget });
        }
        span.set(KeyValue::new("datacache.bytes", spans::number(chunk.size() as u64)));
        if let Some(meters) = &self.meters {
            meters.loaded(chunk.size(), begun.elapsed());
        }
        if reader.next() < unit.rows {
            self.readers.put_back(number, reader);
        }
        Ok(chunk)
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
            let mut batches = self.dataset.reader.read(unit, 0, SAMPLE_BATCH_ROWS).await?;
            let (mut sample, mut sampled, mut bytes) = (Vec::new(), 0, 0);
            while sampled < SAMPLE_ROWS && bytes < self.chunk_bytes {
                let Some(batch) = batches.try_next().await? else { break };
                sampled += batch.num_rows();
                bytes += batch.get_array_memory_size() as u64;
                sample.push(batch);
            }
            if sampled == 0 {
                return Ok(1);
            }
            let batch =
                concat_batches(&self.dataset.schema, &sample).map_err(|source| arrow(unit, source))?;
            let frame = frame::encode_one(&batch).map_err(|source| arrow(unit, source))?;
            let row = (frame.size() as u64 / frame.rows().max(1)).max(1);
            Ok((self.chunk_bytes / row).clamp(1, CHUNK_ROWS))
        };
        self.rows.get_or_try_init(measure).await.copied()
    }
}

/// Bytes for what is being read.
fn loading_bytes(memory: u64) -> u64 {
    memory / 100 * LOADING_PERCENT
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
    Error::Arrow { path: crate::store::redacted_path(&unit.path), source }
}

/// A chunk that was loaded ahead of a stream, with the memory that it has.
#[derive(Debug)]
pub(crate) struct Prefetched {
    pub(crate) chunk: Arc<Chunk>,
    _reserved: OwnedSemaphorePermit,
}

/// Reads one unit's rows forward; where chunks are missing, a reader of the source stays open from one to the next.
#[derive(Debug)]
pub struct Scan {
    chunks: Arc<Chunks>,
    unit: u32,
    context: Context,
}

impl Scan {
    /// The chunk that holds this row of the unit, and the row that it begins with.
    pub async fn chunk(&self, row: u64) -> Result<(u64, Arc<Chunk>), Error> {
        let rows = self.chunks.chunk_rows().await?;
        let place = row / rows;
        let chunk = self.chunks.foreground((self.unit, place), &self.context).await?;
        Ok((place * rows, chunk))
    }

    /// Loads the unit's chunks in order until the budget is used up; whether all of it is in memory then.
    pub async fn warm(self) -> Result<bool, Error> {
        let total = self.chunks.unit(self.unit)?.rows;
        let rows = self.chunks.chunk_rows().await?;
        for place in 0..total.div_ceil(rows) {
            let key = (self.unit, place);
            if self.chunks.is_cached(key) {
                continue;
            }
            if self.chunks.is_full() {
                return Ok(false);
            }
            while self.chunks.background(key, None, &self.context).await?.is_none() {}
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
