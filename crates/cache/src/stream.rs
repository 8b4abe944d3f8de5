//! One stream of rows from a worker to a client.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::FlightData;
use bytes::Bytes;
use futures::FutureExt as _;
use opentelemetry::KeyValue;
use tokio::sync::mpsc;
use tonic::Status;

use crate::arrow::{ArrowError, RecordBatch, SchemaRef};
use crate::chunks::{Chunk, Chunks, Key, Scan};
use crate::frame::{self, Frame};
use crate::meters::Meters;
use crate::plan::range::Range;
use crate::plan::shuffle::{Run, Shuffle, batches};
use crate::plan::ticket::range_bytes;
use crate::plan::{Placed, PlanId};
use crate::prefetch::Prefetch;
use crate::rebatch::Rebatch;
use crate::source::Error;
use crate::spans::{self, Span};

/// A client that takes nothing for so long is busy with something else, such as a checkpoint: what was prefetched for it
/// is memory that others can use.
const STALLED: Duration = Duration::from_secs(30);

/// Consecutive rows of one unit, read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number of the unit in the plan.
    pub unit: u32,
    /// First row in the unit.
    pub first: u64,
    /// Number of rows.
    pub rows: u64,
    /// Position of the first row.
    pub position: u64,
}

/// What is read, in which order.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The plan and the number of its rows.
    pub plan: (PlanId, u64),
    /// How rows are shuffled, if at all.
    pub shuffle: Option<Shuffle>,
    /// Positions that are read, in this order.
    pub positions: &'a [Range],
    /// Whether each of them is a batch, which one worker serves whole.
    pub strided: bool,
    /// Rows that this worker serves, by index.
    pub served: &'a [Range],
}

/// The pieces of a stream: for each position the row at it, of those that are served. `units` are in the order of
/// their first indexes; each is given with its number in the plan.
pub fn pieces(order: &Order<'_>, units: &[(u32, Placed)]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if order.strided {
        for (anchor, run) in batches(order.shuffle, order.plan.0, order.plan.1, order.positions) {
            if order.served.iter().any(|served| (served.start..=served.end).contains(&anchor)) {
                add(&mut pieces, units, run, run.rows);
            }
        }
        return pieces;
    }
    for positions in order.positions {
        let runs = match order.shuffle {
            Some(shuffle) => shuffle.runs(order.plan.0, order.plan.1, *positions),
            None => vec![Run { position: positions.start, rows: *positions }],
        };
        for run in runs {
            for served in order.served {
                let Some(rows) = run.rows.intersection(*served) else { continue };
                add(&mut pieces, units, run, rows);
            }
        }
    }
    pieces
}

/// The parts of units that these rows are.
fn add(pieces: &mut Vec<Piece>, units: &[(u32, Placed)], run: Run, rows: Range) {
    let from = units.partition_point(|(_, placed)| placed.first_index + placed.unit.rows <= rows.start);
    for (number, placed) in &units[from..] {
        if placed.first_index > rows.end {
            break;
        }
        if placed.unit.rows == 0 {
            continue;
        }
        let own = Range { start: placed.first_index, end: placed.first_index + placed.unit.rows - 1 };
        if let Some(rows) = own.intersection(rows) {
            pieces.push(Piece {
                unit: *number,
                first: rows.start - placed.first_index,
                rows: rows.len(),
                position: run.position + (rows.start - run.rows.start),
            });
        }
    }
}

/// Rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Just so many, but the last; a client asked for it.
    Exact(u64),
    /// At most so many, and only rows at consecutive positions.
    AtMost(u64),
}

/// How rows are sent.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Places of the columns that are sent; all where absent.
    pub columns: Option<Vec<usize>>,
    /// Rows of a batch.
    pub batch: Option<Batch>,
    /// Whether each message says which positions it has.
    pub positions: bool,
}

/// A failure while rows are sent.
enum Stop {
    Source(Error),
    Arrow(ArrowError),
    /// The client is gone.
    Gone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Source(error)
    }
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

/// Where messages go: a client that reads slowly holds the sender up, and one that is gone ends it.
pub type Client = mpsc::Sender<Result<FlightData, Status>>;

