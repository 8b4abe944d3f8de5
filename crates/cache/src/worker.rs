//! A worker: serves rows that a head assigned to it.
//!
//! `Empty → Assigned → Warming → Warm`, or `Failed`. A worker keeps nothing that it cannot get again: what it lost, the
//! head sends anew, and rows are read from the source.

mod status;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_flight::FlightData;
use arrow_flight::error::FlightError;
use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use opentelemetry::{Context, KeyValue};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::access::Access;
use crate::arrow::SchemaRef;
use crate::assign::Assignment;
use crate::backoff::Backoff;
use crate::chunks::{Chunks, Folder, Limits};
use crate::config::{Compatibility, Config, Granule, ReadyWhen, Source};
use crate::flight::{Messages, Role};
use crate::plan::range::Range;
use crate::plan::shuffle::Shuffle;
use crate::plan::ticket::{Extension, Ticket};
use crate::plan::{Placed, PlanId, Unit};
use crate::source::{self, Dataset, Error, Kind};
use crate::spans::{self, Span};
use crate::store::Stores;
use crate::stream::{self, Batch, Order, Piece, Shape};
pub use status::{State, WorkerStatus};

/// Messages that wait for a client.
const WINDOW: usize = 2;

/// Memory of the program itself: its code, its threads, and what the allocator has not given back yet.
const PROGRAM_BYTES: u64 = 60 << 20;

/// Rows of a message where rows are shuffled and nobody asks for a size.
const SHUFFLED_ROWS: u64 = 4096;

/// What is served.
struct Served {
    plan: PlanId,
    workers: u32,
    rows: u64,
    /// In the order of their first indexes, with their numbers in the plan.
    units: Vec<(u32, Placed)>,
    /// Its own rows, by index.
    own: Vec<Range>,
    owned: Vec<u32>,
    chunks: Arc<Chunks>,
    loaded: AtomicU32,
    warm: AtomicBool,
    /// Held while rows are loaded that nobody asked for: once is enough.
    warming: tokio::sync::Mutex<()>,
}

enum Phase {
    Empty,
    Assigned { assignment: u64, reason: Option<String> },
    Serving(Arc<Served>),
    Failed(String),
}

/// A worker.
pub struct Worker {
    config: Config,
    access: Access,
    stores: Stores,
    /// The folder of the disk tier, where one was asked for; or why there is none.
    disk: Result<Option<Arc<Folder>>, String>,
    boot_id: String,
    phase: Mutex<Phase>,
    /// Counts assignments: an older one that is still being opened gives way.
    assignments: Mutex<u64>,
    streams: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").field("boot_id", &self.boot_id).finish_non_exhaustive()
    }
}

impl Worker {
    /// With nothing assigned.
    pub fn new(config: Config, access: Access, stores: Stores, boot_id: String) -> Arc<Self> {
        // Rows are served without it as well.
        let disk = config.disk.as_ref().map(|disk| {
            let opened = Folder::open(disk).map(Arc::new);
            opened.map_err(|error| format!("failed to use {}: {error}", disk.folder.display()))
        });
        let disk = disk.transpose().inspect_err(|reason| {
            tracing::warn!(reason, "rows are not kept on the disk");
        });
        Arc::new(Self {
            config,
            access,
            stores,
            disk,
            boot_id,
            phase: Mutex::new(Phase::Empty),
            assignments: Mutex::new(0),
            streams: Arc::default(),
        })
    }

