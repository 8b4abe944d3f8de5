//! Metrics of TrainJobs, whichever controller reconciles them: listed on a scrape and cached for a while.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use jiff::Timestamp;
use trainerd_serve::metrics::{Definition, Gauge, Metrics, MetricsError, Unit};

use super::count;
use crate::daemon::status_store::{Phase, StatusStore};
use crate::training::on_demand::OnDemand;
use crate::training::{self, Listed, Reason, TrainJobs};

pub(crate) const PHASES: Definition<Gauge, 1> =
    Definition::gauge("trainerd_trainjobs", "TrainJobs by phase", ["phase"]);
pub(crate) const REASONS: Definition<Gauge, 1> =
    Definition::gauge("trainerd_trainjobs_waiting", "Waiting or failing TrainJobs, by reason", ["reason"]);
pub(crate) const LONGEST: Definition<Gauge, 0> = Definition::gauge(
    "trainerd_trainjob_longest_wait_seconds",
    "Longest time that any TrainJob has been waiting or failing; 0 if none is",
    [],
)
.unit(Unit::Seconds);
// The only metric with names of TrainJobs: no more than the 50 that are told one by one, for as long as they run.
pub(crate) const PROGRESS: Definition<Gauge, 2> = Definition::gauge(
    "trainerd_trainjob_progress_ratio",
    "Progress that running TrainJobs report, for at most 50 of them",
    ["namespace", "trainjob"],
)
.unit(Unit::Ratio);

/// Values of a metric, by its labels.
type Rows<const LABELS: usize> = Vec<([String; LABELS], f64)>;

/// Registers them: each scrape shows the last list.
pub(super) fn register(
    metrics: &Metrics,
    store: &StatusStore,
    train_jobs: &OnDemand<Listed>,
) -> Result<(), MetricsError> {
    metrics.compute(
        &PHASES,
        rows(store, train_jobs, |jobs| {
            let number = |phase| jobs.count.get(&phase).copied().unwrap_or_default();
            training::Phase::ALL.map(|phase| ([phase.word().to_owned()], count(number(phase)))).into()
        }),
    )?;
    metrics.compute(
        &REASONS,
        rows(store, train_jobs, |jobs| {
            let number = |reason| jobs.reasons.get(&reason).copied().unwrap_or_default();
            Reason::ALL.map(|reason| ([reason.word().to_owned()], count(number(reason)))).into()
        }),
    )?;
    metrics.compute(
        &LONGEST,
        rows(store, train_jobs, |jobs| {
            let waited = |since: Timestamp| Timestamp::now().duration_since(since).as_secs_f64().max(0.0);
            vec![([], jobs.waiting_since.map(waited).unwrap_or_default())]
        }),
    )?;
    metrics.compute(
        &PROGRESS,
        rows(store, train_jobs, |jobs| {
            let row = |(namespace, name, percent): &(String, String, u64)| {
                let percent = u32::try_from(*percent).unwrap_or(100).min(100);
                ([namespace.clone(), name.clone()], f64::from(percent) / 100.0)
            };
            jobs.progress.iter().map(row).collect()
        }),
    )
}

/// The rows of a metric, of what was listed last; none where another daemon tells of the TrainJobs, or they could not be
/// listed.
fn rows<const LABELS: usize>(
    store: &StatusStore,
    train_jobs: &OnDemand<Listed>,
    of: impl Fn(&TrainJobs) -> Rows<LABELS> + Send + Sync + 'static,
) -> impl Fn() -> Rows<LABELS> + Send + Sync + 'static {
    let (store, train_jobs) = (store.clone(), train_jobs.clone());
    move || {
        let listed = train_jobs.last().filter(|_| tells(&store));
        match listed.as_deref() {
            Some(Ok(Some(jobs))) => of(jobs),
            // Where the kind is not served, there are none.
            Some(Ok(None)) => of(&TrainJobs::default()),
            Some(Err(_)) | None => Vec::new(),
        }
    }
}

/// Whether this daemon lists TrainJobs for those who scrape: it has its turn, and reaches the API server.
fn tells(store: &StatusStore) -> bool {
    !matches!(store.view().phase, Phase::Standby | Phase::Disconnected)
}

/// Has the TrainJobs listed before each scrape, where what is known of them is not good any more.
pub(crate) fn ask_before_scrapes(
    router: Router,
    store: &StatusStore,
    train_jobs: &OnDemand<Listed>,
) -> Router {
    let (store, train_jobs) = (store.clone(), train_jobs.clone());
    router.route_layer(from_fn(move |request: Request, next: Next| {
        let (store, train_jobs) = (store.clone(), train_jobs.clone());
        async move {
            if tells(&store) {
                // Its outcome is read as the metrics are.
                let _ = train_jobs.now().await;
            }
            next.run(request).await
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::daemon::status_store::StatusView;

    fn exposed(phase: Phase, listed: Result<Option<TrainJobs>, String>) -> String {
        let store = StatusStore::new(StatusView { phase, ..StatusView::default() });
        let metrics = Metrics::new();
        register(&metrics, &store, &OnDemand::known(Arc::new(listed))).unwrap();
        let exposed = metrics.encode().unwrap();
        let lines = exposed.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn only_the_leader_exports_train_job_metrics() {
        let jobs = TrainJobs {
            count: [(training::Phase::Waiting, 2), (training::Phase::Running, 1)].into(),
            reasons: [(Reason::ImagePull, 2)].into(),
            waiting_since: Timestamp::now().checked_sub(jiff::SignedDuration::from_hours(1)).ok(),
            progress: vec![("a".to_owned(), "b".to_owned(), 40)],
            unfinished: Vec::new(),
        };
        let told = exposed(Phase::Ready, Ok(Some(jobs.clone())));
        for line in [
            "trainerd_trainjobs{phase=\"waiting\"} 2",
            "trainerd_trainjobs{phase=\"running\"} 1",
            "trainerd_trainjobs_waiting{reason=\"ImagePull\"} 2",
            "trainerd_trainjob_longest_wait_seconds 3600",
            "trainerd_trainjob_progress_ratio{namespace=\"a\",trainjob=\"b\"} 0.4",
        ] {
            assert!(told.contains(line), "{line}\n{told}");
        }
        assert_eq!(exposed(Phase::Standby, Ok(Some(jobs))), "");
        assert_eq!(exposed(Phase::Ready, Err("forbidden".to_owned())), "");
    }
}