/// Sends the schema and the pieces, in order. What fails is the stream's last message. A client that is gone ends it at
/// once, its loads included.
pub async fn send(chunks: Arc<Chunks>, pieces: Vec<Piece>, shape: Shape, client: Client, span: Span) {
    let _holding = chunks.hold();
    tokio::select! {
        biased;
        () = send_all(&chunks, &pieces, shape, &client, &span) => {}
        () = client.closed() => span.fail("the client is gone"),
    }
}

async fn send_all(chunks: &Arc<Chunks>, pieces: &[Piece], shape: Shape, client: &Client, span: &Span) {
    let mut sender = match Sender::new(chunks, shape, client.clone()) {
        Ok(sender) => sender,
        Err(error) => {
            let _ = client.send(Err(Status::internal(error.to_string()))).await;
            return;
        }
    };
    let sent = AssertUnwindSafe(sender.all(chunks, pieces, span)).catch_unwind().await;
    span.set(KeyValue::new("datacache.bytes", spans::number(sender.bytes)));
    // A stream that just ended would be taken for whole.
    let status = match sent {
        Ok(Ok(())) => return,
        Ok(Err(Stop::Gone)) => return span.fail("the client is gone"),
        Ok(Err(Stop::Source(error))) => {
            if let Some(meters) = chunks.meters() {
                meters.failed(error.kind());
            }
            crate::flight::status(&error)
        }
        Ok(Err(Stop::Arrow(error))) => Status::internal(format!("failed to encode rows: {error}")),
        Err(_) => crate::flight::panicked(),
    };
    span.fail(status.message());
    let _ = client.send(Err(status)).await;
}

struct Sender {
    client: Client,
    /// Of the dataset, as frames are kept.
    dataset: SchemaRef,
    sent: SchemaRef,
    shape: Shape,
    rebatch: Option<Rebatch>,
    /// Positions of the rows that wait for a batch to be complete.
    waiting: Option<RangeInclusive<u64>>,
    /// Frames that were decoded last, as they are sent: rows of a shuffled block come from a few.
    decoded: VecDeque<(u64, RecordBatch)>,
    meters: Option<Arc<Meters>>,
    /// When it was asked for, until its first rows are sent.
    asked: Option<Instant>,
    /// Chunks that are loaded ahead.
    prefetch: Option<Prefetch>,
    /// Bytes of rows that were sent.
    bytes: u64,
}

/// Decoded frames that are kept.
const DECODED: usize = 8;

/// A frame and the rows of it that are sent.
#[derive(Clone, Copy)]
struct Part<'a> {
    frame: &'a Frame,
    /// Tells the frame from others of the stream.
    key: u64,
    first: u64,
    rows: u64,
    position: u64,
}

impl Sender {
    fn new(chunks: &Chunks, shape: Shape, client: Client) -> Result<Self, ArrowError> {
        let dataset = Arc::clone(&chunks.dataset().schema);
        let sent = match &shape.columns {
            Some(columns) => Arc::new(dataset.project(columns)?),
            None => Arc::clone(&dataset),
        };
        let rows = shape.batch.map(|(Batch::Exact(rows) | Batch::AtMost(rows))| rows);
        let rebatch = rows.map(|rows| Rebatch::new(Arc::clone(&sent), rows));
        let (meters, asked) = (chunks.meters().cloned(), Some(Instant::now()));
        let decoded = VecDeque::new();
        Ok(Self {
            client,
            dataset,
            sent,
            shape,
            rebatch,
            waiting: None,
            decoded,
            meters,
            asked,
            prefetch: None,
            bytes: 0,
        })
    }

    async fn all(&mut self, chunks: &Arc<Chunks>, pieces: &[Piece], span: &Span) -> Result<(), Stop> {
        self.message(frame::schema_message(&self.sent)).await?;
        if pieces.is_empty() {
            return Ok(());
        }
        let rows = chunks.chunk_rows().await?;
        if chunks.prefetch_window() > 0 {
            self.prefetch = Some(Prefetch::new(Arc::clone(chunks), rows, span.context().clone()));
        }
        for piece in pieces {
            let mut row = piece.first;
            let end = piece.first + piece.rows;
            let unit_scan = chunks.scan(piece.unit, span.context().clone());
            while row < end {
                let (first, chunk) = self.chunk(&unit_scan, (piece.unit, row / rows), rows, pieces).await?;
                for (place, frame) in chunk.frames() {
                    let begins = first + place;
                    let (from, to) = (row.max(begins), end.min(begins + frame.rows()));
                    if from >= to {
                        continue;
                    }
                    let part = Part {
                        frame,
                        key: (u64::from(piece.unit) << 40) ^ begins,
                        first: from - begins,
                        rows: to - from,
                        position: piece.position + (from - piece.first),
                    };
                    self.rows(part).await?;
                    row = to;
                }
            }
        }
        self.flush().await
    }

