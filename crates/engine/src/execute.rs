//! Acting: every step as soon as what it waits for holds, sixteen requests in flight, waiting by watch.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use trainerd_causes::one_line;
use trainerd_cluster::Cluster;
use trainerd_cluster::lease::{Fence, LeaseLost};
use trainerd_cluster::retry::Backoff;
use trainerd_plan::object::ObjectKey;
use trainerd_plan::observed::Observed;
use trainerd_plan::order::{ObjectClass, object_class};
use trainerd_plan::plan::{Plan, Step, Until, Verb};
use trainerd_plan::readiness::{self, Status};
use trainerd_plan::reason::WaitingOn;

use crate::error::{EngineError, Failure};
use crate::event::{Event, Sink, millis};
use crate::live::Live;
use crate::observe::IN_FLIGHT;
use crate::step_graph::{StepGraph, StepState};
use crate::waits::Waits;
use crate::webhook_probe;
use crate::write::{Written, verb_name, write};
use crate::write_error::WriteError;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long everything must stay ready at the end.
    pub settle: Duration,
    /// The plan has failed when nothing moved for this long.
    pub progress_deadline: Duration,
    /// When the caller's own patience is over.
    pub deadline: Option<Instant>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Every step is done and stayed so.
    Done,
    /// A step failed. What was in flight was awaited; nothing else was begun.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether all that was left to do is wait for deleted objects to be gone.
        pruning: bool,
    },
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
/// Only what makes continuing senseless: a lost lease. What a step meets is [`Ended::Failed`].
pub(crate) async fn execute(
    cluster: &Cluster,
    plan: &Plan,
    observed: Observed,
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
        graph: StepGraph::new(plan),
        live: Live::new(cluster, &plan.installation, observed),
        by_key: steps_by_key(plan),
        started: vec![now; plan.steps.len()],
        waits: Waits::default(),
        marks: HashMap::new(),
        progressed: now,
        follows_all: false,
        ending: None,
        yielded: None,
        webhook_probes: BTreeMap::new(),
        probing: FuturesUnordered::new(),
        settled: None,
        patience: webhook_probe::SHORTEST,
    };
    for note in &plan.notes {
        tracing::info!("{note}");
    }
    // What goes is followed where it does not go at once.
    let stays = |step: &&Step| {
        !matches!(step.verb, Verb::Delete { .. }) && object_class(&step.object) == ObjectClass::Workload
    };
    for step in plan.steps.iter().filter(|_| !plan.is_empty()).filter(stays) {
        run.live.follow(&step.resource);
    }
    let (halt, halted) = watch::channel(false);
    let mut writing: FuturesUnordered<BoxFuture<'_, Written>> = FuturesUnordered::new();
    loop {
        while run.ending.is_none() && writing.len() < IN_FLIGHT {
            let Some(index) = run.graph.start() else { break };
            run.started[index] = Instant::now();
            let step = &plan.steps[index];
            if step.verb.writes() {
                let (component, object) = (step.component.clone(), step.object.clone());
                sink(Event::Started { component, object, verb: verb_name(&step.verb) });
                let namespace = &plan.installation.namespace;
                writing.push(Box::pin(write(cluster, step, namespace, index, guard, sink, halted.clone())));
            } else {
                run.graph.written(index);
                run.evaluate(index);
            }
        }
        if run.ending.is_some() {
            // Requests in flight are awaited, so that none arrives after the next writer began.
            halt.send_replace(true);
        }
        if writing.is_empty() {
            if run.ending.is_none() && run.is_settled() {
                return Ok(Ended::Done);
            }
            // The last check may have found an error, too.
            if let Some(ended) = run.ending.take() {
                return run.yielded.take().map_or(Ok(ended), |why| Err(EngineError::LeaseLost(why)));
            }
        }
        let ending = run.ending.is_some();
        let wake = run.next_deadline();
        tokio::select! {
            Some(written) = writing.next() => run.written(written)?,
            Some((index, answer)) = run.probing.next() => run.probed(index, answer),
            event = run.live.next() => match event {
                Ok(keys) => run.observed(&keys),
                Err(failure) => run.fail(None, failure),
            },
            () = tokio::time::sleep_until(wake), if !ending => run.tick(Instant::now()),
            why = lost(guard), if run.yielded.is_none() => run.lost(why)?,
            _ = cancel.wait_for(|cancelled| *cancelled), if !ending => run.ending = Some(Ended::Interrupted),
        }
    }
}

