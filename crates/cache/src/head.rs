//! The head: plans, tells workers what is theirs, and tells clients where rows are.
//!
//! `Resolving → Planning → Counting → Assigning → Ready ⇄ Degraded`, or `Failed`. A head that starts
//! again makes the same plan and keeps what its workers have in memory.

mod address;
mod answer;
mod channel;
mod connection;
mod described;
mod reason;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_flight::{FlightDescriptor, FlightInfo};
use async_trait::async_trait;
use opentelemetry::KeyValue;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tonic::Status;

use crate::access::Access;
use crate::arrow::SchemaRef;
use crate::assign::{Assignment as Message, Header};
use crate::backoff::Backoff;
use crate::config::{Compatibility, Config, ReadyWhen};
use crate::flight::Role;
use crate::plan::assignment::Rule;
use crate::plan::{Assignment, Placed};
use crate::source::{self, Dataset, Error, Kind, Progress, Stage};
use crate::spans::{self, Span};
use crate::store::Stores;
use crate::worker::{State, WorkerStatus};
pub use address::{Address, Error as AddressError, addresses};
pub use reason::Reason;

/// Version of the plan's messages.
const VERSION: u32 = 1;

/// What is known of a worker.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Where it is.
    pub address: String,
    /// Whether it answers and has its assignment.
    pub is_up: bool,
    /// Why it is not, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it last said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<WorkerStatus>,
}

/// How the head is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadStatus {
    /// `Resolving`, `Planning`, `Counting`, `Assigning`, `Ready`, `Degraded` or `Failed`.
    pub state: &'static str,
    /// What it waits for, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Rows of the dataset.
    pub rows: u64,
    /// Units of the plan.
    pub units: usize,
    /// Its workers.
    pub workers: Vec<Seen>,
}

/// The plan with its division among the workers.
struct Planned {
    dataset: Dataset,
    assignment: Assignment,
    /// As workers get them: each unit with its number in the plan.
    units: Vec<(u32, Placed)>,
}

enum Phase {
    Resolving(Reason),
    Planned(Arc<Planned>),
    Failed(Reason),
}

/// A head.
pub struct Head {
    config: Config,
    access: Access,
    /// How workers are reached where they have TLS.
    connector: Option<TlsConnector>,
    stores: Stores,
    workers: Vec<Address>,
    phase: Mutex<Phase>,
    progress: Progress,
    seen: Mutex<Vec<Seen>>,
    /// Set once all workers had their assignment.
    was_ready: Mutex<bool>,
}

impl std::fmt::Debug for Head {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Head").field("workers", &self.workers).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Head {
    /// Of these workers, which are reached by this connector where they have TLS.
    pub fn new(
        config: Config,
        access: Access,
        connector: Option<TlsConnector>,
        stores: Stores,
        workers: Vec<Address>,
    ) -> Arc<Self> {
        let seen = workers.iter().map(|address| Seen {
            address: address.to_string(),
            is_up: false,
            reason: Some("the plan is not made yet".to_owned()),
            status: None,
        });
        let seen = Mutex::new(seen.collect());
        let phase = Mutex::new(Phase::Resolving(Reason::Opening));
        let (progress, was_ready) = (Progress::default(), Mutex::new(false));
        Arc::new(Self { config, access, connector, stores, workers, phase, progress, seen, was_ready })
    }

    /// Plans and then keeps the workers assigned. It ends only where what is configured does not fit the source; any other
    /// plan that failed stays to be seen in the status.
    pub async fn run(self: Arc<Self>) -> Error {
        let planned = match self.plan().await {
            Ok(planned) => planned,
            Err(error) if error.is_configuration() => return error,
            Err(_) => std::future::pending().await,
        };
        let mut connections = tokio::task::JoinSet::new();
        for (id, address) in (0..).zip(self.workers.clone()) {
            connections.spawn(connection::keep(Arc::clone(&self), Arc::clone(&planned), id, address));
        }
        // None of them ends but by a panic, which ends the process: a worker that nobody looks after is never ready.
        while let Some(ended) = connections.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        std::future::pending().await
    }

