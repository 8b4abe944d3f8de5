//! One service: the task around its machine.

use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trainerd_causes::one_line;

use crate::check::{Check, CheckCount, Health, OnFailure};
use crate::graph::After;
use crate::guard::Guard;
use crate::http;
use crate::machine::{Action, Event, Machine, State};
use crate::policy::Policy;
use crate::process::{Launch, LaunchError, Process, ending};
use crate::report::{Cause, CheckReport, Failure, Report, ServiceState};
use crate::ring::Ring;

/// Lines of the log that a failure is told with.
const LOG_LINES: usize = 20;

/// What a start is made of: asked for at each one, for what a process needs may be another each time.
pub type Prepare = Arc<dyn Fn() -> Result<Launch, LaunchError> + Send + Sync>;

/// A service.
#[derive(Clone)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// How it is started, restarted and stopped.
    pub policy: Policy,
    /// What it waits for before its start.
    pub after: Vec<After>,
    /// What it is started with.
    pub prepare: Prepare,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

/// What is wanted of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) run: bool,
    /// Another number is another command line.
    pub(crate) generation: u64,
}

/// Another service that this one is started after.
pub(crate) struct Dependency {
    pub(crate) after: After,
    pub(crate) report: watch::Receiver<Report>,
}

impl Dependency {
    /// What is still waited for.
    fn waiting(&self) -> Option<String> {
        let report = self.report.borrow();
        let matters = report.wanted || self.after.required;
        if !matters || report.is_up(self.after.check.as_deref()) {
            return None;
        }
        Some(match &self.after.check {
            Some(check) => format!("check {check} of {}", report.name),
            None => report.name.clone(),
        })
    }
}

/// What happened.
enum Trigger {
    Wanted,
    /// The supervisor is gone.
    Left,
    Ended(io::Result<ExitStatus>),
    Due,
    Answer(usize, Result<(), String>),
    Dependency,
}

/// The task of a service.
pub(crate) struct Task {
    service: Service,
    guard: Option<Guard>,
    wanted: watch::Receiver<Wanted>,
    generation: u64,
    dependencies: Vec<Dependency>,
    reports: watch::Sender<Report>,
    machine: Machine,
    /// The same moment, on both clocks.
    began: Instant,
    epoch: Timestamp,
    /// The state that was told last.
    told: State,
    process: Option<Process>,
    checks: Vec<(Check, CheckCount)>,
    questions: JoinSet<(usize, Result<(), String>)>,
    log: Arc<Mutex<Ring>>,
    /// What a termination that is in progress is for.
    check_failed: Option<Cause>,
    restarts: u64,
    failure: Option<Failure>,
}

impl Task {
    pub(crate) fn new(
        service: Service,
        guard: Option<Guard>,
        wanted: watch::Receiver<Wanted>,
        dependencies: Vec<Dependency>,
        reports: watch::Sender<Report>,
    ) -> Self {
        let generation = wanted.borrow().generation;
        Self {
            machine: Machine::new(service.policy.clone()),
            service,
            guard,
            generation,
            wanted,
            dependencies,
            reports,
            began: Instant::now(),
            epoch: Timestamp::now(),
            told: State::Initial,
            process: None,
            checks: Vec::new(),
            questions: JoinSet::new(),
            log: Arc::default(),
            check_failed: None,
            restarts: 0,
            failure: None,
        }
    }

    /// Goes on until the supervisor is gone; what runs then goes with it.
    pub(crate) async fn run(mut self) {
        loop {
            self.reconcile();
            self.publish();
            match self.next().await {
                Trigger::Left => return,
                Trigger::Wanted | Trigger::Dependency => {}
                Trigger::Due => self.take(Event::Due),
                Trigger::Answer(check, answer) => self.answered(check, answer),
                Trigger::Ended(status) => self.ended(status).await,
            }
        }
    }

