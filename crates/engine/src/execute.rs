//! Acting: every step as soon as what it waits for holds, sixteen requests in flight, waiting by watch.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use trainerd_cluster::lease::{Fence, LeaseLost};
use trainerd_cluster::retry::Backoff;
use trainerd_cluster::{ApplyParams, Cluster, DeleteParams, Deletion, RequestError};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::order::{Role, role};
use trainerd_plan::plan::{Plan, Step, Until, Verb};
use trainerd_plan::readiness::{self, Status};
use trainerd_plan::reason::WaitingOn;

use crate::admission;
use crate::error::{EngineError, Failure, one_line};
use crate::event::{Event, Sink, millis};
use crate::live::Live;
use crate::observe::IN_FLIGHT;
use crate::walk::{Place, Walk};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long everything must stay ready at the end.
    pub settle: Duration,
    /// The plan has failed when nothing moved for this long.
    pub progress_deadline: Duration,
    /// The caller's own patience.
    pub timeout: Option<Duration>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Every step is done and stayed so.
    Done,
    /// A step failed. What was in flight was awaited; nothing else was begun.
    Failed(Failure),
    /// The caller's time was over.
    TimedOut {
        /// What was waited for.
        waiting: String,
    },
    /// The caller broke off.
    Interrupted,
}

/// Turns true when the caller wants the run to stop.
pub type Cancel = watch::Receiver<bool>;

/// Executes a plan.
///
/// Guarantees: a step's request is sent after everything in its `after` is done; no request is sent once
/// the lease is not known to be ours, or once a step has failed; every delete carries the planned uid.
///
/// # Errors
/// Only what makes going on senseless: a lost lease. What a step meets is [`Ended::Failed`].
pub(crate) async fn execute(
    cluster: &Cluster,
    plan: &Plan,
    observed: &Observed,
    guard: Option<&Fence>,
    limits: Limits,
    sink: Sink<'_>,
    cancel: &mut Cancel,
) -> Result<Ended, EngineError> {
    let now = Instant::now();
    let mut run = Run {
        cluster,
        plan,
        limits,
        sink,
        walk: Walk::new(plan),
        live: Live::new(cluster, &plan.installation, observed),
        by_key: plan.steps.iter().enumerate().map(|(index, step)| (step.object.clone(), index)).collect(),
        started: vec![now; plan.steps.len()],
        reasons: HashMap::new(),
        marks: HashMap::new(),
        progressed: now,
        failed: None,
        admissions: BTreeMap::new(),
        probing: FuturesUnordered::new(),
        settled: None,
    };
    let timeout = limits.timeout.map(|timeout| now + timeout);
    let mut writing: FuturesUnordered<BoxFuture<'_, Written>> = FuturesUnordered::new();
    loop {
        while run.failed.is_none() && writing.len() < IN_FLIGHT {
            let Some(index) = run.walk.start() else { break };
            run.started[index] = Instant::now();
            let step = &plan.steps[index];
            if step.verb.writes() {
                sink(Event::Started { object: step.object.clone(), verb: verb_name(&step.verb) });
                writing.push(Box::pin(write(
                    cluster,
                    step,
                    &plan.installation.namespace,
                    index,
                    guard,
                    sink,
                )));
            } else {
                run.walk.written(index);
                run.evaluate(index);
            }
        }
        if writing.is_empty() {
            if let Some(failure) = run.failed.take() {
                return Ok(Ended::Failed(failure));
            }
            if run.is_settled() {
                return Ok(Ended::Done);
            }
        }
        let wake = run.next_deadline(timeout);
        tokio::select! {
            Some(written) = writing.next() => run.written(written)?,
            Some((index, answer)) = run.probing.next() => run.probed(index, answer),
            event = run.live.next() => match event {
                Ok(keys) => run.observed(&keys),
                Err(failure) => run.fail(None, failure),
            },
            () = tokio::time::sleep_until(wake) => {
                let now = Instant::now();
                if timeout.is_some_and(|timeout| now >= timeout) && run.failed.is_none() {
                    return Ok(Ended::TimedOut { waiting: run.waiting() });
                }
                run.tick(now);
            }
            why = lost(guard) => return Err(EngineError::LeaseLost(why)),
            _ = cancel.wait_for(|cancelled| *cancelled) => return Ok(Ended::Interrupted),
        }
    }
}

/// The answer to a step's request.
struct Written {
    index: usize,
    answer: Result<Option<Value>, WriteError>,
}

enum WriteError {
    Request(RequestError),
    LeaseLost(LeaseLost),
}

async fn lost(guard: Option<&Fence>) -> LeaseLost {
    match guard {
        Some(guard) => guard.lost().await,
        None => std::future::pending().await,
    }
}

