//! How often the authenticator is asked: each question is a request to the API server, and anybody may send a token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::cache::Key;

/// Questions at a time about tokens that were never good, and about the others.
const AT_A_TIME: usize = 4;
/// Tokens never seen good that may be asked about at once, and the time in which one more may be.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_millis(500);
/// How long a token that was good is preferred to strangers.
const PREFERRED: Duration = Duration::from_hours(1);
/// Tokens that are preferred at a time.
const MOST: usize = 256;
/// Longest token that is asked about. Those of service accounts have 1 to 2 kB.
const LONGEST: usize = 16 << 10;

/// Bounds the questions. Whoever sends random tokens uses up the budget of strangers: tokens that were good before
/// have one of their own.
pub(super) struct Limit {
    strangers: Semaphore,
    preferred: Semaphore,
    state: Mutex<State>,
}

struct State {
    tokens: u32,
    filled: Instant,
    /// Tokens that were good, and when.
    good: HashMap<Key, Instant>,
}

impl Limit {
    pub(super) fn new() -> Self {
        let state = State { tokens: BURST, filled: Instant::now(), good: HashMap::new() };
        Self {
            strangers: Semaphore::new(AT_A_TIME),
            preferred: Semaphore::new(AT_A_TIME),
            state: Mutex::new(state),
        }
    }

    /// The permission to ask about a token; `None` where too much is asked already.
    pub(super) async fn ask(&self, key: Key, token: &str) -> Option<SemaphorePermit<'_>> {
        if token.len() > LONGEST {
            return None;
        }
        let now = Instant::now();
        let is_preferred = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let is_preferred = state.good.get(&key).is_some_and(|good| now < *good + PREFERRED);
            if !is_preferred && !state.take(now) {
                return None;
            }
            is_preferred
        };
        let of = if is_preferred { &self.preferred } else { &self.strangers };
        // It is never closed.
        of.acquire().await.ok()
    }

    /// A token was good.
    pub(super) fn good(&self, key: Key) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.good.contains_key(&key) && state.good.len() >= MOST {
            let oldest = state.good.iter().min_by_key(|(_, good)| **good).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                state.good.remove(&oldest);
            }
        }
        state.good.insert(key, now);
    }

    /// A token is good no more.
    pub(super) fn bad(&self, key: Key) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).good.remove(&key);
    }
}

impl State {
    /// Takes one of the budget of strangers, if there is one left.
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_millis() / REFILL.as_millis();
        let more = u32::try_from(elapsed).unwrap_or(u32::MAX);
        if more >= BURST - self.tokens {
            (self.tokens, self.filled) = (BURST, now);
        } else {
            self.tokens += more;
            self.filled += REFILL * more;
        }
        let is_left = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        is_left
    }
}
