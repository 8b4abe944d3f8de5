//! How many TrainJobs there are, and run: counted when somebody asks, a page at a time.
//!
//! There may be tens of thousands. Whether one runs is in its spec and its conditions, which neither metadata nor the
//! columns of a table tell, so objects are read whole; but no more than a page of them is in memory, one count goes on
//! at a time, and what it found is kept for a while, the longer the more it took.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use trainerd_cluster::{Cluster, ListParams, RequestError};
use trainerd_plan::object::Resource;

/// TrainJobs a page: a few MB as JSON values where each is large.
const PAGE: usize = 200;
/// How long a count is good.
const KEPT: Duration = Duration::from_secs(5);
/// A count is good for so many times as long as it took: no more than a twentieth of the time is spent on them.
const SHARE: u32 = 20;
/// How long somebody who asks waits for a count: after that the one before is the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// TrainJobs in all namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Jobs {
    pub(crate) running: usize,
    pub(crate) total: usize,
}

/// What a count came to; nothing where they cannot be counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    jobs: Option<Jobs>,
    ended: Instant,
    good_until: Instant,
}

/// Has TrainJobs counted.
#[derive(Clone, Debug)]
pub(crate) struct JobCount {
    wanted: Arc<Notify>,
    counted: watch::Receiver<Option<Counted>>,
}

/// Counts TrainJobs when a [`JobCount`] asks for it.
#[derive(Debug)]
pub(crate) struct JobCounter {
    wanted: Arc<Notify>,
    counted: watch::Sender<Option<Counted>>,
}

/// A way to have TrainJobs counted, and what counts them.
pub(crate) fn job_count() -> (JobCount, JobCounter) {
    let wanted = Arc::new(Notify::new());
    let (sender, counted) = watch::channel(None);
    (JobCount { wanted: Arc::clone(&wanted), counted }, JobCounter { wanted, counted: sender })
}

impl JobCount {
    /// How many there are now, or were a moment ago; nothing where they cannot be counted, or were not yet.
    pub(crate) async fn now(&self) -> Option<Jobs> {
        let mut counted = self.counted.clone();
        let asked = Instant::now();
        let known = *counted.borrow_and_update();
        if let Some(known) = known.filter(|known| asked < known.good_until) {
            return known.jobs;
        }
        self.wanted.notify_one();
        let fresh = counted.wait_for(|counted| counted.is_some_and(|counted| counted.ended >= asked));
        match tokio::time::timeout(PATIENCE, fresh).await {
            Ok(Ok(counted)) => (*counted)?.jobs,
            Ok(Err(_)) | Err(_) => known?.jobs,
        }
    }
}

impl JobCounter {
    /// Counts whenever that is asked for, for as long as somebody may ask.
    pub(crate) async fn run<F: Future<Output = Option<Jobs>> + Send>(self, count: impl Fn() -> F + Send) {
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = self.counted.closed() => return,
            }
            let began = Instant::now();
            let jobs = count().await;
            let ended = Instant::now();
            let good_until = ended + KEPT.max((ended - began) * SHARE);
            self.counted.send_replace(Some(Counted { jobs, ended, good_until }));
        }
    }
}

/// Counts TrainJobs. Where the kind is not served, there are none.
pub(crate) async fn count(cluster: &Cluster) -> Option<Jobs> {
    let resource = Resource {
        group: "trainer.kubeflow.org".to_owned(),
        version: "v1alpha1".to_owned(),
        kind: "TrainJob".to_owned(),
        plural: "trainjobs".to_owned(),
        namespaced: true,
    };
    let mut jobs = Jobs::default();
    let each = |job: Value| {
        jobs.total += 1;
        jobs.running += usize::from(is_running(&job));
    };
    match cluster.for_each(&resource, &ListParams::default(), PAGE, each).await {
        Ok(()) => Some(jobs),
        Err(error) if error.is_absent() => Some(Jobs::default()),
        Err(error) => {
            let error: &RequestError = &error;
            tracing::warn!(%error, "failed to count TrainJobs");
            None
        }
    }
}

/// Neither over nor suspended.
fn is_running(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    let holds = |condition: &Value| {
        condition["status"] == "True"
            && matches!(condition["type"].as_str(), Some("Complete" | "Failed" | "Suspended"))
    };
    job["spec"]["suspend"] != true && !conditions.into_iter().any(holds)
}

/// Why an installation stays whose TrainJobs run, or may run; `None` where it may go.
pub(crate) fn stays(jobs: Option<Jobs>) -> Option<String> {
    match jobs {
        Some(Jobs { running: 0, .. }) => None,
        Some(Jobs { running, .. }) => Some(format!("left in place: {running} running TrainJobs")),
        None => Some("left in place: it is not known whether TrainJobs run".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    #[test]
    fn jobs_that_are_over_or_suspended_do_not_run() {
        let job = |kind: &str| json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
        assert!(is_running(&json!({})) && is_running(&job("Created")));
        for over in ["Complete", "Failed", "Suspended"] {
            assert!(!is_running(&job(over)), "{over}");
        }
        assert!(!is_running(&json!({"spec": {"suspend": true}})));
    }

    /// Counts that take so long, and how many there were.
    fn counting(takes: Duration) -> (JobCount, Arc<AtomicUsize>) {
        let (jobs, counter) = job_count();
        let counts = Arc::new(AtomicUsize::new(0));
        let made = Arc::clone(&counts);
        tokio::spawn(counter.run(move || {
            let total = made.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                tokio::time::sleep(takes).await;
                Some(Jobs { running: 0, total })
            }
        }));
        (jobs, counts)
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_is_kept_and_made_once_for_all_who_ask() {
        let (jobs, counts) = counting(Duration::from_millis(10));
        let asked = futures::future::join_all((0..50).map(|_| jobs.now())).await;
        assert!(asked.iter().all(|jobs| *jobs == Some(Jobs { running: 0, total: 1 })), "{asked:?}");
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            jobs.now().await;
        }
        assert_eq!(counts.load(Ordering::Relaxed), 1, "counts in 4 s");
        tokio::time::sleep(KEPT).await;
        assert_eq!(jobs.now().await.map(|jobs| jobs.total), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_count_holds_up_nobody_and_is_kept_longer() {
        let (jobs, counts) = counting(Duration::from_secs(30));
        let began = Instant::now();
        assert_eq!(jobs.now().await, None, "there is none yet");
        assert_eq!(began.elapsed(), PATIENCE);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(jobs.now().await.map(|jobs| jobs.total), Some(1));
        tokio::time::sleep(Duration::from_secs(500)).await;
        assert_eq!(jobs.now().await.map(|jobs| jobs.total), Some(1));
        assert_eq!(counts.load(Ordering::Relaxed), 1, "counts in 9 minutes");
    }
}
