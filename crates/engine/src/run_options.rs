//! Options of a run: timeout, events, cancellation, and how often its plan may be recomputed.

use std::time::Duration;

use tokio::time::Instant;
use trainerd_causes::one_line;
use trainerd_cluster::retry::Backoff;

use crate::error::Failure;
use crate::event::{Event, Sink};
use crate::execute::Cancel;

/// The options of a run.
pub struct RunOptions<'a> {
    /// The caller's patience, from now on; the journal stays open when it is over.
    pub timeout: Option<Duration>,
    /// Where events go.
    pub sink: Sink<'a>,
    /// Turns true to cancel the run.
    pub cancel: Cancel,
    /// Who asked a daemon for it over its API, as revisions record it.
    pub asked_by: Option<String>,
    /// When the patience is over: one deadline for all that a command runs.
    pub(crate) deadline: Option<Instant>,
    /// How often a plan may still be recomputed because another actor changed its objects.
    tries: u32,
    /// Waits before it is.
    pause: Backoff,
}

/// Enough for coincidences, and few enough to end in case of contention.
const TRIES: u32 = 5;

impl<'a> RunOptions<'a> {
    /// Options of a run that begins now.
    pub fn new(timeout: Option<Duration>, sink: Sink<'a>, cancel: Cancel) -> Self {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Self { timeout, sink, cancel, asked_by: None, deadline, tries: TRIES, pause: Backoff::default() }
    }

    /// The same with the end of the caller's patience given as a moment: what was read and planned before the run
    /// took some of it.
    #[must_use]
    pub fn ending_at(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// Whether no plan may be recomputed any more.
    pub(crate) fn is_out_of_tries(&self) -> bool {
        self.tries == 0
    }

    /// Resets the counter for a rollback.
    pub(crate) fn renew_tries(&mut self) {
        self.tries = TRIES;
        self.pause.reset();
    }

    /// Whether another plan shall be made in the place of one that failed so; says so, and waits a moment, for who
    /// interferes may not be done.
    pub(crate) async fn may_plan_again(&mut self, failure: &Failure) -> bool {
        let Some(object) = failure.overtaken().cloned().filter(|_| !self.is_out_of_tries()) else {
            return false;
        };
        (self.sink)(Event::Overtaken { object, why: one_line(failure) });
        self.tries -= 1;
        tokio::select! {
            () = tokio::time::sleep(self.pause.next_wait()) => {}
            // The next plan ends before it begins.
            _ = self.cancel.wait_for(|cancelled| *cancelled) => {}
        }
        true
    }
}