    /// The next chunk, and the row of the unit that it begins with.
    async fn chunk(
        &mut self,
        scan: &Scan,
        key: Key,
        rows: u64,
        pieces: &[Piece],
    ) -> Result<(u64, Arc<Chunk>), Stop> {
        let first = key.1 * rows;
        let prefetched = match &mut self.prefetch {
            Some(prefetch) => prefetch.take(key).await,
            None => None,
        };
        let chunk = match prefetched {
            Some(chunk) => chunk,
            None => scan.chunk(first).await?.1,
        };
        // Not before this one is there: its load goes first.
        if let Some(prefetch) = &mut self.prefetch {
            prefetch.advance(pieces);
        }
        Ok((first, chunk))
    }

    /// Rows of a frame; the whole of it goes as it is.
    async fn rows(&mut self, part: Part<'_>) -> Result<(), Stop> {
        let Part { frame, key, first, rows, position } = part;
        let last = position + rows - 1;
        if rows == frame.rows() && self.shape.columns.is_none() && self.rebatch.is_none() {
            return self.encoded(frame, Some(position..=last)).await;
        }
        let batch = self.decode(frame, key)?;
        let is_gap = self.waiting.as_ref().is_some_and(|waiting| *waiting.end() + 1 != position);
        if is_gap {
            match self.shape.batch {
                Some(Batch::AtMost(_)) => self.flush().await?,
                // A batch of an exact size has rows from several places, and no range of positions.
                _ => self.shape.positions = false,
            }
        }
        let Some(rebatch) = &mut self.rebatch else {
            let batch = batch.slice(place(first), place(rows));
            return self.encoded(&frame::encode_one(&batch)?, Some(position..=last)).await;
        };
        let complete = rebatch.push(key, &batch, place(first), place(rows))?;
        let waiting = self.waiting.take();
        let mut next = waiting.map_or(position, |waiting| *waiting.start());
        for batch in complete {
            let end = next + batch.num_rows() as u64 - 1;
            self.encoded(&frame::encode_one(&batch)?, Some(next..=end)).await?;
            next = end + 1;
        }
        self.waiting = (next <= last).then_some(next..=last);
        Ok(())
    }

    /// Sends the rows that wait for a batch to be complete.
    async fn flush(&mut self) -> Result<(), Stop> {
        let waiting = self.waiting.take();
        if let Some(batch) = self.rebatch.as_mut().map(Rebatch::flush).transpose()?.flatten() {
            self.encoded(&frame::encode_one(&batch)?, waiting).await?;
        }
        Ok(())
    }

    /// The columns of a frame that are sent.
    fn decode(&mut self, frame: &Frame, key: u64) -> Result<RecordBatch, ArrowError> {
        if let Some((_, batch)) = self.decoded.iter().find(|(other, _)| *other == key) {
            return Ok(batch.clone());
        }
        let batch = frame.decode(&self.dataset)?;
        let batch = match &self.shape.columns {
            Some(columns) => batch.project(columns)?,
            None => batch,
        };
        self.decoded.truncate(DECODED - 1);
        self.decoded.push_front((key, batch.clone()));
        Ok(batch)
    }

    async fn encoded(&mut self, frame: &Frame, positions: Option<RangeInclusive<u64>>) -> Result<(), Stop> {
        let metadata = match positions.filter(|_| self.shape.positions) {
            Some(positions) => range_bytes(Range { start: *positions.start(), end: *positions.end() }).into(),
            None => Bytes::new(),
        };
        self.message(frame.message(metadata)).await
    }