/// Sends a step's request, again and again while that is worth it; the run's deadlines end it.
async fn write(
    cluster: &Cluster,
    step: &Step,
    namespace: &str,
    index: usize,
    guard: Option<&Fence>,
    sink: Sink<'_>,
) -> Written {
    let mut backoff = Backoff::default();
    loop {
        if let Some(Err(error)) = guard.map(Fence::check) {
            return Written { index, answer: Err(WriteError::LeaseLost(error)) };
        }
        let error = match send(cluster, step, namespace).await {
            Ok(answer) => return Written { index, answer: Ok(answer) },
            Err(error) => error,
        };
        // A CRD is established a moment before the API server serves its objects.
        let unserved = matches!(error, RequestError::NotServed { .. });
        let Some(wait) =
            error.retry().map(|retry| retry.after.unwrap_or_default()).or(unserved.then_some(Duration::ZERO))
        else {
            return Written { index, answer: Err(WriteError::Request(error)) };
        };
        let wait = wait + backoff.next_wait();
        sink(Event::Retrying {
            object: step.object.clone(),
            error: one_line(&error),
            after_ms: millis(wait),
        });
        tokio::time::sleep(wait).await;
    }
}

async fn send(cluster: &Cluster, step: &Step, namespace: &str) -> Result<Option<Value>, RequestError> {
    let key = &step.object;
    match (&step.verb, &step.manifest) {
        // The namespace of the installation was made before the lease was taken.
        (Verb::Create, _) if role(key) == Role::Namespace && key.name == *namespace => {
            cluster.get(&step.resource, None, &key.name).await.map(Some)
        }
        (Verb::Create, Some(manifest)) => {
            cluster.apply(&step.resource, manifest, &ApplyParams::default()).await.map(Some)
        }
        (Verb::Apply { force, .. }, Some(manifest)) => {
            let params = ApplyParams { force: *force, ..ApplyParams::default() };
            cluster.apply(&step.resource, manifest, &params).await.map(Some)
        }
        (Verb::Delete { uid }, _) => {
            let params = DeleteParams { uid: Some(uid.clone()), ..DeleteParams::default() };
            match cluster.delete(&step.resource, key.namespace.as_deref(), &key.name, &params).await {
                Ok(Deletion::Accepted(object)) => Ok(Some(object)),
                Ok(Deletion::Done) => Ok(None),
                Err(error) if error.is_absent() => Ok(None),
                Err(error) => Err(error),
            }
        }
        (Verb::Keep | Verb::Create | Verb::Apply { .. }, _) => Ok(None),
    }
}

struct Run<'a> {
    cluster: &'a Cluster,
    plan: &'a Plan,
    limits: Limits,
    sink: Sink<'a>,
    walk: Walk,
    live: Live,
    by_key: HashMap<ObjectKey, usize>,
    started: Vec<Instant>,
    reasons: HashMap<usize, WaitingOn>,
    /// What each waiting object's own status said last: a change of it is progress. What its pods say is not,
    /// for a failing pod changes its words for ever.
    marks: HashMap<usize, String>,
    progressed: Instant,
    failed: Option<Failure>,
    admissions: BTreeMap<usize, Admission>,
    probing: FuturesUnordered<BoxFuture<'a, (usize, Result<(), String>)>>,
    settled: Option<Instant>,
}

/// How long a webhook may not answer before its error is shown.
const QUIET: Duration = Duration::from_secs(10);

/// Where the dry-run creates of a webhook configuration are.
enum Admission {
    /// Asked, not yet answered.
    Asked,
    /// Did not get through; asked again at that time.
    Again { at: Instant, since: Instant, backoff: Backoff, message: String },
    /// Got through.
    Through,
}

