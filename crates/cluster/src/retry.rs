//! Waiting between attempts, and saying why.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::RequestError;

/// Jittered exponential backoff.
///
/// The n-th wait is drawn evenly from the upper half of `min * 2^n`, bounded by `max`: never so short that
/// attempts come in a burst, never the same for two processes that failed together.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    waits: u32,
}

impl Default for Backoff {
    /// From 100 ms to 10 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Waits from `min` to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), waits: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.draw(fastrand::f64());
        self.waits = self.waits.saturating_add(1);
        wait
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.waits = 0;
    }

    /// The wait for a draw from `[0, 1)`.
    fn draw(&self, draw: f64) -> Duration {
        let ceiling = self.min.saturating_mul(2_u32.saturating_pow(self.waits)).min(self.max);
        ceiling.mul_f64(f64::midpoint(1.0, draw))
    }
}

/// How often and how patiently to try again.
#[derive(Clone, Debug, Default)]
pub struct RetryPolicy {
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Most attempts, the first included; `None` for as many as the deadline allows.
    pub attempts: Option<u32>,
}

/// A wait before another attempt.
#[derive(Debug)]
pub struct RetryWait<'e> {
    /// Attempts made so far.
    pub attempt: u32,
    /// How long this wait takes.
    pub wait: Duration,
    /// What the last attempt was answered.
    pub error: &'e RequestError,
}

/// Runs `operation` until it succeeds, fails for good, or the next attempt would begin after `deadline`; then
/// the last error is the result. `operation` gets the number of the attempt, from 1.
///
/// A wait the server asked for (`Retry-After`) is kept, and jitter is added to it, so that those who were
/// turned away together do not come back together. `observe` is called before each wait.
///
/// An attempt that got no answer may have been carried out: a create may then meet its own object
/// (`AlreadyExists`), a delete may find nothing (`NotFound`), a write with a resourceVersion may conflict with
/// itself.
pub async fn with_retry<T>(
    policy: &RetryPolicy,
    deadline: Option<Instant>,
    mut observe: impl FnMut(&RetryWait<'_>),
    mut operation: impl AsyncFnMut(u32) -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    let mut backoff = policy.backoff.clone();
    let mut attempt = 1;
    loop {
        let error = match operation(attempt).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(retry) = error.retry() else { return Err(error) };
        let wait = retry.after.unwrap_or_default() + backoff.next_wait();
        let too_late = deadline.is_some_and(|deadline| Instant::now() + wait >= deadline);
        if too_late || policy.attempts.is_some_and(|most| attempt >= most) {
            return Err(error);
        }
        observe(&RetryWait { attempt, wait, error: &error });
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}
