//! Checks: what is asked of a process, and what its answers come to.

use std::time::Duration;

use serde::Serialize;

/// What follows when a check is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The service is terminated, and restarted through backoff.
    Restart,
    /// It is shown.
    Ignore,
}

/// A question over HTTP: up where it is answered with a status below 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, unique in the service.
    pub name: String,
    /// Where it is asked: `host:port`.
    pub address: String,
    /// The path.
    pub path: String,
    /// Time between two questions.
    pub period: Duration,
    /// How long an answer may take; less than the period.
    pub timeout: Duration,
    /// Failures in a row until it is down.
    pub threshold: u32,
    /// What follows then.
    pub on_failure: OnFailure,
}

/// The longest time between two questions before the first good answer: whoever waits for a start waits no longer.
const STARTUP_INTERVAL: Duration = Duration::from_millis(500);

impl Check {
    /// A check with Pebble's values: every 10 s, an answer within 3 s, three failures.
    pub fn new(name: impl Into<String>, address: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            path: path.into(),
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(3),
            threshold: 3,
            on_failure: OnFailure::Ignore,
        }
    }
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nothing since the process was started.
    Unknown,
    /// All is well.
    Up,
    /// It failed as often as it may.
    Down,
}

/// The answers of one process to one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckCount {
    health: Health,
    failures: u32,
    /// When a failure counted last; at first, when the process was started.
    counted: Duration,
    why: Option<String>,
}

impl CheckCount {
    /// Of a process that was started at that moment.
    pub fn new(started: Duration) -> Self {
        Self { health: Health::Unknown, failures: 0, counted: started, why: None }
    }

    /// What it says.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Failures in a row, and what the last one was.
    pub fn failures(&self) -> (u32, Option<&str>) {
        (self.failures, self.why.as_deref())
    }

    /// When to ask again after an answer.
    pub fn wait(&self, check: &Check) -> Duration {
        match self.health {
            Health::Unknown | Health::Down => check.period.min(STARTUP_INTERVAL),
            Health::Up => check.period,
        }
    }

    /// Takes an answer; whether it is the one that makes the check down.
    ///
    /// Before the first good answer it is asked more often than each period; failures count once a period all the same, so
    /// that a start is given as long as a process that hangs.
    pub fn take(&mut self, check: &Check, answer: Result<(), String>, now: Duration) -> bool {
        match answer {
            Ok(()) => {
                *self = Self { health: Health::Up, failures: 0, counted: now, why: None };
                false
            }
            Err(why) => {
                self.why = Some(why);
                if self.health != Health::Up && now < self.counted + check.period {
                    return false;
                }
                self.counted = now;
                self.failures = self.failures.saturating_add(1);
                let falls = self.failures >= check.threshold && self.health != Health::Down;
                if falls {
                    self.health = Health::Down;
                }
                falls
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fails() -> Result<(), String> {
        Err("timed out".to_owned())
    }

    #[test]
    fn three_failures_are_down_and_one_success_is_up() {
        let check = Check::new("alive", "127.0.0.1:1", "/healthz");
        let mut count = CheckCount::new(at(0));
        let rows = [
            (1, Ok(()), false, Health::Up, 0),
            (11, fails(), false, Health::Up, 1),
            (21, fails(), false, Health::Up, 2),
            (31, Ok(()), false, Health::Up, 0),
            (41, fails(), false, Health::Up, 1),
            (51, fails(), false, Health::Up, 2),
            (61, fails(), true, Health::Down, 3),
            (71, fails(), false, Health::Down, 4),
            (81, Ok(()), false, Health::Up, 0),
        ];
        for (seconds, answer, falls, health, failures) in rows {
            assert_eq!(count.take(&check, answer, at(seconds)), falls, "at {seconds}");
            assert_eq!((count.health(), count.failures().0), (health, failures), "at {seconds}");
        }
    }

    #[test]
    fn startup_checks_are_frequent_with_a_full_timeout() {
        let check = Check::new("alive", "127.0.0.1:1", "/healthz");
        let mut count = CheckCount::new(at(100));
        assert_eq!(count.wait(&check), STARTUP_INTERVAL);
        for seconds in 101..130 {
            assert!(!count.take(&check, fails(), at(seconds)), "at {seconds}");
            assert_eq!(count.health(), Health::Unknown);
        }
        assert!(count.take(&check, fails(), at(130)));
        assert_eq!(count.health(), Health::Down);
        assert!(!count.take(&check, Ok(()), at(131)));
        assert_eq!(count.wait(&check), check.period);
    }
}
