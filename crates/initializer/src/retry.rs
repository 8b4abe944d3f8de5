//! Attempts at requests, and the pauses between them.

use std::time::{Duration, Instant};

use crate::error::Error;

/// Attempts that fail one after the other without bringing anything.
pub const ATTEMPTS: u32 = 10;

/// Longest time that a source is left alone because it asked for it.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// First and longest pause where the source asks for none.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(20));

/// Counts failures in a row.
#[derive(Debug)]
pub struct Attempts {
    /// How long a server is waited for that is not there.
    patience: Duration,
    failed: u32,
    /// Since when it has not been there, and how often it was looked for.
    absent: Option<(Instant, u32)>,
}

impl Attempts {
    /// None so far. A server that cannot be reached may only be starting, and is waited for so long.
    pub fn new(patience: Duration) -> Self {
        Self { patience, failed: 0, absent: None }
    }

    /// Something was brought: what comes is counted anew.
    pub fn advanced(&mut self) {
        (self.failed, self.absent) = (0, None);
    }

    /// How long to wait after this failure, or the error that ends it. `draw` is from `[0, 1)`.
    pub fn failed(&mut self, what: &str, error: Error, now: Instant, draw: f64) -> Result<Duration, Error> {
        let Some(asked) = error.retry() else { return Err(error) };
        if matches!(error, Error::Unreachable { .. }) {
            let (since, times) = self.absent.unwrap_or((now, 0));
            self.absent = Some((since, times + 1));
            let waited = now.saturating_duration_since(since);
            if waited >= self.patience {
                let (what, seconds) = (what.to_owned(), waited.as_secs());
                return Err(Error::Absent { what, seconds, source: Box::new(error) });
            }
        } else {
            self.failed += 1;
            if self.failed >= ATTEMPTS {
                let (what, attempts) = (what.to_owned(), self.failed);
                return Err(Error::Exhausted { what, attempts, source: Box::new(error) });
            }
        }
        let before = self.failed + self.absent.map_or(0, |(_, times)| times) - 1;
        let pause = (PAUSES.0 * 2_u32.saturating_pow(before)).min(PAUSES.1);
        // Those who failed together do not come back together.
        Ok(asked.unwrap_or_default().min(LONGEST_ASKED) + pause.mul_f64(f64::midpoint(1.0, draw)))
    }
}

/// Asks until there is an answer, or trying again is of no use.
pub async fn answered<T, F>(what: &str, patience: Duration, mut ask: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut attempts = Attempts::new(patience);
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => pause(&mut attempts, what, error).await?,
        }
    }
}

/// Waits after a failure, and says why.
pub async fn pause(attempts: &mut Attempts, what: &str, error: Error) -> Result<(), Error> {
    // Most errors begin with what they are of.
    let why = trainerd_causes::one_line(&error);
    let why = if why.starts_with(what) { why } else { format!("{what}: {why}") };
    let is_absent = matches!(error, Error::Unreachable { .. });
    let pause = attempts.failed(what, error, Instant::now(), fastrand::f64())?;
    let limit = if is_absent {
        format!("; it is waited for, {} s at most", attempts.patience.as_secs())
    } else {
        String::new()
    };
    tracing::warn!("{why}; trying again in {:.1} s{limit}", pause.as_secs_f64());
    tokio::time::sleep(pause).await;
    Ok(())
}

/// The header `Retry-After`, in seconds or as a date.
pub fn asked(headers: &http::HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(after: Option<u64>) -> Error {
        Error::Busy { what: "x".into(), status: 503, after: after.map(Duration::from_secs) }
    }

    fn unreachable() -> Error {
        Error::Unreachable { what: "x".into(), source: crate::source::wire::cause("refused") }
    }

    #[test]
    fn pauses_grow_and_the_tenth_failure_in_a_row_ends_it() {
        let (mut attempts, now) = (Attempts::new(Duration::ZERO), Instant::now());
        let pauses: Vec<u128> =
            (0..9).map(|_| attempts.failed("x", busy(None), now, 0.999).unwrap().as_millis()).collect();
        assert_eq!(pauses[..4], [249, 499, 999, 1999]);
        assert!(pauses.iter().all(|pause| *pause <= 20_000));
        let ended = attempts.failed("x", busy(None), now, 0.0).unwrap_err();
        assert_eq!(ended.to_string(), "x failed 10 times without getting on");
        attempts.advanced();
        assert!(attempts.failed("x", busy(None), now, 0.0).is_ok());
    }

    #[test]
    fn a_server_that_is_not_there_is_waited_for_so_long_and_no_longer() {
        let (mut attempts, begun) = (Attempts::new(Duration::from_mins(5)), Instant::now());
        let mut now = begun;
        let mut pauses = Vec::new();
        let ended = loop {
            match attempts.failed("x", unreachable(), now, 0.0) {
                Ok(pause) => {
                    now += pause;
                    pauses.push(pause);
                }
                Err(error) => break error,
            }
        };
        assert!(pauses.len() > 20 && pauses.is_sorted(), "{pauses:?}");
        let waited = (now - begun).as_secs();
        assert!((300..=320).contains(&waited), "{waited}");
        assert_eq!(ended.to_string(), format!("x could not be reached for {waited} s"));
        // One that comes and goes is no endless wait either: what it answers counts, too.
        let mut attempts = Attempts::new(Duration::from_mins(5));
        let mut failures = 0;
        while attempts.failed("x", unreachable(), begun, 0.0).is_ok()
            && attempts.failed("x", busy(None), begun, 0.0).is_ok()
        {
            failures += 1;
        }
        assert_eq!(failures, ATTEMPTS - 1);
        let mut impatient = Attempts::new(Duration::ZERO);
        assert!(impatient.failed("x", unreachable(), begun, 0.0).is_err());
    }

    #[test]
    fn what_a_source_asks_for_is_kept_and_a_refusal_ends_it_at_once() {
        let (mut attempts, now) = (Attempts::new(Duration::ZERO), Instant::now());
        assert!(attempts.failed("x", busy(Some(7)), now, 0.0).unwrap() >= Duration::from_secs(7));
        assert!(attempts.failed("x", busy(Some(7000)), now, 0.0).unwrap() < Duration::from_secs(302));
        let denied = Error::Denied { what: "x".into(), why: "no".into() };
        assert!(attempts.failed("x", denied, now, 0.0).is_err());
    }

    #[test]
    fn the_header_has_seconds_or_a_date() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let header = |value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
            asked(&headers, now)
        };
        assert_eq!(header("3"), Some(Duration::from_secs(3)));
        assert_eq!(header("Thu, 01 Jan 2026 00:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(header("Wed, 31 Dec 2025 00:00:09 GMT"), Some(Duration::ZERO));
        assert_eq!(header("soon"), None);
    }
}
