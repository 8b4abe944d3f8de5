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
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Most attempts, the first included; `None` for as many as the deadline allows.
    pub attempts: Option<u32>,
    /// Most attempts at a request whose answer is doubtful ([`crate::Retry::doubtful`]).
    pub doubtful_attempts: u32,
}

impl Default for RetryPolicy {
    /// Waits of 100 ms to 10 s, until the deadline; three attempts where it is doubtful.
    fn default() -> Self {
        Self { backoff: Backoff::default(), attempts: None, doubtful_attempts: 3 }
    }
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
    let mut doubtful = 0;
    loop {
        let error = match operation(attempt).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(retry) = error.retry() else { return Err(error) };
        doubtful += u32::from(retry.doubtful);
        let wait = retry.after.unwrap_or_default() + backoff.next_wait();
        let too_late = deadline.is_some_and(|deadline| Instant::now() + wait >= deadline);
        let too_often = policy.attempts.is_some_and(|most| attempt >= most)
            || (retry.doubtful && doubtful >= policy.doubtful_attempts);
        if too_late || too_often {
            return Err(error);
        }
        observe(&RetryWait { attempt, wait, error: &error });
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConflictKind;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn backoff_grows_to_its_maximum_with_jitter_of_half() {
        let mut backoff = Backoff::new(100 * MS, 1000 * MS);
        let mut ranges = Vec::new();
        for _ in 0..6 {
            ranges.push((backoff.draw(0.0), backoff.draw(1.0)));
            let wait = backoff.next_wait();
            let (least, most) = ranges[ranges.len() - 1];
            assert!(least <= wait && wait <= most, "{wait:?}");
        }
        let ceilings: Vec<_> = ranges.iter().map(|(_, most)| most.as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1000, 1000]);
        assert!(ranges.iter().all(|(least, most)| *least * 2 == *most));
        backoff.reset();
        assert_eq!(backoff.draw(1.0), 100 * MS);
        backoff.waits = u32::MAX;
        assert_eq!(backoff.draw(1.0), 1000 * MS, "no overflow");
    }

    fn busy(retry_after: Option<Duration>) -> RequestError {
        RequestError::TooManyRequests { retry_after, message: "busy".to_owned() }
    }

    /// What an attempt is answered.
    type Answer<'a> = &'a dyn Fn(u32) -> RequestError;

    /// Attempts made, waits seen, whether it succeeded, and the time it took.
    async fn run(
        policy: &RetryPolicy,
        deadline: Option<Duration>,
        answer: impl Fn(u32) -> Result<(), RequestError>,
    ) -> (u32, Vec<Duration>, bool, Duration) {
        let start = Instant::now();
        let (mut attempts, mut waits) = (0, Vec::new());
        let done = with_retry(
            policy,
            deadline.map(|deadline| start + deadline),
            |wait| waits.push(wait.wait),
            async |attempt| {
                attempts = attempt;
                answer(attempt)
            },
        )
        .await;
        (attempts, waits, done.is_ok(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_respected_and_reported() {
        let answer = |attempt| if attempt < 3 { Err(busy(Some(7000 * MS))) } else { Ok(()) };
        let (attempts, waits, done, took) = run(&RetryPolicy::default(), None, answer).await;
        assert!(done);
        assert_eq!((attempts, waits.len()), (3, 2));
        assert!(waits.iter().all(|wait| *wait > 7000 * MS && *wait <= 7200 * MS), "{waits:?}");
        // The clock of the runtime counts in milliseconds.
        assert!(took >= waits.iter().sum::<Duration>().saturating_sub(2 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_ends_at_the_deadline() {
        let (attempts, waits, done, took) =
            run(&RetryPolicy::default(), Some(10_000 * MS), |_| Err(busy(Some(4000 * MS)))).await;
        assert!(!done);
        assert_eq!((attempts, waits.len()), (3, 2));
        assert!(took < 10_000 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_attempts_depends_on_the_error() {
        let policy = RetryPolicy { attempts: Some(5), ..RetryPolicy::default() };
        let unexplained = || RequestError::Unexplained { message: String::new() };
        let conflict = |kind: ConflictKind| RequestError::Conflict { kind, message: String::new() };
        let cases: [(&str, Answer<'_>, u32); 5] = [
            ("busy", &|_| busy(None), 5),
            ("unexplained", &|_| unexplained(), 3),
            ("a race of the server's own", &|_| conflict(ConflictKind::Other), 3),
            ("a failed precondition", &|_| conflict(ConflictKind::Uid), 1),
            ("doubtful after busy", &|attempt| if attempt < 3 { busy(None) } else { unexplained() }, 5),
        ];
        for (what, answer, expected) in cases {
            let (attempts, _, done, _) = run(&policy, None, |attempt| Err(answer(attempt))).await;
            assert!(!done);
            assert_eq!(attempts, expected, "{what}");
        }
    }
}
