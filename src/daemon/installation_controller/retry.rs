//! Retries of a revision that failed and was rolled back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trainerd_catalog::Catalog;
use trainerd_engine::{EngineError, Prepared, RunPolicy, State, revision};
use trainerd_plan::allowed::Allowed;

use super::blocked::Stop;
use super::{Declared, InstallationController};
use crate::target::newer::{Newer, replacement};
use crate::target::{Target, resolve};

/// The maximum delay: a day, as for the option.
const LONGEST: Duration = Duration::from_hours(24);

/// The next attempt.
#[derive(Debug, Default)]
pub(super) struct Retrying {
    /// Somebody asked for it.
    asked: bool,
    /// An automatic retry: its time, the digest of the revision, and the number of attempts.
    due: Option<(String, u32, Instant)>,
}

impl Retrying {
    /// Another try, whatever failed.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }
}

/// The delay after a number of attempts: it doubles.
fn pause(first: Duration, tries: u32) -> Duration {
    let doubled = 1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(doubled).min(LONGEST.max(first))
}

impl Stop {
    /// The same, rechecked at once if a failure may be retried automatically; the time is decided then.
    pub(super) fn retried_by(mut self, policy: &RunPolicy) -> Self {
        if let Self::Blocked(blocked) = &mut self
            && blocked.problem.code == "rolled-back"
            && policy.retry_failed.is_some()
        {
            blocked.again = Some(Duration::ZERO);
        }
        self
    }
}

impl InstallationController {
    /// Whether something failed and was rolled back, and waits for somebody to ask for it again.
    pub(super) fn has_failed(&self) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| blocked.problem.code == "rolled-back")
    }

    /// Refuses a revision that was rolled back, unless a retry is due.
    pub(super) fn check_failed(&mut self, state: &State, wanted: &Target) -> Result<(), Stop> {
        let asked = std::mem::take(&mut self.retrying.asked);
        let Some((revision, reason)) = self.engine.rolled_back(state, &wanted.desired) else { return Ok(()) };
        if asked {
            tracing::info!(revision, "retrying what was rolled back, as requested");
            return Ok(());
        }
        let again = match RunPolicy::of(&wanted.desired.options).retry_failed {
            None => None,
            Some(first) => {
                let digest = revision::digest(&wanted.desired);
                let tries = self.engine.tries(state, &wanted.desired);
                let due = match &self.retrying.due {
                    Some((known, after, due)) if *known == digest && *after == tries => *due,
                    _ => Instant::now() + pause(first, tries),
                };
                self.retrying.due = Some((digest, tries, due));
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    tracing::info!(revision, tries, "retrying what was rolled back");
                    return Ok(());
                }
                Some(left)
            }
        };
        let back = state.record().current.unwrap_or_default();
        let purpose = wanted.purpose;
        let stop = self.stopped(EngineError::RolledBack { purpose, revision, back, reason });
        Err(match stop {
            Stop::Blocked(mut blocked) => {
                blocked.again = again;
                Stop::Blocked(blocked)
            }
            stop => stop,
        })
    }

    /// What is declared in the place of the plan that was interrupted, and the plan towards it; `None` where that one is
    /// finished first.
    pub(super) async fn newer(
        &mut self,
        state: &State,
        declared: &Declared,
    ) -> Result<Option<(State, Prepared)>, Stop> {
        let Declared::Options(spec) = declared else { return Ok(None) };
        let engine = Arc::clone(&self.engine);
        let catalog = match Catalog::builtin() {
            Ok(catalog) => catalog,
            Err(error) => return Err(self.unwanted(error.into())),
        };
        let wanted = async |state: &State| resolve(&catalog, &engine, state, &spec.given).await;
        let newer = match self.aside(replacement(&engine, state, wanted)).await? {
            Ok(newer) => newer,
            Err(problem) => return Err(self.unwanted(problem)),
        };
        let Some(Newer { state, wanted }) = newer else { return Ok(None) };
        // A revision that is known to fail replaces nothing.
        if engine.rolled_back(&state, &wanted.desired).is_some() {
            return Ok(None);
        }
        match self.aside(engine.prepare(&state, wanted.desired, wanted.purpose, Allowed::default())).await? {
            Ok(prepared) => Ok(Some((state, prepared))),
            Err(error) => Err(self.stopped(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retry_delay_doubles_up_to_a_day() {
        let minute = Duration::from_mins(1);
        for (tries, expected) in [(0, minute), (1, minute), (2, 2 * minute), (5, 16 * minute), (40, LONGEST)]
        {
            assert_eq!(pause(minute, tries), expected, "{tries}");
        }
        assert_eq!(pause(LONGEST, 3), LONGEST);
    }
}