    /// How it is.
    pub fn status(&self) -> WorkerStatus {
        let mut status = WorkerStatus {
            boot_id: self.boot_id.clone(),
            state: State::Empty,
            reason: None,
            plan_id: None,
            workers: 0,
            units: 0,
            loaded: 0,
            cached_bytes: 0,
            hits: 0,
            misses: 0,
            disk_bytes: None,
            disk_reason: self.disk.as_ref().err().cloned(),
            disk_hits: 0,
            streams: self.streams.load(Ordering::Relaxed) as u64,
        };
        match &*self.phase.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Empty => status.reason = Some("no head has assigned anything yet".to_owned()),
            Phase::Assigned { reason, .. } => {
                status.state = State::Assigned;
                status.reason =
                    Some(reason.clone().unwrap_or_else(|| "the source is being opened".to_owned()));
            }
            Phase::Failed(reason) => {
                status.state = State::Failed;
                status.reason = Some(reason.clone());
            }
            Phase::Serving(served) => {
                let is_warm = served.warm.load(Ordering::Relaxed);
                status.state = if is_warm { State::Warm } else { State::Warming };
                status.plan_id = Some(served.plan.to_string());
                status.workers = served.workers;
                status.units = u32::try_from(served.owned.len()).unwrap_or(u32::MAX);
                status.loaded = served.loaded.load(Ordering::Relaxed);
                status.cached_bytes = served.chunks.used() as u64;
                status.hits = served.chunks.counts().hits.load(Ordering::Relaxed);
                status.misses = served.chunks.counts().misses.load(Ordering::Relaxed);
                status.disk_bytes = served.chunks.disk_used();
                status.disk_reason = status.disk_reason.or_else(|| served.chunks.disk_reason());
                status.disk_hits = served.chunks.counts().disk_hits.load(Ordering::Relaxed);
            }
        }
        status
    }

    /// Bytes that memory is set aside for now, by what for.
    pub fn reserved(&self) -> Vec<(&'static str, u64)> {
        match &*self.phase.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Serving(served) => served.chunks.reserved(),
            Phase::Empty | Phase::Assigned { .. } | Phase::Failed(_) => Vec::new(),
        }
    }

    /// Whether rows are served to whoever reaches a port, or over a line that anybody reads.
    pub fn is_insecure(&self) -> bool {
        self.access.0.is_none() || self.config.tls.is_none()
    }

    /// Whether clients should be sent here; else why not.
    pub fn ready(&self) -> Result<(), String> {
        let status = self.status();
        match status.state {
            State::Warm => Ok(()),
            State::Warming if self.config.ready_when == ReadyWhen::Planned => Ok(()),
            State::Warming => Err(format!("{} of {} units are loaded", status.loaded, status.units)),
            State::Empty | State::Assigned | State::Failed => Err(status.reason.unwrap_or_default()),
        }
    }

    fn served(&self) -> Result<Arc<Served>, Status> {
        match &*self.phase.lock().unwrap_or_else(PoisonError::into_inner) {
            Phase::Serving(served) => Ok(Arc::clone(served)),
            Phase::Empty => {
                Err(Status::unavailable("the worker is not ready: no head has assigned anything yet"))
            }
            Phase::Assigned { reason, .. } => {
                let reason = reason.as_deref().unwrap_or("the source is being opened");
                Err(Status::unavailable(format!("the worker is not ready: {reason}")))
            }
            Phase::Failed(reason) => Err(Status::failed_precondition(format!("the worker failed: {reason}"))),
        }
    }

    /// Takes an assignment and returns at once; the source is opened and read behind it.
    pub fn assign(self: &Arc<Self>, assignment: Assignment) {
        let number = {
            let mut assignments = self.assignments.lock().unwrap_or_else(PoisonError::into_inner);
            *assignments += 1;
            *assignments
        };
        // The same plan for another number of workers: what is in memory stays.
        let kept = match &assignment {
            Assignment::Plan { header, .. } => {
                self.served().ok().filter(|served| served.plan.to_string() == header.plan_id)
            }
            Assignment::Files { .. } => None,
        };
        if kept.is_none() {
            *self.phase.lock().unwrap_or_else(PoisonError::into_inner) =
                Phase::Assigned { assignment: number, reason: None };
        }
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            let chunks = match kept {
                Some(served) => Arc::clone(&served.chunks),
                None => match worker.open(&assignment, number).await {
                    Some(chunks) => chunks,
                    None => return,
                },
            };
            worker.serve(&assignment, chunks, number);
        });
    }

    /// Opens the source, again and again while its store does not answer. Nothing where a newer assignment came.
    async fn open(&self, assignment: &Assignment, number: u64) -> Option<Arc<Chunks>> {
        let mut config = self.config.clone();
        let workers = match assignment {
            Assignment::Plan { header, .. } => {
                if let Source::Iceberg { snapshot, .. } = &mut config.source {
                    *snapshot = snapshot.or(header.snapshot);
                }
                header.workers
            }
            Assignment::Files { .. } => {
                config.granule = Granule::File;
                1
            }
        };
        // What the head has counted by reading is not counted again.
        let known: Vec<Unit> = match assignment {
            Assignment::Plan { units, .. } => units.iter().map(|(_, placed)| placed.unit.clone()).collect(),
            Assignment::Files { .. } => Vec::new(),
        };
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match source::open(&config, &self.stores, workers, &known).await {
                Ok(dataset) => {
                    let limits = Limits {
                        memory: config.memory.saturating_sub(PROGRAM_BYTES),
                        loads: config.load_concurrency,
                        message_bytes: config.message_bytes,
                        prefetch: config.prefetch,
                    };
                    let chunks = Chunks::new(dataset, limits, self.disk.clone().unwrap_or_default());
                    return Some(Arc::new(chunks.metered(self.stores.meters().cloned())));
                }
                Err(error) => {
                    let text = trainerd_causes::one_line(&error);
                    if let Some(meters) = self.stores.meters() {
                        meters.failed(error.kind());
                    }
                    if error.kind() != Kind::Unreachable {
                        tracing::error!(error = text, "failed to open the source");
                        self.set(number, Phase::Failed(text));
                        return None;
                    }
                    tracing::warn!(error = text, "failed to open the source; trying again");
                    if !self.set(number, Phase::Assigned { assignment: number, reason: Some(text) }) {
                        return None;
                    }
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    /// Sets the state, unless a newer assignment came meanwhile.
    fn set(&self, number: u64, next: Phase) -> bool {
        let newest = *self.assignments.lock().unwrap_or_else(PoisonError::into_inner);
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = newest == number
            && !matches!(&*phase, Phase::Assigned { assignment, .. } if *assignment > number);
        if is_ours {
            *phase = next;
        }
        is_ours
    }

    fn serve(self: &Arc<Self>, assignment: &Assignment, chunks: Arc<Chunks>, number: u64) {
        let served = match served(assignment, chunks) {
            Ok(served) => Arc::new(served),
            Err(error) => {
                let text = trainerd_causes::one_line(&error);
                tracing::error!(error = text, "failed to take the assignment");
                self.set(number, Phase::Failed(text));
                return;
            }
        };
        tracing::info!(plan = %served.plan, units = served.owned.len(), rows = served.rows, "assigned");
        if self.set(number, Phase::Serving(Arc::clone(&served))) {
            tokio::spawn(warm(served));
        }
    }
}

/// The rows of a request in their order, and how they are sent.
type Selection = (Vec<Piece>, Shape);

impl Worker {
    /// What a ticket asks for, if there is room for another stream.
    fn open_stream(&self, ticket: &[u8]) -> Result<(Arc<Served>, Running, Selection), Status> {
        let ticket = Ticket::decode(ticket).map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.access.admit(&ticket)?;
        let served = self.served()?;
        let running = Running::new(&self.streams);
        if self.streams.load(Ordering::Relaxed) > self.config.max_streams {
            return Err(Status::resource_exhausted("too many streams"));
        }
        let asked = match &ticket.extension {
            None => {
                let positions = [ticket.range];
                let order = Order {
                    plan: (served.plan, served.rows),
                    shuffle: None,
                    positions: &positions,
                    strided: false,
                    served: &served.own,
                };
                let positions = self.config.compatibility == Compatibility::Extended;
                (stream::pieces(&order, &served.units), Shape { columns: None, batch: None, positions })
            }
            Some(extension) => extended(&served, extension)?,
        };
        Ok((served, running, asked))
    }
}

/// Compares the assignment with what this worker sees of the source.
fn served(assignment: &Assignment, chunks: Arc<Chunks>) -> Result<Served, Error> {
    let dataset = chunks.dataset().clone();
    let (units, worker, workers, rows) = match assignment {
        Assignment::Plan { header, units } => {
            let own = dataset.plan.id().to_string();
            if own != header.plan_id {
                return Err(Error::Changed(format!(
                    "the head's plan is {}, this worker's is {own}",
                    header.plan_id
                )));
            }
            let mut units = units.clone();
            units.sort_by_key(|(_, placed)| placed.first_index);
            (units, header.worker, header.workers, dataset.plan.rows())
        }
        Assignment::Files { start, end, paths, .. } => (files(&dataset, *start, *end, paths)?, 0, 1, end + 1),
    };
    let own = own(&units, worker);
    let owned =
        units.iter().filter(|(_, placed)| placed.owner == worker).map(|(number, _)| *number).collect();
    Ok(Served {
        plan: dataset.plan.id(),
        workers,
        rows,
        units,
        own,
        owned,
        chunks,
        loaded: AtomicU32::new(0),
        warm: AtomicBool::new(false),
        warming: tokio::sync::Mutex::default(),
    })
}

/// The rows of a worker, neighbours joined.
fn own(units: &[(u32, Placed)], worker: u32) -> Vec<Range> {
    let mut own: Vec<Range> = Vec::new();
    for (_, placed) in units.iter().filter(|(_, placed)| placed.owner == worker && placed.unit.rows > 0) {
        let end = placed.first_index + placed.unit.rows - 1;
        match own.last_mut() {
            Some(last) if last.end + 1 == placed.first_index => last.end = end,
            _ => own.push(Range { start: placed.first_index, end }),
        }
    }
    own
}

/// Upstream's form: these files, in the order of their paths, are these rows.
fn files(dataset: &Dataset, start: u64, end: u64, paths: &[String]) -> Result<Vec<(u32, Placed)>, Error> {
    let mut found = Vec::new();
    let mut next = start;
    for (number, unit) in (0..).zip(dataset.plan.units()) {
        if paths.contains(&unit.path) {
            found.push((number, Placed { unit: unit.clone(), first_index: next, owner: 0 }));
            next += unit.rows;
        }
    }
    if found.len() != paths.len() || (next != end + 1 && !paths.is_empty()) {
        return Err(Error::Changed(format!(
            "the assignment has {} files with {} rows; the source has {} of them with {}",
            paths.len(),
            (end + 1).saturating_sub(start),
            found.len(),
            next - start
        )));
    }
    Ok(found)
}

/// Loads what the worker owns, in the order of the index, until all of it is in memory or the budget is used up.
async fn warm(served: Arc<Served>) {
    let Ok(_turn) = served.warming.try_lock() else { return };
    served.loaded.store(0, Ordering::Relaxed);
    for unit in &served.owned {
        // Each of its loads would be a trace of its own.
        match served.chunks.scan(*unit, Context::new()).warm().await {
            Ok(true) => {
                served.loaded.fetch_add(1, Ordering::Relaxed);
            }
            Ok(false) => {
                tracing::info!("the memory is used up; further rows are read when they are asked for");
                break;
            }
            Err(error) => {
                // Whoever asks for these rows meets the same error, in his own stream.
                tracing::error!(error = trainerd_causes::one_line(&error), "failed to load a unit");
            }
        }
    }
    served.warm.store(true, Ordering::Relaxed);
}

#[async_trait]
impl Role for Worker {
    const ACTIONS: &'static [(&'static str, &'static str)] = &[
        ("status", "how the worker is, as JSON"),
        ("warm", "loads what the worker owns and does not have; the status at its beginning"),
        ("drop", "forgets the rows that are kept, in memory and on the disk; the status afterwards"),
    ];

    fn schema(&self) -> Result<SchemaRef, Status> {
        Ok(Arc::clone(&self.served()?.chunks.dataset().schema))
    }

    async fn get(&self, ticket: &[u8], span: Span) -> Result<Messages<FlightData>, Status> {
        let opened = self.open_stream(ticket);
        let (served, running, (pieces, shape)) = opened.inspect_err(|status| span.fail(status.message()))?;
        span.set(KeyValue::new("datacache.plan_id", served.plan.to_string()));
        let rows = pieces.iter().map(|piece| piece.rows).sum();
        span.set(KeyValue::new("datacache.rows", spans::number(rows)));
        let (client, messages) = mpsc::channel(WINDOW);
        tokio::spawn(stream::send(Arc::clone(&served.chunks), pieces, shape, client, span));
        // The count goes down when the client is done with the stream, or gone.
        let messages = ReceiverStream::new(messages).inspect(move |_| {
            let _running = &running;
        });
        Ok(messages.boxed())
    }

    async fn put(self: Arc<Self>, messages: Streaming<FlightData>) -> Result<(), Status> {
        let messages = messages.map_err(|status| FlightError::Tonic(Box::new(status)));
        let assignment = Assignment::read(messages)
            .await
            .map_err(|error| Status::invalid_argument(trainerd_causes::one_line(&error)))?;
        self.assign(assignment);
        Ok(())
    }

    async fn action(&self, name: &str) -> Result<Vec<serde_json::Value>, Status> {
        match name {
            "warm" => {
                tokio::spawn(warm(self.served()?));
            }
            // Streams that are open read on; what they need comes from the source again.
            "drop" => {
                let served = self.served()?;
                served.chunks.clear().await;
                served.loaded.store(0, Ordering::Relaxed);
            }
            _ => {}
        }
        Ok(vec![serde_json::json!(self.status())])
    }
}

fn extended(served: &Served, extension: &Extension) -> Result<Selection, Status> {
    let invalid = |error: crate::plan::ticket::Invalid| Status::invalid_argument(error.to_string());
    let plan = extension.plan().map_err(invalid)?;
    if plan != served.plan {
        return Err(Status::failed_precondition(format!(
            "ticket is for plan {plan}, this worker serves {}",
            served.plan
        )));
    }
    let shuffle = match extension.shuffle {
        0 => None,
        1 | 2 if extension.block_rows > 0 => Some(Shuffle {
            block_rows: extension.block_rows,
            inside: extension.shuffle == 2,
            seed: extension.seed,
            epoch: extension.epoch,
        }),
        _ => return Err(invalid(crate::plan::ticket::Invalid)),
    };
    let (positions, ranges) = (extension.positions().map_err(invalid)?, extension.served().map_err(invalid)?);
    let strided = extension.stride > 0;
    let plan = (served.plan, served.rows);
    let order = Order { plan, shuffle, positions: &positions, strided, served: &ranges };
    let schema = &served.chunks.dataset().schema;
    let columns = source::select(schema, &extension.columns)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let shape = Shape {
        columns: (columns.len() < schema.fields().len()).then_some(columns),
        batch: match (extension.batch_rows, shuffle) {
            // Single rows would be a message each.
            (0, Some(Shuffle { inside: true, block_rows, .. })) => {
                Some(Batch::AtMost(block_rows.min(SHUFFLED_ROWS)))
            }
            (0, _) => None,
            // The batches of a strided partition are at several places, and stay apart.
            (rows, _) if strided => Some(Batch::AtMost(rows)),
            (rows, _) => Some(Batch::Exact(rows)),
        },
        positions: true,
    };
    Ok((stream::pieces(&order, &served.units), shape))
}

/// Counts a stream while it is open.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