    async fn message(&mut self, message: FlightData) -> Result<(), Stop> {
        let (bytes, begun) = (message.data_body.len(), Instant::now());
        if self.client.capacity() == 0 {
            self.wait_for_client().await?;
        }
        self.client.send(Ok(message)).await.map_err(|_| Stop::Gone)?;
        self.bytes += bytes as u64;
        if let Some(meters) = &self.meters {
            meters.sent(bytes, begun.elapsed());
            if let Some(asked) = self.asked.take_if(|_| bytes > 0) {
                meters.first(asked.elapsed());
            }
        }
        Ok(())
    }
}

impl Sender {
    /// Waits for the client to take a message. What was prefetched for it is released when that takes long.
    async fn wait_for_client(&mut self) -> Result<(), Stop> {
        let waited = tokio::time::timeout(STALLED, self.client.reserve()).await;
        if let Ok(room) = waited {
            return room.map(drop).map_err(|_| Stop::Gone);
        }
        if let Some(prefetch) = &mut self.prefetch {
            prefetch.release();
        }
        self.client.reserve().await.map(drop).map_err(|_| Stop::Gone)
    }
}

/// A frame has at most 65,536 rows, so that a place in it is never cut.
fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Unit;

    fn units(rows: &[u64]) -> Vec<(u32, Placed)> {
        let mut next = 0;
        let unit = |(number, rows): (u32, &u64)| {
            let unit = Unit { path: format!("f{number}"), row_group: None, rows: *rows };
            let placed = Placed { unit, first_index: next, owner: 0 };
            next += rows;
            (number, placed)
        };
        (0..).zip(rows).map(unit).collect()
    }

    fn order<'a>(positions: &'a [Range], served: &'a [Range], shuffle: Option<Shuffle>) -> Order<'a> {
        let plan = PlanId::from_bytes(&[1; 16]).unwrap();
        Order { plan: (plan, 30), shuffle, positions, strided: false, served }
    }

    #[test]
    fn rows_are_found_in_their_units() {
        let range = |start, end| Range { start, end };
        let found = pieces(&order(&[range(5, 24)], &[range(0, 19)], None), &units(&[10, 0, 5, 15]));
        let piece = |unit, first, rows, position| Piece { unit, first, rows, position };
        assert_eq!(found, [piece(0, 5, 5, 5), piece(2, 0, 5, 10), piece(3, 0, 5, 15)]);
    }

    #[test]
    fn a_batch_is_served_whole_by_one_worker() {
        let units = units(&[10, 0, 5, 15]);
        let shuffled = |inside| Some(Shuffle { block_rows: 12, inside, seed: 1, epoch: 1 });
        for shuffle in [None, shuffled(false), shuffled(true)] {
            let mut seen = Vec::new();
            for partition in 0..3 {
                let positions = crate::plan::range::strided(30, partition * 4, 12, 4).unwrap();
                for served in [Range { start: 0, end: 12 }, Range { start: 13, end: 29 }] {
                    let own = [served];
                    let order = Order { strided: true, ..order(&positions, &own, shuffle) };
                    let read: Vec<u64> = pieces(&order, &units)
                        .into_iter()
                        .flat_map(|piece| piece.position..piece.position + piece.rows)
                        .collect();
                    for batch in &positions {
                        let here =
                            read.iter().filter(|place| (batch.start..=batch.end).contains(place)).count();
                        // The last block is short, so that batches behind it may be in two blocks.
                        let is_whole = here == 0 || here as u64 == batch.len();
                        assert!(is_whole || shuffle.is_some(), "{here} of {batch:?}, {shuffle:?}");
                    }
                    seen.extend(read);
                }
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..30), "{shuffle:?}");
        }
    }

    #[test]
    fn two_workers_serve_every_position_once_also_where_rows_are_shuffled() {
        let units = units(&[10, 0, 5, 15]);
        for inside in [false, true] {
            let shuffle = Shuffle { block_rows: 4, inside, seed: 1, epoch: 1 };
            let mut seen = Vec::new();
            for served in [Range { start: 0, end: 12 }, Range { start: 13, end: 29 }] {
                let positions = [Range { start: 0, end: 29 }];
                for piece in pieces(&order(&positions, &[served], Some(shuffle)), &units) {
                    seen.extend(piece.position..piece.position + piece.rows);
                }
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..30));
        }
    }
}
