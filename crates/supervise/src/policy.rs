//! How a service is started, restarted and stopped.

use std::time::Duration;

/// What follows on an end that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Another start, after a backoff.
    Restart,
    /// Nothing.
    Ignore,
}

/// How a service is started, restarted and stopped. The defaults are Pebble's.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// A process that lives for this long was started well.
    pub start_delay: Duration,
    /// Wait before the first restart.
    pub backoff_delay: Duration,
    /// By how much each further wait is longer.
    pub backoff_factor: f64,
    /// The longest wait. A process that runs for as long ends the row of restarts.
    pub backoff_limit: Duration,
    /// Share of a wait that is added at random, at most, so that services do not start in step.
    pub backoff_jitter: f64,
    /// Time between SIGTERM and SIGKILL.
    pub kill_delay: Duration,
    /// Time that a process may take to end after SIGKILL before the stop counts as failed.
    pub kill_bound: Duration,
    /// What follows on exit code 0.
    pub on_success: OnExit,
    /// What follows on any other end.
    pub on_failure: OnExit,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            start_delay: Duration::from_secs(1),
            backoff_delay: Duration::from_millis(500),
            backoff_factor: 2.0,
            backoff_limit: Duration::from_secs(30),
            backoff_jitter: 0.1,
            kill_delay: Duration::from_secs(5),
            kill_bound: Duration::from_secs(5),
            on_success: OnExit::Restart,
            on_failure: OnExit::Restart,
        }
    }
}

impl Policy {
    /// The wait before restart number `restart`, counted from 1; `random` is in 0..1.
    pub(crate) fn wait(&self, restart: u32, random: f64) -> Duration {
        let mut wait = self.backoff_delay;
        for _ in 1..restart {
            wait = wait.mul_f64(self.backoff_factor);
            if wait >= self.backoff_limit {
                break;
            }
        }
        let wait = wait.min(self.backoff_limit);
        wait + wait.mul_f64(self.backoff_jitter * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_limit_with_a_tenth_of_jitter() {
        let policy = Policy::default();
        let millis: Vec<u128> = (1..=9).map(|restart| policy.wait(restart, 0.0).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(policy.wait(1, 1.0).as_millis(), 550);
        assert_eq!(policy.wait(u32::MAX, 1.0).as_millis(), 33_000);
    }
}
