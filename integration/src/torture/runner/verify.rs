//! What the daemons say once all faults have ended, and whether it is so.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{BOUND, Course, Options, POLL_INTERVAL, Runner, Script, State, THIEF};
use crate::Error;
use crate::stack;
use crate::torture::verdict::{differences, process, record_errors, summary, without_history};

/// How long it has to say that it is settled, without a break, to be believed: news takes its time.
const BELIEVED: Duration = Duration::from_millis(300);
/// What it says may be older than what is so, by as much as news takes at the worst: then it says otherwise within this.
const NEWS: Duration = Duration::from_secs(2);
/// So often it may be: then it is no coincidence.
const EARLY: usize = 3;
/// How long it has to say that it gave up: what it looks after all the same is repaired within this.
const GIVEN_UP: Duration = Duration::from_secs(3);
/// The lease is given back so long after the last repair, and a little.
const LINGERING: Duration = Duration::from_secs(15);
/// One run of so many waits until nobody holds the lease any more.
const PATIENT: u64 = 8;
/// Pause between two looks at what a daemon says, which takes a processor some work.
const ASK: Duration = Duration::from_millis(100);

impl Runner {
    /// As [`Self::wait_until_settled`]; where a daemon takes back at once what was not so, it is waited for again, but not for
    /// ever.
    pub(super) fn wait_until_as_expected(
        &mut self,
        expected: &State,
        course: &mut Course,
    ) -> Result<bool, Error> {
        loop {
            let settled = self.wait_until_settled(course)?;
            if !settled || course.early == EARLY || differences(&self.look()?, expected).is_empty() {
                return Ok(settled);
            }
            let end = Instant::now() + NEWS;
            while self.views().iter().all(|view| is_settled(view, course.declared)) {
                if Instant::now() > end {
                    return Ok(true);
                }
                std::thread::sleep(POLL_INTERVAL);
            }
            course.early += 1;
        }
    }

    /// What there is, but for what differs from history to history.
    fn look(&self) -> Result<State, Error> {
        Ok(without_history(State::of(&self.cluster, &self.kinds)?))
    }

    /// Waits until every daemon says that what is declared is so; whether they do in time.
    pub(super) fn wait_until_settled(&mut self, course: &mut Course) -> Result<bool, Error> {
        let end = Instant::now() + BOUND;
        let declared = course.declared;
        let settled = |view: &Value| is_settled(view, declared);
        let (mut settled_since, mut given_up_since) = (None, None);
        loop {
            self.restart_killed(course)?;
            let (views, now) = (self.views(), Instant::now());
            let lasts = |since: &mut Option<Instant>, holds: bool, long: Duration| {
                *since = since.filter(|_| holds).or(holds.then_some(now));
                since.is_some_and(|since| now - since >= long)
            };
            if lasts(&mut settled_since, views.iter().all(settled), BELIEVED) {
                return Ok(true);
            }
            if now > end || lasts(&mut given_up_since, views.iter().all(has_given_up), GIVEN_UP) {
                return Ok(false);
            }
            std::thread::sleep(ASK);
        }
    }

    /// What each daemon says; one that cannot be asked says nothing.
    fn views(&self) -> Vec<Value> {
        let daemons = self.seats.iter().filter_map(|seat| seat.daemon.as_ref());
        daemons.map(|daemon| daemon.read("/v1/installation").unwrap_or_default()).collect()
    }

    /// What each daemon says, in short, and whether that tells why it is not ready.
    pub(super) fn summaries(&self) -> Vec<(String, bool)> {
        self.views().iter().map(summary).collect()
    }

    /// What is not as it should be, although the daemons say that it is; or must not be, whatever they say.
    pub(super) fn judge(
        &mut self,
        expected: &State,
        settled: bool,
        script: &Script,
        course: &mut Course,
    ) -> Result<Vec<String>, Error> {
        let mut troubles = Vec::new();
        if settled {
            troubles = differences(&self.look()?, expected);
            if !troubles.is_empty() {
                std::thread::sleep(Duration::from_secs(5));
                let late = differences(&self.look()?, expected).is_empty();
                let when = if late { "ready was said too early" } else { "ready is said all the same" };
                troubles.push(when.to_owned());
            }
            troubles.extend(self.record_errors()?);
            troubles.extend(self.lease_trouble(script.seed.is_multiple_of(PATIENT), course)?);
        } else if self.views().iter().all(has_given_up) {
            // What is not tried again must not be half done.
            let record = self.cluster.record()?.unwrap_or_default();
            let journal = (!record["journal"].is_null()).then(|| "given up, with an open journal".to_owned());
            troubles.extend(journal.into_iter().chain(self.record_errors()?));
        }
        let pids: Vec<u32> = self.seats.iter().filter_map(|seat| Some(seat.daemon.as_ref()?.pid())).collect();
        if settled && troubles.is_empty() {
            for seat in 0..self.seats.len() {
                self.stop(seat, course)?;
            }
            let holder = self.cluster.lease_holder()?;
            if let Some(pid) = holder.as_deref().and_then(process).filter(|pid| pids.contains(pid)) {
                troubles.push(format!("process {pid} ended without giving the lease back"));
            }
        }
        Ok(troubles)
    }

    /// What is wrong with trainerd's own account of the installation.
    fn record_errors(&self) -> Result<Vec<String>, Error> {
        let record = self.cluster.record()?.unwrap_or_default();
        let secrets = self.cluster.list(&stack::secret(), Some("trainerd.dev/record in (chunk,revision)"))?;
        Ok(record_errors(&record, &secrets))
    }

    /// Whether somebody has the lease who does not need it.
    fn lease_trouble(&mut self, patient: bool, course: &mut Course) -> Result<Option<String>, Error> {
        let end = Instant::now() + LINGERING;
        loop {
            let Some(holder) = self.cluster.lease_holder()? else { return Ok(None) };
            let dead = process(&holder).is_some_and(|pid| course.gone.contains(&pid));
            if holder == THIEF || dead {
                return Ok(None);
            }
            let says = self.views().iter().any(|view| view["lease"] == true);
            if !says {
                // It may have been given back since.
                return Ok(self.cluster.lease_holder()?.filter(|now| *now == holder).map(|holder| {
                    format!("the lease is held by {holder}, and no daemon says that it is its own")
                }));
            }
            if !patient {
                return Ok(None);
            }
            if Instant::now() > end {
                return Ok(Some(format!("the lease is still held by {holder} after {LINGERING:?}")));
            }
            self.idle(ASK, course)?;
        }
    }
}

/// Whether a daemon says that what is declared is so.
fn is_settled(view: &Value, declared: Options) -> bool {
    view["settled"] == true && view["phase"] == "ready" && view["generation"] == declared.generation()
}

/// A change that failed and was undone is not tried again.
fn has_given_up(view: &Value) -> bool {
    view["reason"]["code"] == "rolled-back" && view["observed"] == true
}