/// The steps of each object: two if it is deleted and recreated.
fn steps_by_key(plan: &Plan) -> HashMap<ObjectKey, Vec<usize>> {
    let mut by_key: HashMap<ObjectKey, Vec<usize>> = HashMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        by_key.entry(step.object.clone()).or_default().push(index);
    }
    by_key
}

async fn lost(guard: Option<&Fence>) -> LeaseLost {
    match guard {
        Some(guard) => guard.lost().await,
        None => std::future::pending().await,
    }
}

struct Run<'a> {
    cluster: &'a Cluster,
    plan: &'a Plan,
    limits: Limits,
    sink: Sink<'a>,
    graph: StepGraph,
    live: Live,
    by_key: HashMap<ObjectKey, Vec<usize>>,
    started: Vec<Instant>,
    waits: Waits,
    /// What each waiting object's own status said last: a change of it is progress. What its pods say is not,
    /// for a failing pod changes its words for ever.
    marks: HashMap<usize, String>,
    progressed: Instant,
    /// Whether every kind of the plan is followed.
    follows_all: bool,
    /// How the run will end once requests in flight have completed.
    ending: Option<Ended>,
    /// Who gets the lease then.
    yielded: Option<LeaseLost>,
    webhook_probes: BTreeMap<usize, ProbeState>,
    probing: FuturesUnordered<BoxFuture<'a, (usize, Result<(), String>)>>,
    settled: Option<Instant>,
    /// How long the next dry-run create may take.
    patience: Duration,
}

/// How long nothing may move before more is looked at: a webhook's error is shown, and every kind of the plan is
/// followed.
const QUIET: Duration = Duration::from_secs(10);

/// Where the dry-run creates of a webhook configuration are.
enum ProbeState {
    /// Sent, not yet answered; with the refusal before, if there was one.
    Pending(Option<Refusal>),
    /// Did not get through; asked again at that time.
    Again { at: Instant, refusal: Refusal },
    /// Got through.
    Through,
}

/// Dry-run creates that do not get through.
struct Refusal {
    /// When the first did not.
    since: Instant,
    /// Waits between them.
    backoff: Backoff,
    /// What the last was answered.
    message: String,
}

