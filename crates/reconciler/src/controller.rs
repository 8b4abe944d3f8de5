//! Controllers: workers that take keys from a queue and reconcile them.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use trainerd_cluster::event_recorder::{EventRecorder, EventType, NewEvent};
use trainerd_pipeline::status::{Event, EventKind};

use crate::metrics::{ControllerMetrics, ReconcileResult};
use crate::queue::Queue;

/// What is left to do after a reconcile that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing, until something changes.
    Done,
    /// To look again after that time.
    After(Duration),
}

/// Reconciles the keys of `queue`, `workers` at a time and each of them by one at a time, until the queue ends; what is
/// in progress then is finished.
///
/// A failure is logged and comes again with the queue's backoff. A panic counts as a failure: the next event of the
/// object may make it go away, and the other objects are no part of it.
pub(crate) async fn run<K, E, F>(
    queue: Queue<K>,
    metrics: ControllerMetrics,
    workers: u32,
    reconcile: impl Fn(K) -> F + Clone + Send + Sync + 'static,
) where
    K: Clone + Debug + Eq + Hash + Ord + Send + 'static,
    E: std::error::Error + Send + 'static,
    F: Future<Output = Result<Outcome, E>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..workers.max(1) {
        let (queue, metrics, reconcile) = (queue.clone(), metrics.clone(), reconcile.clone());
        tasks.spawn(async move {
            while let Some(key) = queue.next().await {
                metrics.active.inc();
                let started = Instant::now();
                let ended = alone(reconcile(key.clone())).await;
                let result = settle(&queue, &metrics, &key, ended);
                metrics.reconciled(result, started.elapsed());
                metrics.active.dec();
                queue.done(&key);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Runs in a task of its own, so that a panic is seen; dropped, the task ends too.
async fn alone<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    match tasks.join_next().await {
        Some(ended) => ended,
        // It holds the one task that was put into it.
        None => std::future::pending().await,
    }
}

fn settle<K, E>(
    queue: &Queue<K>,
    metrics: &ControllerMetrics,
    key: &K,
    ended: Result<Result<Outcome, E>, tokio::task::JoinError>,
) -> ReconcileResult
where
    K: Clone + Debug + Eq + Hash + Ord,
    E: std::error::Error + 'static,
{
    match ended {
        Ok(Ok(Outcome::Done)) => {
            queue.forget(key);
            ReconcileResult::Success
        }
        Ok(Ok(Outcome::After(wait))) => {
            queue.forget(key);
            queue.add_after(key.clone(), wait);
            ReconcileResult::RequeueAfter
        }
        Ok(Err(error)) => {
            let error = trainerd_causes::one_line(&error);
            tracing::error!(controller = metrics.name(), object = ?key, error, "Reconciler error");
            queue.add_failed(key.clone());
            ReconcileResult::Error
        }
        Err(error) => {
            if error.is_panic() {
                metrics.panics.inc();
            }
            tracing::error!(controller = metrics.name(), object = ?key, %error, "Reconciler panic");
            queue.add_failed(key.clone());
            ReconcileResult::Error
        }
    }
}

/// Has an Event about a job written.
pub(crate) fn record(recorder: &EventRecorder, job: &Value, event: Event) {
    let event_type = match event.kind {
        EventKind::Normal => EventType::Normal,
        EventKind::Warning => EventType::Warning,
    };
    if let Some(event) = NewEvent::about(job, event_type, (event.reason, "Reconciling"), event.note) {
        recorder.record(event);
    }
}

/// The queues of all controllers, for the metrics that are computed.
#[derive(Clone, Default)]
pub(crate) struct Queues(Arc<std::sync::Mutex<Vec<LongestRunning>>>);

type LongestRunning = (&'static str, Arc<dyn Fn() -> (Duration, Duration) + Send + Sync>);

impl Queues {
    /// Adds the queue of a controller.
    pub(crate) fn add<K>(&self, controller: &'static str, queue: &Queue<K>)
    where
        K: Clone + Eq + Hash + Ord + Send + 'static,
    {
        let queue = queue.clone();
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.push((controller, Arc::new(move || queue.processing_times())));
    }

    /// For how long each has been working: all keys together, and the longest.
    pub(crate) fn processing_times(&self) -> Vec<(&'static str, (Duration, Duration))> {
        let all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.iter().map(|(name, processing_times)| (*name, processing_times())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::metrics::ManagerMetrics;

    #[derive(Debug, thiserror::Error)]
    #[error("no luck")]
    struct AlwaysFails;

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_are_requeued_and_shutdown_waits_for_workers() {
        let metrics = ManagerMetrics::new().unwrap();
        let queue = Queue::new(metrics.queue("test"));
        let tries = Arc::new(AtomicU32::new(0));
        queue.add("a");
        let reconcile = {
            let (tries, queue) = (Arc::clone(&tries), queue.clone());
            move |_: &'static str| {
                let (tries, queue) = (Arc::clone(&tries), queue.clone());
                async move {
                    match tries.fetch_add(1, Ordering::SeqCst) {
                        0 => Err(AlwaysFails),
                        1 => panic!("on purpose"),
                        2 => Ok(Outcome::After(Duration::from_mins(1))),
                        _ => {
                            queue.end();
                            tokio::time::sleep(Duration::from_secs(1)).await;
                            Ok(Outcome::Done)
                        }
                    }
                }
            }
        };
        let start = tokio::time::Instant::now();
        run(queue, metrics.controller("test", 2), 2, reconcile).await;
        assert_eq!(tries.load(Ordering::SeqCst), 4);
        assert_eq!(start.elapsed().as_millis(), 5 + 10 + 60_000 + 1000);
        let text = metrics.registry.encode().unwrap();
        for line in [
            r#"controller_runtime_reconcile_total{controller="test",result="error"} 2"#,
            r#"controller_runtime_reconcile_total{controller="test",result="requeue_after"} 1"#,
            r#"controller_runtime_reconcile_total{controller="test",result="success"} 1"#,
            r#"controller_runtime_reconcile_panics_total{controller="test"} 1"#,
            r#"controller_runtime_active_workers{controller="test"} 0"#,
            r#"workqueue_retries_total{name="test",controller="test"} 2"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