    async fn plan(&self) -> Result<Arc<Planned>, Error> {
        let workers = u32::try_from(self.workers.len()).unwrap_or(u32::MAX);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let meters = self.stores.meters();
        let span = Span::internal(
            "plan",
            &trainerd_traces::remote(self.config.traceparent.as_deref(), None),
            vec![KeyValue::new("datacache.workers", i64::from(workers))],
        );
        loop {
            let begun = Instant::now();
            let counts = (&[][..], &self.progress);
            match source::open_observed(&self.config, &self.stores, workers, counts).await {
                Ok(dataset) => {
                    let planned = Arc::new(self.divide(dataset, workers));
                    if let Some(meters) = meters {
                        meters.planned(begun.elapsed());
                    }
                    tracing::info!(
                        plan = %planned.dataset.plan.id(),
                        rows = planned.dataset.plan.rows(),
                        units = planned.units.len(),
                        workers,
                        "planned"
                    );
                    span.set(KeyValue::new("datacache.plan_id", planned.dataset.plan.id().to_string()));
                    span.set(KeyValue::new("datacache.rows", spans::number(planned.dataset.plan.rows())));
                    *locked(&self.phase) = Phase::Planned(Arc::clone(&planned));
                    return Ok(planned);
                }
                Err(error) => {
                    self.progress.reset();
                    let text = trainerd_causes::one_line(&error);
                    if let Some(meters) = meters {
                        meters.failed(error.kind());
                    }
                    if error.kind() != Kind::Unreachable {
                        tracing::error!(error = text, "failed to plan");
                        span.fail(&text);
                        *locked(&self.phase) = Phase::Failed(Reason::of(&error));
                        return Err(error);
                    }
                    tracing::warn!(error = text, "failed to reach the source; trying again");
                    *locked(&self.phase) = Phase::Resolving(Reason::of(&error));
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    fn divide(&self, dataset: Dataset, workers: u32) -> Planned {
        let rule = match self.config.compatibility {
            Compatibility::Extended => Rule::Contiguous,
            Compatibility::Upstream => Rule::Largest,
        };
        let assignment = Assignment::new(&dataset.plan, rule, workers);
        let number = |placed: &Placed| dataset.plan.units().binary_search(&placed.unit).unwrap_or_default();
        let numbered = assignment
            .units()
            .iter()
            .map(|placed| (u32::try_from(number(placed)).unwrap_or(u32::MAX), placed.clone()));
        Planned { units: numbered.collect(), assignment, dataset }
    }

    /// What worker `id` is told.
    fn message(&self, planned: &Planned, id: u32) -> Message {
        let own =
            planned.assignment.workers().iter().find(|worker| worker.id == id).and_then(|worker| worker.rows);
        match (self.config.compatibility, own) {
            (Compatibility::Upstream, Some(own)) => Message::Files {
                worker: u64::from(id),
                start: own.start,
                end: own.end,
                paths: planned
                    .assignment
                    .units()
                    .iter()
                    .filter(|placed| placed.owner == id)
                    .map(|placed| placed.unit.path.clone())
                    .collect(),
            },
            _ => Message::Plan {
                header: Header {
                    version: VERSION,
                    plan_id: planned.dataset.plan.id().to_string(),
                    workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
                    worker: id,
                    snapshot: planned.dataset.snapshot,
                },
                units: planned.units.clone(),
            },
        }
    }

    fn set(&self, id: u32, is_up: bool, reason: Option<&Reason>, status: Option<WorkerStatus>) {
        let reason = reason.map(Reason::to_string);
        let mut all = locked(&self.seen);
        let Some(seen) = usize::try_from(id).ok().and_then(|id| all.get_mut(id)) else { return };
        if seen.is_up != is_up || (!is_up && seen.reason != reason) {
            match (&reason, is_up) {
                (_, true) => {
                    tracing::info!(worker = id, address = seen.address, "the worker has its assignment");
                }
                (reason, false) => tracing::warn!(
                    worker = id,
                    address = seen.address,
                    reason = reason.as_deref().unwrap_or_default(),
                    "the worker does not serve"
                ),
            }
        }
        (seen.is_up, seen.reason) = (is_up, reason);
        if status.is_some() {
            seen.status = status;
        }
        let is_done = |seen: &Seen| {
            seen.is_up
                && (self.config.ready_when == ReadyWhen::Planned
                    // One of upstream's, which has no status, acknowledges when it has loaded.
                    || seen.status.as_ref().is_none_or(|status| status.state == State::Warm))
        };
        if all.iter().all(is_done) {
            *locked(&self.was_ready) = true;
        }
    }

    /// How it is.
    pub fn status(&self) -> HeadStatus {
        let workers = locked(&self.seen).clone();
        let is_whole = workers.iter().all(|seen| seen.is_up);
        let was_ready = *locked(&self.was_ready);
        let waiting = || {
            let down = workers.iter().find(|seen| !seen.is_up);
            down.and_then(|seen| seen.reason.clone())
        };
        let loading = || {
            let mut loading = (0..).zip(&workers).filter_map(|(id, seen)| {
                let status = seen.status.as_ref().filter(|status| status.state != State::Warm)?;
                let why = format!("{}: {} of {} units are loaded", seen.address, status.loaded, status.units);
                Some(Reason::WorkerLoading { id, why }.to_string())
            });
            loading.next()
        };
        let (state, reason, planned) = match &*locked(&self.phase) {
            Phase::Resolving(reason) => {
                let (state, reason) = match self.progress.stage() {
                    Stage::Resolving => ("Resolving", reason.to_string()),
                    Stage::Planning => ("Planning", Reason::Planning.to_string()),
                    Stage::Counting { counted, rows } => {
                        ("Counting", Reason::CountingRows { counted, rows }.to_string())
                    }
                };
                (state, Some(reason), None)
            }
            Phase::Failed(reason) => ("Failed", Some(reason.to_string()), None),
            Phase::Planned(planned) => {
                let (state, reason) = match (was_ready, is_whole) {
                    (false, true) => ("Assigning", loading()),
                    (false, false) => ("Assigning", waiting()),
                    (true, true) => ("Ready", None),
                    (true, false) => ("Degraded", waiting()),
                };
                (state, reason, Some(Arc::clone(planned)))
            }
        };
        HeadStatus {
            state,
            reason,
            plan_id: planned.as_ref().map(|planned| planned.dataset.plan.id().to_string()),
            rows: planned.as_ref().map_or(0, |planned| planned.dataset.plan.rows()),
            units: planned.as_ref().map_or(0, |planned| planned.units.len()),
            workers,
        }
    }

    /// Whether rows are served to whoever reaches a port, or over a line that anybody reads.
    pub fn is_insecure(&self) -> bool {
        self.access.0.is_none() || self.config.tls.is_none()
    }

    /// Whether clients are answered; else why not.
    pub fn ready(&self) -> Result<(), String> {
        self.planned().map(drop).map_err(|status| status.message().to_owned())
    }

    /// The plan, once rows can be had.
    fn planned(&self) -> Result<Arc<Planned>, Status> {
        let status = self.status();
        let planned = match &*locked(&self.phase) {
            Phase::Planned(planned) => Arc::clone(planned),
            Phase::Resolving(_) | Phase::Failed(_) => {
                let reason = status.reason.unwrap_or_default();
                return Err(Status::unavailable(format!("cache is not ready: {reason}")));
            }
        };
        if *locked(&self.was_ready) {
            return Ok(planned);
        }
        Err(Status::unavailable(format!("cache is not ready: {}", status.reason.unwrap_or_default())))
    }
}

#[async_trait]
impl Role for Head {
    const ACTIONS: &'static [(&'static str, &'static str)] = &[
        ("status", "how head and workers are, as JSON"),
        (
            "plan",
            "the plan as JSON: what it is of, then its units with their rows and owners, a thousand an answer",
        ),
    ];

    fn schema(&self) -> Result<SchemaRef, Status> {
        Ok(Arc::clone(&self.planned()?.dataset.schema))
    }

    fn flight_info(&self, descriptor: FlightDescriptor) -> Result<FlightInfo, Status> {
        let request = answer::Request::read(&descriptor)?;
        let planned = self.planned()?;
        let up: Vec<bool> = locked(&self.seen).iter().map(|seen| seen.is_up).collect();
        let seen = (self.workers.as_slice(), up.as_slice());
        answer::answer((&self.config, &self.access), &planned, seen, &request, descriptor)
    }

    async fn action(&self, name: &str) -> Result<Vec<Value>, Status> {
        if name == "plan" {
            let planned = self.planned()?;
            return Ok(described::plan(&planned));
        }
        Ok(vec![json!(self.status())])
    }
}
