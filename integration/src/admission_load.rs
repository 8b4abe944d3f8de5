//! Admission calls, many times a second: what users' creates are answered while pods behind webhooks are replaced. Creates
//! of a kind without webhooks are sent beside them: what they take is the machine's, and no webhook's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use trainerd_cluster::{Cluster, CreateParams, RequestError};
use trainerd_plan::object::Resource;

use crate::cluster::TestCluster;
use crate::stack::{a_job_set, a_train_job, config_map, job_set, train_job};

/// Time between two calls for each kind: twenty a second.
const PERIOD: Duration = Duration::from_millis(50);
/// Most calls under way at a time: an API server that does not keep up is not to be kept from it.
const MOST: usize = 60;
/// The kind without webhooks.
const CONTROL: &str = "ConfigMap";

/// Dry-run creates that continue until they are asked for.
pub struct Calls {
    running: JoinHandle<()>,
    tally: Arc<Mutex<Tally>>,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Of what a create was asked for.
    pub kind: String,
    /// When it was sent, since the first.
    pub at: Duration,
    /// How long the answer took.
    pub took: Duration,
    /// Why it was refused.
    pub refused: Option<String>,
}

/// The outcome of the calls.
#[derive(Clone, Debug, Default)]
pub struct Tally(Vec<Call>);

impl TestCluster {
    /// Sends dry-run creates of a JobSet, a TrainJob and a ConfigMap twenty times a second, from now on.
    pub fn call_admission(&self) -> Calls {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        self.block_on(async {
            let running = tokio::spawn(call(self.api().clone(), Arc::clone(&tally)));
            Calls { running, tally }
        })
    }
}

impl Calls {
    /// Ends the calls, and tells their outcomes.
    pub fn end(self) -> Tally {
        self.running.abort();
        lock(&self.tally).clone()
    }
}

impl Tally {
    /// The calls that webhooks were asked about.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.0.iter().filter(|call| call.kind != CONTROL)
    }

    /// Those of them that were answered, by kind.
    pub fn answered(&self) -> BTreeMap<&str, usize> {
        let mut answered = BTreeMap::new();
        for call in self.calls().filter(|call| call.refused.is_none()) {
            *answered.entry(call.kind.as_str()).or_default() += 1;
        }
        answered
    }

    /// Those that were refused.
    pub fn refused(&self) -> impl Iterator<Item = &Call> {
        self.calls().filter(|call| call.refused.is_some())
    }

    /// The time within which all but one of a hundred calls were answered that no webhook was asked about.
    pub fn baseline(&self) -> Duration {
        let mut took: Vec<Duration> =
            self.0.iter().filter(|call| call.kind == CONTROL).map(|call| call.took).collect();
        took.sort_unstable();
        took.get(took.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }

    /// How much longer a call took than any under way at the same time that no webhook was asked about.
    pub fn delay(&self, call: &Call) -> Duration {
        let meets = |other: &&Call| {
            other.kind == CONTROL && other.at < call.at + call.took && call.at < other.at + other.took
        };
        let others = self.0.iter().filter(meets).map(|other| other.took);
        call.took.saturating_sub(others.max().unwrap_or_default())
    }

    /// The calls that webhooks delayed by as much or more.
    pub fn delayed(&self, by: Duration) -> impl Iterator<Item = &Call> {
        self.calls().filter(move |call| call.took >= by && self.delay(call) >= by)
    }
}

/// `JobSet 100 calls, 0 refused, median 9 ms, 99 % within 40 ms, all within 300 ms`, for each kind.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
        for call in &self.0 {
            kinds.entry(&call.kind).or_default().push(call);
        }
        for (index, (kind, calls)) in kinds.into_iter().enumerate() {
            let mut took: Vec<u128> = calls.iter().map(|call| call.took.as_millis()).collect();
            took.sort_unstable();
            let within = |percent: usize| took[(took.len() - 1) * percent / 100];
            let refused = calls.iter().filter(|call| call.refused.is_some()).count();
            let (count, end) = (calls.len(), if index == 0 { "" } else { "; " });
            write!(f, "{end}{kind} {count} calls, {refused} refused, median {} ms, ", within(50))?;
            write!(f, "99 % within {} ms, all within {} ms", within(99), within(100))?;
        }
        Ok(())
    }
}

async fn call(cluster: Cluster, tally: Arc<Mutex<Tally>>) {
    let name = "admission";
    let control =
        json!({"apiVersion": "v1", "kind": CONTROL, "metadata": {"name": name, "namespace": "default"}});
    let kinds = [(job_set(), a_job_set(name)), (train_job(), a_train_job(name)), (config_map(), control)];
    let start = Instant::now();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    loop {
        ticks.tick().await;
        while calls.try_join_next().is_some() {}
        if calls.len() >= MOST {
            continue;
        }
        for (kind, object) in kinds.clone() {
            let (cluster, tally) = (cluster.clone(), Arc::clone(&tally));
            calls.spawn(async move {
                let sent = Instant::now();
                let answer = create(&cluster, &kind, &object).await;
                let (at, took) = (sent.duration_since(start), sent.elapsed());
                let refused = answer.err().map(|error| error.to_string());
                lock(&tally).0.push(Call { kind: kind.kind, at, took, refused });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_measured_against_other_requests() {
        let call = |kind: &str, at: u64, took: u64| Call {
            kind: kind.to_owned(),
            at: Duration::from_millis(at),
            took: Duration::from_millis(took),
            refused: (took == 7).then(|| "no".to_owned()),
        };
        let tally = Tally(vec![
            call("JobSet", 0, 3000),
            call("JobSet", 5000, 3000),
            call("TrainJob", 9000, 7),
            call(CONTROL, 2900, 2500),
            call(CONTROL, 8000, 3000),
        ]);
        let delays: Vec<u128> = tally.calls().map(|call| tally.delay(call).as_millis()).collect();
        assert_eq!(delays, [500, 500, 0]);
        assert_eq!(tally.delayed(Duration::from_millis(500)).count(), 2);
        assert_eq!(tally.baseline(), Duration::from_millis(2500));
        assert_eq!((tally.answered(), tally.refused().count()), (BTreeMap::from([("JobSet", 2)]), 1));
        assert!(
            tally
                .to_string()
                .ends_with("TrainJob 1 calls, 1 refused, median 7 ms, 99 % within 7 ms, all within 7 ms"),
            "{tally}"
        );
    }
}
