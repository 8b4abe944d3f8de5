//! How a service is, for everybody who asks.

use jiff::Timestamp;
use serde::Serialize;

use crate::check::Health;
use crate::machine::State;

/// The state of a service, with Pebble's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Never started.
    Initial,
    /// Started a moment ago.
    Starting,
    /// The start was good.
    Running,
    /// SIGTERM was sent.
    Terminating,
    /// SIGKILL was sent.
    Killing,
    /// Stopped because that was asked for.
    Stopped,
    /// It ended, and is started again soon.
    Backoff,
    /// It ended, and is not started again.
    Exited,
}

impl ServiceState {
    /// As JSON and metrics have it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Terminating => "terminating",
            Self::Killing => "killing",
            Self::Stopped => "stopped",
            Self::Backoff => "backoff",
            Self::Exited => "exited",
        }
    }
}

impl From<State> for ServiceState {
    fn from(state: State) -> Self {
        match state {
            State::Initial => Self::Initial,
            State::Starting { .. } => Self::Starting,
            State::Running { .. } => Self::Running,
            State::Terminating { .. } => Self::Terminating,
            State::Killing { .. } => Self::Killing,
            State::Stopped => Self::Stopped,
            State::Backoff { .. } => Self::Backoff,
            State::Exited => Self::Exited,
        }
    }
}

/// What went wrong with a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Cause {
    /// It could not be started at all.
    #[error("failed to start: {why}")]
    NotStarted {
        /// Why.
        why: String,
    },
    /// It ended within a second.
    #[error("{how} within a second of its start")]
    EndedEarly {
        /// How.
        how: String,
    },
    /// It ended though nobody asked for it.
    #[error("{how}")]
    Ended {
        /// How.
        how: String,
    },
    /// A check failed as often as it may, and it was terminated.
    #[error("check {check} failed {failures} times in a row: {why}")]
    CheckFailed {
        /// Which.
        check: String,
        /// How often.
        failures: u32,
        /// How, the last time.
        why: String,
    },
    /// SIGKILL did not end it.
    #[error("process {pid} is still there {seconds} s after SIGKILL")]
    NotStopped {
        /// Which.
        pid: u32,
        /// How long.
        seconds: u64,
    },
}

/// The last thing that went wrong with a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// What.
    pub cause: Cause,
    /// The same in words.
    pub message: String,
    /// The last lines that it wrote.
    pub log: Vec<String>,
}

/// A check of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// What it says.
    pub health: Health,
    /// Failures in a row.
    pub failures: u32,
    /// What the last failure was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Whether it shall run.
    pub wanted: bool,
    /// Where it is.
    pub state: ServiceState,
    /// Since when.
    pub since: Timestamp,
    /// Whether it runs and every check is up.
    pub ready: bool,
    /// Since when it is ready, or is not.
    pub ready_since: Timestamp,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Restarts that nobody asked for.
    pub restarts: u64,
    /// What its start, or its readiness, waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// When it is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<Timestamp>,
    /// Its checks, while it has a process.
    pub checks: Vec<CheckReport>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Report {
    /// Of a service that was never started.
    pub(crate) fn new(name: String) -> Self {
        let now = Timestamp::now();
        Self {
            name,
            wanted: false,
            state: ServiceState::Initial,
            since: now,
            ready: false,
            ready_since: now,
            pid: None,
            restarts: 0,
            waiting: None,
            next_try: None,
            checks: Vec::new(),
            failure: None,
        }
    }

    /// Whether a check is up, or all that it has.
    pub(crate) fn is_up(&self, check: Option<&str>) -> bool {
        match check {
            None => self.ready,
            Some(name) => self.checks.iter().any(|it| it.name == name && it.health == Health::Up),
        }
    }
}
