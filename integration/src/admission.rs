//! Admission calls, many times a second: what users' creates are answered while pods behind webhooks are replaced.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use trainerd_cluster::{Cluster, CreateParams, RequestError};
use trainerd_plan::object::Resource;

use crate::cluster::TestCluster;
use crate::stack::{a_job_set, a_train_job, job_set, train_job};

/// Time between two calls for each kind: twenty a second.
const PERIOD: Duration = Duration::from_millis(50);

/// Dry-run creates that go on until they are asked for.
pub struct Calls {
    running: JoinHandle<()>,
    tally: Arc<Mutex<Tally>>,
}

/// What came of the calls.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls that were answered, by kind.
    pub answered: BTreeMap<String, usize>,
    /// Those that were refused: the kind, milliseconds since the first call, and why.
    pub refused: Vec<(String, u128, String)>,
    /// The longest that one took, and its milliseconds since the first.
    pub slowest: (Duration, u128),
}

impl TestCluster {
    /// Sends dry-run creates of a JobSet and of a TrainJob twenty times a second, from now on.
    pub fn call_admission(&self) -> Calls {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        self.block_on(async {
            let running = tokio::spawn(call(self.api().clone(), Arc::clone(&tally)));
            Calls { running, tally }
        })
    }
}

impl Calls {
    /// Ends the calls, and tells what came of them.
    pub fn end(self) -> Tally {
        self.running.abort();
        lock(&self.tally).clone()
    }
}

async fn call(cluster: Cluster, tally: Arc<Mutex<Tally>>) {
    let kinds = [(job_set(), a_job_set("admission")), (train_job(), a_train_job("admission"))];
    let start = Instant::now();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    loop {
        ticks.tick().await;
        while calls.try_join_next().is_some() {}
        for (kind, object) in kinds.clone() {
            let (cluster, tally) = (cluster.clone(), Arc::clone(&tally));
            calls.spawn(async move {
                let sent = Instant::now();
                let answer = create(&cluster, &kind, &object).await;
                let at = sent.duration_since(start).as_millis();
                let mut tally = lock(&tally);
                tally.slowest = tally.slowest.max((sent.elapsed(), at));
                match answer {
                    Ok(()) => *tally.answered.entry(kind.kind).or_default() += 1,
                    Err(error) => tally.refused.push((kind.kind, at, error.to_string())),
                }
            });
        }
    }
}

/// As a client of Kubernetes does it: an API server that says when to come back (for a second, where a CRD has just
/// changed) is asked again then.
async fn create(cluster: &Cluster, kind: &Resource, object: &Value) -> Result<(), RequestError> {
    let params = CreateParams { dry_run: true, ..CreateParams::default() };
    loop {
        match cluster.create(kind, object, params).await {
            Ok(_) => return Ok(()),
            Err(RequestError::TooManyRequests { retry_after: Some(after), .. }) => {
                tokio::time::sleep(after).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
