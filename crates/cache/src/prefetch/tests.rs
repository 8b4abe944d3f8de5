use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arrow_flight::FlightData;
use async_trait::async_trait;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tonic::Status;

use super::*;
use crate::arrow::{DataType, Field, RecordBatch, Schema, StringArray};
use crate::chunks::Limits;
use crate::config::PrefetchLimits;
use crate::plan::{Origin, Plan, Unit};
use crate::source::{Batches, Dataset, Error, UnitReader};
use crate::spans::Span;
use crate::stream::{Shape, send};

/// Bytes of a row, of a chunk, and chunks of a unit.
const ROW: u64 = 2 << 10;
const CHUNK: u64 = 2 << 20;
const CHUNKS: u64 = 10;

/// Rows of a batch, and of a unit.
const BATCH: u64 = 64;
const ROWS: u64 = CHUNKS * CHUNK / ROW;

/// Units of texts, made as they are read; how many were opened, and how many rows were read.
#[derive(Default)]
struct Texts {
    opened: AtomicU64,
    read: Arc<AtomicU64>,
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]))
}

#[async_trait]
impl UnitReader for Texts {
    async fn read(&self, _unit: &Unit, from: u64, _batch_rows: usize) -> Result<Batches, Error> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let read = Arc::clone(&self.read);
        let batch = move |first: u64| {
            let text = "x".repeat(usize::try_from(ROW).unwrap());
            let count = BATCH.min(ROWS - first);
            let rows = StringArray::from_iter_values((0..count).map(|_| text.as_str()));
            read.fetch_add(count, Ordering::Relaxed);
            Ok(RecordBatch::try_new(schema(), vec![Arc::new(rows)]).unwrap())
        };
        let firsts = (from..ROWS).step_by(usize::try_from(BATCH).unwrap());
        Ok(futures::stream::iter(firsts).map(batch).boxed())
    }

    fn held_bytes(&self, _unit: &Unit) -> u64 {
        CHUNK
    }
}

fn chunks(prefetch: PrefetchLimits) -> (Arc<Chunks>, Arc<Texts>) {
    let unit = |path: &str| Unit { path: path.to_owned(), row_group: None, rows: ROWS };
    let plan = Plan::new(&Origin::default(), vec![unit("a"), unit("b")]).unwrap();
    let texts = Arc::new(Texts::default());
    let reader = Arc::clone(&texts) as Arc<dyn UnitReader>;
    let dataset = Dataset { schema: schema(), plan, snapshot: None, reader };
    let limits = Limits { memory: 256 << 20, loads: 8, message_bytes: 256 << 10, prefetch };
    (Arc::new(Chunks::new(dataset, limits, None)), texts)
}

type Messages = mpsc::Receiver<Result<FlightData, Status>>;

/// A stream over all rows of both units, and its task.
fn start(chunks: &Arc<Chunks>) -> (Messages, JoinHandle<()>) {
    let piece = |unit: u32| Piece { unit, first: 0, rows: ROWS, position: u64::from(unit) * ROWS };
    let (client, messages) = mpsc::channel(2);
    let shape = Shape { columns: None, batch: None, positions: true };
    let span = Span::child("DoGet", &Context::new());
    let sending = tokio::spawn(send(Arc::clone(chunks), vec![piece(0), piece(1)], shape, client, span));
    (messages, sending)
}

fn reserved(chunks: &Chunks) -> u64 {
    chunks.reserved().into_iter().find(|(part, _)| *part == "prefetch").unwrap().1
}

/// Chunks that are reserved for; one may be larger than it was meant to be, by less than another one.
fn ahead(chunks: &Chunks) -> u64 {
    reserved(chunks) / CHUNK
}

/// Lets everything go on that can.
async fn settle() {
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
}

/// Rows of the messages that are left; each says its positions, which follow each other.
async fn drain(messages: &mut Messages, mut next: u64) -> u64 {
    while let Some(message) = messages.recv().await {
        let message = message.unwrap();
        if message.data_body.is_empty() {
            continue;
        }
        let range = crate::plan::ticket::Ticket::decode(&message.app_metadata).unwrap().range;
        assert_eq!(range.start, next);
        next = range.end + 1;
    }
    next
}

