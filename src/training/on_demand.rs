//! What is found out only when somebody asks, once for all who ask, and kept for a while.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long an answer is good.
const KEPT: Duration = Duration::from_secs(5);
/// An answer is good for so many times as long as it took: no more than a twentieth of the time is spent on them.
const SHARE: u32 = 20;
/// How long the last answer is told to those who do not wait for one.
const TOLD: Duration = Duration::from_mins(5);
/// How long somebody who asks waits for an answer: after that the one before it is returned.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer; nothing where it could not be had.
#[derive(Clone, Debug)]
struct CachedResponse<T> {
    value: Option<T>,
    ended: Instant,
    good_until: Instant,
}

/// Asks for answers.
#[derive(Clone, Debug)]
pub(crate) struct OnDemand<T> {
    wanted: Arc<Notify>,
    answered: watch::Receiver<Option<CachedResponse<T>>>,
}

/// Finds answers when an [`OnDemand`] asks for one.
#[derive(Debug)]
pub(crate) struct Finder<T> {
    wanted: Arc<Notify>,
    answered: watch::Sender<Option<CachedResponse<T>>>,
}

/// A way to ask, and what answers.
pub(crate) fn on_demand<T>() -> (OnDemand<T>, Finder<T>) {
    let wanted = Arc::new(Notify::new());
    let (sender, answered) = watch::channel(None);
    (OnDemand { wanted: Arc::clone(&wanted), answered }, Finder { wanted, answered: sender })
}

impl<T: Clone + Send + Sync> OnDemand<T> {
    /// How it is now, or was a moment ago; nothing where that cannot be found out, or was not yet.
    pub(crate) async fn now(&self) -> Option<T> {
        let mut answered = self.answered.clone();
        let asked = Instant::now();
        let known = answered.borrow_and_update().clone();
        if let Some(known) = &known
            && asked < known.good_until
        {
            return known.value.clone();
        }
        self.wanted.notify_one();
        let fresh = answered.wait_for(|answered| answered.as_ref().is_some_and(|found| found.ended >= asked));
        match tokio::time::timeout(PATIENCE, fresh).await {
            Ok(Ok(answered)) => answered.as_ref()?.value.clone(),
            Ok(Err(_)) | Err(_) => known?.value,
        }
    }
}

impl<T: Clone> OnDemand<T> {
    /// The last answer, without asking; nothing where it is of long ago.
    pub(crate) fn last(&self) -> Option<T> {
        let answered = self.answered.borrow();
        let answered = answered.as_ref()?;
        let told_until = answered.good_until.max(answered.ended + TOLD);
        answered.value.clone().filter(|_| Instant::now() < told_until)
    }

    /// What is known once and for all.
    #[cfg(test)]
    pub(crate) fn known(value: T) -> Self {
        let ended = Instant::now();
        let answer = CachedResponse { value: Some(value), ended, good_until: ended + TOLD };
        Self { wanted: Arc::default(), answered: watch::channel(Some(answer)).1 }
    }
}

impl<T> Finder<T> {
    /// Finds an answer whenever one is asked for. Does not end: where nobody can ask (a daemon without an API), nothing is
    /// looked for, and that is no fault.
    pub(crate) async fn run<F: Future<Output = Option<T>> + Send>(self, find: impl Fn() -> F + Send) {
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = self.answered.closed() => return std::future::pending().await,
            }
            let began = Instant::now();
            let value = find().await;
            let ended = Instant::now();
            let good_until = ended + KEPT.max((ended - began) * SHARE);
            self.answered.send_replace(Some(CachedResponse { value, ended, good_until }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Finder that take so long, each its own number, and how many there were.
    fn numbered(takes: Duration) -> (OnDemand<usize>, Arc<AtomicUsize>) {
        let (asked, answers) = on_demand();
        let count = Arc::new(AtomicUsize::new(0));
        let made = Arc::clone(&count);
        tokio::spawn(answers.run(move || {
            let number = made.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                tokio::time::sleep(takes).await;
                Some(number)
            }
        }));
        (asked, count)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_cached_and_shared_by_concurrent_requests() {
        let (asked, count) = numbered(Duration::from_millis(10));
        let all = futures::future::join_all((0..50).map(|_| asked.now())).await;
        assert!(all.iter().all(|answer| *answer == Some(1)), "{all:?}");
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            asked.now().await;
        }
        assert_eq!(count.load(Ordering::Relaxed), 1, "answers in 4 s");
        assert_eq!(asked.last(), Some(1));
        tokio::time::sleep(KEPT).await;
        assert_eq!((asked.last(), asked.now().await), (Some(1), Some(2)));
        tokio::time::sleep(TOLD).await;
        assert_eq!(asked.last(), None, "how it was long ago is not how it is");
        assert_eq!(count.load(Ordering::Relaxed), 2, "the last answer is told without asking");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_cluster_there_is_no_lookup() {
        let (asked, finder) = on_demand::<usize>();
        drop(asked);
        let looks = AtomicUsize::new(0);
        let find = || async {
            looks.fetch_add(1, Ordering::Relaxed);
            Some(1)
        };
        let run = tokio::time::timeout(Duration::from_mins(10), finder.run(find)).await;
        assert!(run.is_err(), "the daemon takes the end of a task for a crash");
        assert_eq!(looks.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_delays_nobody_and_is_cached_longer() {
        let (asked, count) = numbered(Duration::from_secs(30));
        let began = Instant::now();
        assert_eq!(asked.now().await, None, "there is none yet");
        assert_eq!(began.elapsed(), PATIENCE);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(asked.now().await, Some(1));
        tokio::time::sleep(Duration::from_secs(500)).await;
        assert_eq!(asked.now().await, Some(1));
        assert_eq!(count.load(Ordering::Relaxed), 1, "answers in 9 minutes");
    }
}
