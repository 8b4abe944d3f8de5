//! Keys that wait to be reconciled.
//!
//! The rules are client-go's: a key that is added while it waits waits once, a key that is added while somebody works
//! on it comes again when that is done, so that no key is ever worked on twice at a time, and what failed comes back
//! later each time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::metrics::QueueMetrics;

/// First wait after a failure; each further one is twice as long.
const INITIAL_BACKOFF: Duration = Duration::from_millis(5);
/// Longest wait after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(1000);

/// Keys that wait to be reconciled. Clones share them.
#[derive(Clone)]
pub(crate) struct Queue<K>(Arc<Shared<K>>);

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Tells a worker that waits: a key is ready, or is due earlier than all others, or the queue ends.
    changed: Notify,
    metrics: QueueMetrics,
}

struct State<K> {
    /// In the order they came; each is among `waiting`.
    ready: VecDeque<K>,
    /// Keys to be worked on: those that are ready, and those worked on that came again meanwhile.
    waiting: HashMap<K, Instant>,
    /// Keys worked on, since when.
    working: HashMap<K, Instant>,
    /// Keys that are added later, by when.
    later: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    ended: bool,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// No keys. What happens to them is counted by `metrics`.
    pub(crate) fn new(metrics: QueueMetrics) -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashMap::new(),
            working: HashMap::new(),
            later: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            ended: false,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), metrics }))
    }

    /// Has a key worked on soon.
    pub(crate) fn add(&self, key: K) {
        let mut state = self.state();
        self.add_to(&mut state, key, Instant::now());
    }

    /// Has a key worked on after a time. Of two such times the earlier counts.
    pub(crate) fn add_after(&self, key: K, wait: Duration) {
        if wait.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + wait;
        let mut state = self.state();
        if let Some(before) = state.due.get(&key).copied() {
            if before <= at {
                return;
            }
            state.later.remove(&(before, key.clone()));
        }
        state.due.insert(key.clone(), at);
        state.later.insert((at, key));
        // Whoever sleeps until the first of them may have to wake up earlier.
        self.0.changed.notify_one();
    }

    /// Has a key worked on again after a failure: after 5 ms, then twice as long each time, 1000 s at most.
    pub(crate) fn add_failed(&self, key: K) {
        self.0.metrics.retries.inc();
        let failures = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        let wait = INITIAL_BACKOFF.saturating_mul(2_u32.saturating_pow(failures)).min(MAX_BACKOFF);
        self.add_after(key, wait);
    }

    /// Forgets the failures of a key, after a success.
    pub(crate) fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// The next key, once there is one; `None` when the queue has ended. [`Self::done`] must be told of its end.
    pub(crate) async fn next(&self) -> Option<K> {
        loop {
            let due = {
                let mut state = self.state();
                if state.ended {
                    self.0.changed.notify_one();
                    return None;
                }
                let now = Instant::now();
                self.move_due(&mut state, now);
                if let Some(key) = state.ready.pop_front() {
                    let since = state.waiting.remove(&key).unwrap_or(now);
                    state.working.insert(key.clone(), now);
                    self.0.metrics.taken(state.waiting.len(), now - since);
                    // Another worker takes the next one, or sleeps until the first that is due: this one is busy now.
                    if !state.ready.is_empty() || !state.later.is_empty() {
                        self.0.changed.notify_one();
                    }
                    return Some(key);
                }
                state.later.first().map(|(at, _)| *at)
            };
            match due {
                Some(due) => tokio::select! {
                    () = self.0.changed.notified() => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => self.0.changed.notified().await,
            }
        }
    }

    /// The work on a key has ended, however.
    pub(crate) fn done(&self, key: &K) {
        let mut state = self.state();
        if let Some(since) = state.working.remove(key) {
            self.0.metrics.worked(since.elapsed());
        }
        if state.waiting.contains_key(key) {
            state.ready.push_back(key.clone());
            self.0.changed.notify_one();
        }
    }

    /// Ends the queue: nobody gets a key any more.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.0.changed.notify_one();
    }

    /// Whether more keys wait than one.
    pub(crate) fn is_busy(&self) -> bool {
        self.state().waiting.len() > 1
    }

    /// For how long keys have been worked on: all together, and the longest.
    pub(crate) fn processing_times(&self) -> (Duration, Duration) {
        let state = self.state();
        let times = state.working.values().map(Instant::elapsed);
        times.fold((Duration::ZERO, Duration::ZERO), |(sum, most), time| (sum + time, most.max(time)))
    }

    fn add_to(&self, state: &mut State<K>, key: K, now: Instant) {
        if state.ended || state.waiting.contains_key(&key) {
            return;
        }
        state.waiting.insert(key.clone(), now);
        self.0.metrics.added(state.waiting.len());
        if !state.working.contains_key(&key) {
            state.ready.push_back(key);
            self.0.changed.notify_one();
        }
    }

    fn move_due(&self, state: &mut State<K>, now: Instant) {
        while state.later.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = state.later.pop_first() else { break };
            state.due.remove(&key);
            self.add_to(state, key, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn queue() -> Queue<&'static str> {
        Queue::new(QueueMetrics::unregistered())
    }

    fn now(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_processed_by_one_worker() {
        let queue = queue();
        for key in ["a", "b", "a"] {
            queue.add(key);
        }
        assert_eq!((now(&queue), now(&queue), now(&queue)), (Some("a"), Some("b"), None));
        queue.add("a");
        queue.add("a");
        assert_eq!(now(&queue), None, "a is being worked on");
        queue.done(&"b");
        assert_eq!(now(&queue), None);
        queue.done(&"a");
        assert_eq!((now(&queue), now(&queue)), (Some("a"), None));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_until_forgotten() {
        let queue = queue();
        let mut waits = Vec::new();
        let turn = async |queue: &Queue<&'static str>| {
            let start = Instant::now();
            queue.add_failed("a");
            assert_eq!(queue.next().await, Some("a"));
            queue.done(&"a");
            start.elapsed().as_millis()
        };
        for _ in 0..4 {
            waits.push(turn(&queue).await);
        }
        assert_eq!(waits, [5, 10, 20, 40]);
        for _ in 0..40 {
            waits.push(turn(&queue).await);
        }
        assert_eq!(waits.last(), Some(&1_000_000));
        queue.forget(&"a");
        assert_eq!(turn(&queue).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_delays_counts() {
        let queue = queue();
        queue.add_after("a", 100 * MS);
        queue.add_after("a", 20 * MS);
        queue.add_after("a", 500 * MS);
        let start = Instant::now();
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_millis(), 20);
        queue.done(&"a");
        tokio::time::sleep(1000 * MS).await;
        assert_eq!(now(&queue), None, "the later ones are gone");
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_key_wakes_a_waiting_worker() {
        let queue = queue();
        queue.add_after("late", 10_000 * MS);
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add_after("soon", 5 * MS);
        let start = Instant::now();
        assert_eq!(waiting.await.unwrap(), Some("soon"));
        assert!(start.elapsed() < 10 * MS);
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_reaches_every_worker() {
        let queue = queue();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.end();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
        queue.add("a");
        assert_eq!(now(&queue), None);
    }
}