#[tokio::test(start_paused = true)]
async fn the_next_chunks_are_loaded_while_a_client_reads_the_first() {
    let (chunks, texts) = chunks(PrefetchLimits::default());
    let (mut messages, _sending) = start(&chunks);
    messages.recv().await.unwrap().unwrap();
    settle().await;
    let rows = chunks.chunk_rows().await.unwrap();
    // The rows that were measured, about a chunk; the first chunk, and four ahead of it, which one reader read.
    let read = texts.read.load(Ordering::Relaxed);
    assert!((rows * 6 - BATCH..rows * 6 + 2 * BATCH).contains(&read), "{read} rows, {rows} a chunk");
    assert_eq!(texts.opened.load(Ordering::Relaxed), 2);
    assert_eq!(ahead(&chunks), 4);
    assert_eq!(drain(&mut messages, 0).await, 2 * ROWS);
    settle().await;
    assert_eq!(reserved(&chunks), 0);
    let counts = chunks.counts();
    let counts = (counts.hits.load(Ordering::Relaxed), counts.misses.load(Ordering::Relaxed));
    assert_eq!(counts, (0, 2 * ROWS.div_ceil(rows)), "each chunk is loaded once");
}

#[tokio::test(start_paused = true)]
async fn prefetching_stays_within_its_limits_and_its_part_of_the_memory() {
    for (limits, expected) in [
        (PrefetchLimits { chunks: 2, bytes: 32 << 20 }, 2),
        (PrefetchLimits { chunks: 4, bytes: 3 * CHUNK + 1 }, 3),
        (PrefetchLimits { chunks: 0, bytes: 32 << 20 }, 0),
        (PrefetchLimits { chunks: 4, bytes: 0 }, 0),
    ] {
        let (chunks, _) = chunks(limits);
        let (mut messages, _sending) = start(&chunks);
        settle().await;
        assert_eq!(ahead(&chunks), expected, "{limits:?}");
        assert_eq!(drain(&mut messages, 0).await, 2 * ROWS, "{limits:?}");
    }
    // Several streams at different places share a twentieth of the memory.
    let (chunks, _) = chunks(PrefetchLimits { chunks: 64, bytes: 1 << 30 });
    let mut streams = Vec::new();
    for _ in 0..4 {
        let (mut messages, sending) = start(&chunks);
        settle().await;
        for _ in 0..40 {
            messages.recv().await.unwrap().unwrap();
        }
        settle().await;
        streams.push((messages, sending));
    }
    let part = (256 << 20) / 20;
    assert!((part - CHUNK..=part).contains(&reserved(&chunks)), "{} of {part}", reserved(&chunks));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_ends_what_was_loaded_for_it() {
    let (chunks, texts) = chunks(PrefetchLimits::default());
    let (mut messages, sending) = start(&chunks);
    messages.recv().await.unwrap().unwrap();
    settle().await;
    assert!(reserved(&chunks) > 0);
    drop(messages);
    sending.await.unwrap();
    settle().await;
    assert_eq!(reserved(&chunks), 0);
    let read = texts.read.load(Ordering::Relaxed);
    settle().await;
    assert_eq!(texts.read.load(Ordering::Relaxed), read, "nobody reads on");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_for_long_keeps_its_stream_and_not_what_was_prefetched() {
    let (chunks, _) = chunks(PrefetchLimits::default());
    let (mut messages, sending) = start(&chunks);
    messages.recv().await.unwrap().unwrap();
    settle().await;
    tokio::time::advance(Duration::from_secs(29)).await;
    settle().await;
    assert_eq!(ahead(&chunks), 4, "shorter pauses are normal");
    tokio::time::advance(Duration::from_secs(2)).await;
    settle().await;
    assert_eq!(reserved(&chunks), 0);
    assert!(!sending.is_finished());
    assert_eq!(drain(&mut messages, 0).await, 2 * ROWS, "every row once");
}