    async fn next(&mut self) -> Trigger {
        let deadline = self.machine.deadline().map(|deadline| self.began + deadline);
        let ended = async {
            match &mut self.process {
                Some(process) => process.wait().await,
                None => std::future::pending().await,
            }
        };
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match self.questions.join_next().await {
                Some(Ok(answer)) => answer,
                // None is asked, or one was called off with its process.
                Some(Err(_)) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.wanted.changed() => if changed.is_ok() { Trigger::Wanted } else { Trigger::Left },
            status = ended => Trigger::Ended(status),
            () = due => Trigger::Due,
            (check, answer) = answer => Trigger::Answer(check, answer),
            () = any_changed(self.dependencies.iter_mut().map(|it| &mut it.report)) => Trigger::Dependency,
        }
    }

    /// Brings the machine to what is wanted now.
    fn reconcile(&mut self) {
        let wanted = *self.wanted.borrow_and_update();
        // What comes from now on wakes the task again.
        for dependency in &mut self.dependencies {
            dependency.report.mark_unchanged();
        }
        if wanted.generation != self.generation {
            self.generation = wanted.generation;
            self.take(Event::Restart);
        }
        let waits = self.dependencies.iter().any(|it| it.waiting().is_some());
        match (wanted.run, self.machine.state()) {
            // One that has ended for good is started again when it is stopped and wanted again.
            (false, State::Initial | State::Stopped) | (true, State::Exited) => {}
            (false, _) => self.take(Event::Stop),
            (true, State::Initial | State::Stopped) if waits => {}
            (true, _) => self.take(Event::Start),
        }
    }

    fn take(&mut self, event: Event) {
        let before = self.machine.state();
        let actions = match self.machine.take(event, self.began.elapsed(), fastrand::f64()) {
            Ok(actions) => actions,
            Err(error) => {
                tracing::error!(%error, workload = self.service.name, "a defect of the supervisor");
                return;
            }
        };
        for action in actions {
            match action {
                Action::Spawn => {
                    self.restarts += u64::from(matches!(before, State::Backoff { .. }));
                    self.spawn();
                }
                Action::Terminate => self.signal(Signal::TERM),
                Action::Kill => self.signal(Signal::KILL),
                Action::StopFailed => {
                    let pid = self.process.as_ref().map(Process::pid).unwrap_or_default();
                    let seconds = self.service.policy.kill_bound.as_secs();
                    self.fail(Cause::NotStopped { pid, seconds });
                }
                Action::Started | Action::StartFailed | Action::Ended | Action::Stopped => {}
            }
        }
    }

    fn spawn(&mut self) {
        let name = &self.service.name;
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let launch = (self.service.prepare)();
        let spawned = launch.and_then(|launch| {
            let process = Process::spawn(&launch, self.guard.as_ref(), name, &self.log)?;
            Ok((process, launch.checks))
        });
        match spawned {
            Ok((process, checks)) => {
                tracing::info!(workload = name, pid = process.pid(), "started");
                self.process = Some(process);
                let started = self.began.elapsed();
                self.checks = checks.into_iter().map(|check| (check, CheckCount::new(started))).collect();
                for check in 0..self.checks.len() {
                    self.ask(check, Duration::ZERO);
                }
            }
            Err(error) => {
                self.fail(Cause::NotStarted { why: one_line(&error) });
                self.take(Event::Exited { success: false });
            }
        }
    }

    /// Asks a check once that time is over.
    fn ask(&mut self, number: usize, after: Duration) {
        let Some((check, _)) = self.checks.get(number) else { return };
        let check = check.clone();
        self.questions.spawn(async move {
            tokio::time::sleep(after).await;
            (number, http::ask(&check).await)
        });
    }

    fn answered(&mut self, number: usize, answer: Result<(), String>) {
        let now = self.began.elapsed();
        let Some((check, count)) = self.checks.get_mut(number) else { return };
        let falls = count.take(check, answer, now);
        let wait = count.wait(check);
        if falls {
            let (failures, why) = count.failures();
            let why = why.unwrap_or_default().to_owned();
            let cause = Cause::CheckFailed { check: check.name.clone(), failures, why };
            let restarts = check.on_failure == OnFailure::Restart;
            tracing::warn!(workload = self.service.name, restarts, "{cause}");
            if restarts && matches!(self.machine.state(), State::Starting { .. } | State::Running { .. }) {
                self.check_failed = Some(cause.clone());
                self.fail(cause);
                self.take(Event::CheckFailed);
            }
        }
        self.ask(number, wait);
    }