impl Run<'_> {
    /// The lease is lost; a yielded one is ours until requests in flight have completed.
    fn lost(&mut self, why: LeaseLost) -> Result<(), EngineError> {
        if !matches!(why, LeaseLost::Yielded { .. }) {
            return Err(EngineError::LeaseLost(why));
        }
        self.yielded = Some(why);
        self.ending = Some(Ended::Interrupted);
        Ok(())
    }

    fn written(&mut self, written: Written) -> Result<(), EngineError> {
        let step = &self.plan.steps[written.index];
        match written.answer {
            Ok(value) => {
                self.graph.written(written.index);
                self.progressed = Instant::now();
                // Kinds without grace answer a delete with the object as it was: it is gone.
                let gone = |value: &Value| {
                    matches!(step.verb, Verb::Delete { .. })
                        && value["metadata"]["deletionTimestamp"].is_null()
                };
                match value.filter(|value| !gone(value)) {
                    Some(value) => self.live.put(&step.object, &step.resource, value),
                    None => self.live.forget(&step.object),
                }
                self.evaluate(written.index);
            }
            Err(WriteError::LeaseLost(error)) => self.lost(error)?,
            Err(WriteError::ChangedHands) => {
                let failure = Failure::ChangedHands { object: step.object.clone() };
                self.fail(Some(step.object.clone()), failure);
            }
            Err(WriteError::Overtaken { owner }) => {
                let failure = Failure::Overtaken { object: step.object.clone(), owner };
                self.fail(Some(step.object.clone()), failure);
            }
            Err(WriteError::NotGivenBack(source)) => {
                let failure = Failure::NotGivenBack { object: step.object.clone(), source };
                self.fail(Some(step.object.clone()), failure);
            }
            Err(WriteError::Request(source)) => {
                let failure =
                    Failure::Write { verb: verb_name(&step.verb), object: step.object.clone(), source };
                self.fail(Some(step.object.clone()), failure);
            }
        }
        Ok(())
    }

    fn fail(&mut self, object: Option<ObjectKey>, failure: Failure) {
        // The first failure is the one that counts; those of the stop that it caused are not news.
        if self.ending.is_none() {
            // A change by another actor need not end the run: the caller decides.
            if failure.overtaken().is_none() {
                (self.sink)(Event::Failed { object, error: one_line(&failure) });
            }
            let left = |index: &usize| self.graph.state(*index) != StepState::Done;
            let pruning = (0..self.plan.steps.len())
                .filter(left)
                .all(|index| self.plan.steps[index].until == Until::Gone);
            self.ending = Some(Ended::Failed { failure, pruning });
        }
    }

    /// Looks again at the steps that a change of these objects may concern.
    fn observed(&mut self, keys: &[ObjectKey]) {
        for key in keys {
            for index in self.by_key.get(key).cloned().unwrap_or_default() {
                match self.graph.state(index) {
                    StepState::Waiting => self.evaluate(index),
                    // What waits for it would wait in vain.
                    StepState::Done if self.is_deleted(index) => {
                        let object = key.clone();
                        self.fail(Some(key.clone()), Failure::Deleted { object });
                    }
                    StepState::Done if self.settled.is_some() => self.recheck(index),
                    _ => {}
                }
            }
            if matches!(key.kind.as_str(), "EndpointSlice" | "Pod") {
                self.waiting_steps();
            }
        }
    }

    fn waiting_steps(&mut self) {
        for index in self.graph.waiting().collect::<Vec<_>>() {
            self.evaluate(index);
        }
    }

    /// After the last step an object changed: if it is no longer ready, settling ends.
    fn recheck(&mut self, index: usize) {
        if self.is_ready_now(index) {
            return;
        }
        self.settled = None;
        self.graph.reopen(index);
        self.evaluate(index);
    }

    /// Whether a required object was deleted.
    fn is_deleted(&self, index: usize) -> bool {
        let step = &self.plan.steps[index];
        step.until != Until::Gone
            && self.live.get(&step.object).is_none()
            && self.live.was_deleted(&step.object)
    }

    /// Whether a required object is ready by its last observation.
    fn is_ready_now(&self, index: usize) -> bool {
        let step = &self.plan.steps[index];
        step.until != Until::Ready
            || self.live.get(&step.object).is_some_and(|value| {
                readiness::compute(value, jiff::Timestamp::now()).status == Status::Current
            })
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
                let now = Instant::now();
                self.waits.note(index, reason, object_class(&step.object) == ObjectClass::Webhook, now);
                self.tell(now);
            }
            Err(failure) => self.fail(Some(step.object.clone()), failure),
        }
    }

    /// Reports what steps wait for, when due.
    fn tell(&mut self, now: Instant) {
        for (index, on) in self.waits.due_to_report(now) {
            let object = Some(self.plan.steps[index].object.clone());
            (self.sink)(Event::Waiting { object, on });
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
        self.graph.done(index);
        let waited = self.waits.end(index);
        self.progressed = Instant::now();
        // Unchanged objects are not reported, unless a wait for them was: then its end is.
        if step.verb.writes() || waited {
            (self.sink)(Event::Done {
                object: step.object.clone(),
                verb: verb_name(&step.verb),
                millis: millis(self.started[index].elapsed()),
                done: self.graph.done_count(),
                total: self.plan.steps.len(),
            });
        }
    }

    fn ready(&mut self, step: &Step) -> Result<Option<WaitingOn>, Failure> {
        let key = &step.object;
        let Some(value) = self.live.get(key) else {
            if self.live.was_deleted(key) {
                return Err(Failure::Deleted { object: key.clone() });
            }
            self.live.follow(&step.resource);
            return Ok(Some(WaitingOn::ready(key.clone(), "not seen yet")));
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
                if object_class(key) == ObjectClass::Crd {
                    return Ok(Some(WaitingOn::CrdEstablished { crd: key.name.clone() }));
                }
                if object_class(key) == ObjectClass::Workload {
                    self.live.follow_pods(key.namespace.as_deref());
                }
                let workload = self.live.workload(key);
                let message = self.live.with_pods(key, readiness.message);
                Ok(Some(WaitingOn::Ready { object: key.clone(), message, workload }))
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
        match self.webhook_probes.get(&index) {
            Some(ProbeState::Through) => Ok(None),
            // Routes to a new endpoint take a moment to be laid; only what lasts is worth its words.
            Some(ProbeState::Again { refusal, .. } | ProbeState::Pending(Some(refusal)))
                if refusal.since.elapsed() > QUIET =>
            {
                waiting(&refusal.message)
            }
            Some(_) => waiting("no answer yet"),
            None => {
                self.ask(index, None);
                waiting("no answer yet")
            }
        }
    }

    fn ask(&mut self, index: usize, refusal: Option<Refusal>) {
        let configuration = self.live.get(&self.plan.steps[index].object).cloned().unwrap_or_default();
        let probes = webhook_probe::probes(&configuration, self.plan);
        self.webhook_probes.insert(index, ProbeState::Pending(refusal));
        let cluster = self.cluster;
        let patience = self.patience;
        // A webhook may be slow rather than unreachable: the next probe waits longer.
        self.patience = (patience * 2).min(webhook_probe::LONGEST);
        self.probing
            .push(Box::pin(async move { (index, webhook_probe::ask(cluster, &probes, patience).await) }));
    }

    fn probed(&mut self, index: usize, answer: Result<(), String>) {
        let state = match answer {
            Ok(()) => ProbeState::Through,
            Err(message) => {
                let now = Instant::now();
                let (since, mut backoff) = match self.webhook_probes.remove(&index) {
                    Some(ProbeState::Pending(Some(refusal))) => (refusal.since, refusal.backoff),
                    _ => (now, Backoff::new(Duration::from_millis(100), Duration::from_secs(2))),
                };
                let at = now + backoff.next_wait();
                ProbeState::Again { at, refusal: Refusal { since, backoff, message } }
            }
        };
        self.webhook_probes.insert(index, state);
        if self.graph.state(index) == StepState::Waiting {
            self.evaluate(index);
        }
    }

    fn gone(&mut self, step: &Step) -> Option<WaitingOn> {
        let value = self.live.get(&step.object)?;
        let other = match &step.verb {
            Verb::Delete { uid, .. } => value["metadata"]["uid"].as_str() != Some(uid),
            // A deletion by another actor is awaited, whatever exists afterwards.
            _ => value["metadata"]["deletionTimestamp"].is_null(),
        };
        if other {
            return None;
        }
        let finalizers = value["metadata"]["finalizers"].as_array().into_iter().flatten();
        let finalizers = finalizers.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        self.live.follow_all(&step.resource);
        Some(WaitingOn::Deleted { object: step.object.clone(), finalizers })
    }

    /// Whether everything is done and was so for as long as it has to be.
    fn is_settled(&mut self) -> bool {
        if !self.graph.finished() || !self.live.is_current() {
            self.settled = None;
            return false;
        }
        if self.settled.is_none() {
            // A step is done when it was ready once; the plan is done when all are so together.
            let regressed: Vec<usize> =
                (0..self.plan.steps.len()).filter(|index| !self.is_ready_now(*index)).collect();
            for index in &regressed {
                self.graph.reopen(*index);
                self.evaluate(*index);
            }
            if !regressed.is_empty() {
                return false;
            }
        }
        if self.limits.settle.is_zero() || self.plan.is_empty() {
            return true;
        }
        let until = *self.settled.get_or_insert_with(|| {
            let seconds = self.limits.settle.as_secs();
            (self.sink)(Event::Waiting { object: None, on: WaitingOn::Settling { seconds } });
            Instant::now() + self.limits.settle
        });
        Instant::now() >= until
    }

    fn next_deadline(&self) -> Instant {
        let again = self.webhook_probes.values().filter_map(|admission| match admission {
            ProbeState::Again { at, .. } => Some(*at),
            ProbeState::Pending(_) | ProbeState::Through => None,
        });
        let patience = if self.follows_all { self.limits.progress_deadline } else { QUIET };
        let own = self.settled.unwrap_or(self.progressed + patience.min(self.limits.progress_deadline));
        again.chain(self.waits.due()).chain(self.limits.deadline).fold(own, Instant::min)
    }

    fn tick(&mut self, now: Instant) {
        if self.limits.deadline.is_some_and(|deadline| now >= deadline) {
            self.ending = Some(Ended::TimedOut { waiting: self.waits.text() });
            return;
        }
        self.tell(now);
        let due: Vec<usize> = self
            .webhook_probes
            .iter()
            .filter(|(_, admission)| matches!(admission, ProbeState::Again { at, .. } if *at <= now))
            .map(|(index, _)| *index)
            .collect();
        for index in due {
            self.again(index);
        }
        if self.settled.is_some() {
            return;
        }
        if now >= self.progressed + QUIET && !std::mem::replace(&mut self.follows_all, true) {
            // What is waited for may wait itself for something that was left as it was, and that somebody deleted
            // since: a Service, a Secret of a pod.
            let steps =
                self.plan.steps.iter().filter(|step| object_class(&step.object) != ObjectClass::Namespace);
            steps.for_each(|step| self.live.follow_by_the_way(&step.resource));
        }
        if now >= self.progressed + self.limits.progress_deadline {
            let seconds = self.limits.progress_deadline.as_secs();
            let failure = Failure::NoProgress { seconds, waiting: self.waits.text() };
            self.fail(None, failure);
        }
    }

    /// Asks once more, keeping the backoff.
    fn again(&mut self, index: usize) {
        if let Some(ProbeState::Again { refusal, .. }) = self.webhook_probes.remove(&index) {
            self.ask(index, Some(refusal));
        }
    }
}