impl Run<'_> {
    fn written(&mut self, written: Written) -> Result<(), EngineError> {
        let step = &self.plan.steps[written.index];
        match written.answer {
            Ok(value) => {
                self.walk.written(written.index);
                self.progressed = Instant::now();
                match value {
                    Some(value) => self.live.put(&step.object, &step.resource, value),
                    None => self.live.forget(&step.object),
                }
                self.evaluate(written.index);
            }
            Err(WriteError::LeaseLost(error)) => return Err(EngineError::LeaseLost(error)),
            Err(WriteError::Request(source)) => {
                let failure =
                    Failure::Write { verb: verb_name(&step.verb), object: step.object.clone(), source };
                self.fail(Some(step.object.clone()), failure);
            }
        }
        Ok(())
    }

    fn fail(&mut self, object: Option<ObjectKey>, failure: Failure) {
        (self.sink)(Event::Failed { object, error: one_line(&failure) });
        self.failed.get_or_insert(failure);
    }

    /// Looks again at the steps that a change of these objects may concern.
    fn observed(&mut self, keys: &[ObjectKey]) {
        for key in keys {
            match self.by_key.get(key) {
                Some(&index) if self.walk.place(index) == Place::Waiting => self.evaluate(index),
                Some(&index) if self.walk.place(index) == Place::Done && self.walk.finished() => {
                    self.recheck(index);
                }
                _ if matches!(key.kind.as_str(), "EndpointSlice" | "Pod") => self.waiting_steps(),
                _ => {}
            }
        }
    }

    fn waiting_steps(&mut self) {
        for index in self.walk.waiting().collect::<Vec<_>>() {
            self.evaluate(index);
        }
    }

    /// Everything was done, and an object changed: what is no longer ready ends the settling.
    fn recheck(&mut self, index: usize) {
        let step = &self.plan.steps[index];
        if step.until != Until::Ready || self.settled.is_none() {
            return;
        }
        if let Some(value) = self.live.get(&step.object)
            && readiness::compute(value, jiff::Timestamp::now()).status != Status::Current
        {
            self.settled = None;
            self.walk.reopen(index);
            self.evaluate(index);
        }
    }

    /// Decides whether a written step is done, and says what it waits for if it is not.
    fn evaluate(&mut self, index: usize) {
        let step = &self.plan.steps[index];
        let verdict = match &step.until {
            Until::Ready => self.ready(step),
            Until::Admitting { services } => self.admitting(index, step, services),
            Until::Gone => Ok(self.gone(step)),
        };
        match verdict {
            Ok(None) => self.done(index),
            Ok(Some(reason)) => {
                let mark = self.mark(step, &reason);
                if self.marks.insert(index, mark.clone()).is_some_and(|before| before != mark) {
                    self.progressed = Instant::now();
                }
                if self.reasons.get(&index) != Some(&reason) {
                    self.reasons.insert(index, reason.clone());
                    (self.sink)(Event::Waiting { object: Some(step.object.clone()), on: reason });
                }
            }
            Err(failure) => self.fail(Some(step.object.clone()), failure),
        }
    }

    /// What has to change for a wait to count as moving.
    fn mark(&self, step: &Step, reason: &WaitingOn) -> String {
        match (reason, self.live.get(&step.object)) {
            (WaitingOn::Ready { .. }, Some(value)) => {
                readiness::compute(value, jiff::Timestamp::now()).message
            }
            (WaitingOn::Admission { .. }, _) => "admission".to_owned(),
            _ => reason.to_string(),
        }
    }

    fn done(&mut self, index: usize) {
        let step = &self.plan.steps[index];
        self.walk.done(index);
        self.reasons.remove(&index);
        self.progressed = Instant::now();
        if step.verb.writes() {
            (self.sink)(Event::Done {
                object: step.object.clone(),
                verb: verb_name(&step.verb),
                millis: millis(self.started[index].elapsed()),
                done: self.walk.done_count(),
                total: self.plan.steps.len(),
            });
        }
    }

    fn ready(&mut self, step: &Step) -> Result<Option<WaitingOn>, Failure> {
        let key = &step.object;
        let Some(value) = self.live.get(key) else {
            if self.live.was_deleted(key) {
                let message = "deleted by somebody else".to_owned();
                return Err(Failure::NeverReady { object: key.clone(), message });
            }
            self.live.follow(&step.resource);
            return Ok(Some(WaitingOn::Ready { object: key.clone(), message: "not seen yet".to_owned() }));
        };
        let readiness = readiness::compute(value, jiff::Timestamp::now());
        match readiness.status {
            Status::Current => Ok(None),
            Status::Failed => {
                let message = self.live.with_pods(key, readiness.message);
                Err(Failure::NeverReady { object: key.clone(), message })
            }
            Status::InProgress | Status::Terminating => {
                self.live.follow(&step.resource);
                if role(key) == Role::Crd {
                    return Ok(Some(WaitingOn::CrdEstablished { crd: key.name.clone() }));
                }
                if role(key) == Role::Workload {
                    self.live.follow_pods(key.namespace.as_deref());
                }
                let message = self.live.with_pods(key, readiness.message);
                Ok(Some(WaitingOn::Ready { object: key.clone(), message }))
            }
        }
    }

    fn admitting(
        &mut self,
        index: usize,
        step: &Step,
        services: &[String],
    ) -> Result<Option<WaitingOn>, Failure> {
        for service in services {
            self.live.follow_endpoints(service);
            if !self.live.has_endpoint(service) {
                return Ok(Some(WaitingOn::WebhookEndpoint { service: service.clone() }));
            }
        }
        if let Some(WaitingOn::Ready { object, .. }) = self.ready(step)? {
            return Ok(Some(WaitingOn::CaBundle { object }));
        }
        let waiting = |message: &str| {
            Ok(Some(WaitingOn::Admission { object: step.object.clone(), message: message.to_owned() }))
        };
        match self.admissions.get(&index) {
            Some(Admission::Through) => Ok(None),
            // Routes to a new endpoint take a moment to be laid; only what lasts is worth its words.
            Some(Admission::Again { since, message, .. }) if since.elapsed() > QUIET => waiting(message),
            Some(_) => waiting("not answering yet"),
            None => {
                self.ask(index);
                waiting("not answering yet")
            }
        }
    }

    fn ask(&mut self, index: usize) {
        let configuration = self.live.get(&self.plan.steps[index].object).cloned().unwrap_or_default();
        let probes = admission::probes(&configuration, self.plan);
        self.admissions.insert(index, Admission::Asked);
        let cluster = self.cluster;
        self.probing.push(Box::pin(async move { (index, admission::ask(cluster, &probes).await) }));
    }

    fn probed(&mut self, index: usize, answer: Result<(), String>) {
        let state = match answer {
            Ok(()) => Admission::Through,
            Err(message) => {
                let now = Instant::now();
                let (since, mut backoff) = match self.admissions.remove(&index) {
                    Some(Admission::Again { since, backoff, .. }) => (since, backoff),
                    _ => (now, Backoff::new(Duration::from_millis(100), Duration::from_secs(2))),
                };
                Admission::Again { at: now + backoff.next_wait(), since, backoff, message }
            }
        };
        self.admissions.insert(index, state);
        if self.walk.place(index) == Place::Waiting {
            self.evaluate(index);
        }
    }

    fn gone(&mut self, step: &Step) -> Option<WaitingOn> {
        let Verb::Delete { uid } = &step.verb else { return None };
        let value = self.live.get(&step.object)?;
        if value["metadata"]["uid"].as_str() != Some(uid) {
            return None;
        }
        let finalizers = value["metadata"]["finalizers"].as_array().into_iter().flatten();
        let finalizers = finalizers.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        self.live.follow_all(&step.resource);
        Some(WaitingOn::Deleted { object: step.object.clone(), finalizers })
    }

    /// Whether everything is done and was so for as long as it has to be.
    fn is_settled(&mut self) -> bool {
        if !self.walk.finished() {
            self.settled = None;
            return false;
        }
        if self.limits.settle.is_zero() || self.plan.is_empty() || !self.live.follows_anything() {
            return true;
        }
        let until = *self.settled.get_or_insert_with(|| {
            let seconds = self.limits.settle.as_secs();
            (self.sink)(Event::Waiting { object: None, on: WaitingOn::Settling { seconds } });
            Instant::now() + self.limits.settle
        });
        Instant::now() >= until
    }

    fn next_deadline(&self, timeout: Option<Instant>) -> Instant {
        let again = self.admissions.values().filter_map(|admission| match admission {
            Admission::Again { at, .. } => Some(*at),
            Admission::Asked | Admission::Through => None,
        });
        let deadlines = [Some(self.progressed + self.limits.progress_deadline), timeout, self.settled];
        let soonest = deadlines.into_iter().flatten().chain(again).min();
        soonest.unwrap_or_else(|| Instant::now() + self.limits.progress_deadline)
    }

    fn tick(&mut self, now: Instant) {
        let due: Vec<usize> = self
            .admissions
            .iter()
            .filter(|(_, admission)| matches!(admission, Admission::Again { at, .. } if *at <= now))
            .map(|(index, _)| *index)
            .collect();
        for index in due {
            self.again(index);
        }
        if now >= self.progressed + self.limits.progress_deadline
            && self.settled.is_none()
            && self.failed.is_none()
        {
            let seconds = self.limits.progress_deadline.as_secs();
            let failure = Failure::NoProgress { seconds, waiting: self.waiting() };
            self.fail(None, failure);
        }
    }

    /// Asks once more, keeping the backoff.
    fn again(&mut self, index: usize) {
        let Some(Admission::Again { since, backoff, message, .. }) = self.admissions.remove(&index) else {
            return;
        };
        self.ask(index);
        // Not due again before this answer is in.
        let at = Instant::now() + Duration::from_hours(1);
        self.admissions.insert(index, Admission::Again { at, since, backoff, message });
    }

    /// What the run waits for, in one line.
    fn waiting(&self) -> String {
        let mut indexes: Vec<_> = self.reasons.keys().copied().collect();
        indexes.sort_unstable();
        let reasons: Vec<_> = indexes.iter().map(|index| self.reasons[index].to_string()).collect();
        if reasons.is_empty() { "an answer of the API server".to_owned() } else { reasons.join("; ") }
    }
}

/// What a step does, in the words of events and errors.
pub(crate) fn verb_name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Create => "create",
        Verb::Apply { .. } => "apply",
        Verb::Keep => "keep",
        Verb::Delete { .. } => "delete",
    }
}
