//! A bound on requests a second: a token bucket, as client-go has it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests a second, and how many may come at once after a pause.
#[derive(Debug)]
pub(crate) struct Rate {
    a_second: f64,
    burst: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// May be negative: what waits has taken its token already.
    tokens: f64,
    filled: Instant,
}

impl Rate {
    pub(crate) fn new(a_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        let state = State { tokens: burst, filled: Instant::now() };
        Self { a_second: a_second.max(f64::MIN_POSITIVE), burst, state: Mutex::new(state) }
    }

    /// Waits for a turn. Turns are given in the order of the calls; a wait that is dropped has lost its turn.
    pub(crate) async fn turn(&self) {
        let wait = self.take(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn take(&self, now: Instant) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = (now - state.filled).as_secs_f64() * self.a_second;
        state.tokens = (state.tokens + gained).min(self.burst) - 1.0;
        state.filled = now;
        // Bounded for a rate of almost nothing.
        Duration::try_from_secs_f64(-state.tokens.min(0.0) / self.a_second).unwrap_or(Duration::from_hours(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_immediate_and_the_rest_is_rate_limited() {
        let rate = Rate::new(10.0, 5);
        let start = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..8 {
            rate.turn().await;
            turns.push(start.elapsed().as_millis() / 100);
        }
        assert_eq!(turns, [0, 0, 0, 0, 0, 1, 2, 3]);
        tokio::time::sleep(Duration::from_mins(1)).await;
        let later = Instant::now();
        for _ in 0..5 {
            rate.turn().await;
        }
        assert_eq!(later.elapsed(), Duration::ZERO, "no more than a burst is saved up");
        rate.turn().await;
        assert!(later.elapsed() >= Duration::from_millis(99));
    }
}