    async fn ended(&mut self, status: io::Result<ExitStatus>) {
        if let Some(mut process) = self.process.take() {
            process.drain().await;
        }
        self.checks.clear();
        self.questions = JoinSet::new();
        let (success, how) = match status {
            Ok(status) => (status.success(), ending(status)),
            Err(error) => (false, format!("its end could not be seen: {error}")),
        };
        let is_check = self.check_failed.take().is_some();
        match self.machine.state() {
            State::Starting { .. } => self.fail(Cause::EndedEarly { how }),
            State::Running { .. } => self.fail(Cause::Ended { how }),
            _ => tracing::info!(workload = self.service.name, is_check, how, "stopped"),
        }
        self.take(Event::Exited { success });
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    fn fail(&mut self, cause: Cause) {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner).last(LOG_LINES);
        tracing::warn!(workload = self.service.name, "{cause}");
        let message = cause.to_string();
        self.failure = Some(Failure { at: Timestamp::now(), cause, message, log });
    }

    /// Tells how it is.
    fn publish(&mut self) {
        let told = std::mem::replace(&mut self.told, self.machine.state());
        let state = ServiceState::from(self.told);
        // A start that fails at once goes from one backoff to the next.
        let is_same = match (told, self.told) {
            (State::Backoff { until: told }, State::Backoff { until }) => told == until,
            (told, now) => ServiceState::from(told) == ServiceState::from(now),
        };
        let next_try = match self.told {
            State::Backoff { until } => {
                SignedDuration::try_from(until).ok().and_then(|until| self.epoch.checked_add(until).ok())
            }
            _ => None,
        };
        let is_up =
            !self.checks.is_empty() && self.checks.iter().all(|(_, count)| count.health() == Health::Up);
        let ready = match state {
            ServiceState::Running => self.checks.is_empty() || is_up,
            // Who answers need not live for a second first.
            ServiceState::Starting => is_up,
            _ => false,
        };
        let wanted = self.wanted.borrow().run;
        let waiting = self.waiting(wanted, ready);
        let now = Timestamp::now();
        self.reports.send_if_modified(|report| {
            let new = Report {
                name: self.service.name.clone(),
                wanted,
                state,
                since: if is_same { report.since } else { now },
                ready,
                ready_since: if report.ready == ready { report.ready_since } else { now },
                pid: self.process.as_ref().map(Process::pid),
                restarts: self.restarts,
                waiting,
                next_try,
                checks: self.checks.iter().map(|(check, count)| check_report(check, count)).collect(),
                failure: self.failure.clone(),
            };
            let changed = new != *report;
            *report = new;
            changed
        });
    }

    fn waiting(&self, wanted: bool, ready: bool) -> Option<String> {
        match self.machine.state() {
            State::Initial | State::Stopped if wanted => {
                self.dependencies.iter().find_map(Dependency::waiting)
            }
            State::Starting { .. } | State::Running { .. } if !ready => {
                let (check, count) = self.checks.iter().find(|(_, count)| count.health() != Health::Up)?;
                let why = count.failures().1.map(|why| format!(": {why}")).unwrap_or_default();
                Some(format!("check {}{why}", check.name))
            }
            State::Terminating { .. } | State::Killing { .. } => Some("its end".to_owned()),
            _ => None,
        }
    }
}

fn check_report(check: &Check, count: &CheckCount) -> CheckReport {
    let (failures, why) = count.failures();
    CheckReport { name: check.name.clone(), health: count.health(), failures, why: why.map(str::to_owned) }
}

/// Done when any of them tells something new; one that is gone tells nothing.
pub(crate) async fn any_changed(reports: impl Iterator<Item = &mut watch::Receiver<Report>>) {
    let changes = reports.map(|report| {
        Box::pin(async move {
            if report.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let changes: Vec<_> = changes.collect();
    if changes.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(changes).await;
}
