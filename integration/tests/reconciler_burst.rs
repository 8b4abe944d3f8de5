//! The controller is killed again and again in a burst of TrainJobs: every one comes to its JobSet, exactly once.

#[path = "reconciler/objects.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod objects;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use objects::{a_job, a_runtime};
use rustix::process::Signal;
use serde_json::{Value, json};
use trainerd_cluster::{CreateParams, ListParams, RequestError};
use trainerd_integration::TestCluster;
use trainerd_integration::reconciler::Start;
use trainerd_integration::stack::{config_map, job_set, runtime, train_job};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const NS: &str = "default";
/// TrainJobs of the burst.
const JOBS: usize = 500;
/// Creates at a time.
const WIDTH: usize = 16;
/// How often the controller is killed, each time when a further part of the burst has its JobSets.
const KILLS: usize = 4;
/// For all of it, on a busy machine.
const BOUND: Duration = Duration::from_mins(4);

#[test]
fn every_train_job_of_a_burst_comes_to_one_job_set_although_the_controller_is_killed() -> Result {
    let cluster = TestCluster::take()?;
    let Some(audit) = cluster.audit() else {
        println!("skipped: it needs the audit log of the local cluster");
        return Ok(());
    };
    cluster.install_crds()?;
    cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 1})))?;
    let mark = audit.mark()?;
    // While nobody answers, webhooks would refuse the burst.
    let start = Start {
        config: "clientConnection: {qps: 500, burst: 500}\n\
                 controller: {groupKindConcurrency: {TrainJob.trainer.kubeflow.org: 5}}\n"
            .to_owned(),
        without_webhooks: true,
        ..Start::default()
    };
    let api = cluster.api().clone();
    #[allow(clippy::async_yields_async, reason = "the burst goes on while this test does")]
    let burst = cluster.block_on(async {
        tokio::spawn(async move {
            let creates = (0..JOBS).map(|number| {
                let (api, job) = (api.clone(), a_job(&format!("job-{number}"), json!({})));
                async move { api.create(&train_job(), &job, CreateParams::default()).await.map(drop) }
            });
            let answers: Vec<std::result::Result<(), RequestError>> =
                stream::iter(creates).buffer_unordered(WIDTH).collect().await;
            answers.into_iter().collect::<std::result::Result<Vec<()>, _>>().map(drop)
        })
    });
    let count = || -> Result<usize, trainerd_integration::Error> {
        let of_ours = ListParams { namespace: Some(NS.to_owned()), ..ListParams::default() };
        let params = ListParams { metadata_only: true, ..of_ours };
        Ok(cluster.block_on(cluster.api().list(&job_set(), &params))?.items.len())
    };
    for kill in 1..=KILLS {
        let mut manager = cluster.manager("killed", &start)?;
        cluster.wait_until("JobSets of this process", BOUND, || Ok(count()? >= kill * JOBS / (KILLS + 2)))?;
        manager.signal(Signal::KILL)?;
        assert_eq!(manager.end()?, -Signal::KILL.as_raw());
    }
    cluster.block_on(burst)??;
    let sets = || -> Result<Vec<Value>, trainerd_integration::Error> {
        let params = ListParams { namespace: Some(NS.to_owned()), ..ListParams::default() };
        Ok(cluster.block_on(cluster.api().list(&job_set(), &params))?.items)
    };
    let before = count()?;
    assert!(before < JOBS, "it was killed after the burst, not in it");
    let _manager = cluster.manager("last", &start)?;
    cluster.wait_until("every JobSet", BOUND, || Ok(sets()?.len() >= JOBS))?;
    // It looks at all of them once more; whatever it would do it does now.
    std::thread::sleep(Duration::from_secs(3));

    let owner = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"].clone();
    let uids: BTreeMap<String, Value> = cluster
        .list(&train_job(), None)?
        .into_iter()
        .map(|job| {
            (job["metadata"]["name"].as_str().unwrap_or_default().to_owned(), job["metadata"]["uid"].clone())
        })
        .collect();
    let sets = sets()?;
    assert_eq!((uids.len(), sets.len()), (JOBS, JOBS));
    for set in &sets {
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        assert_eq!(uids.get(name), Some(&owner(set)), "{name}");
        assert_eq!(set["metadata"]["generation"], 1, "{name} was built anew");
    }
    let snapshots = cluster.list(&config_map(), None)?;
    let snapshots = snapshots
        .iter()
        .filter(|it| it["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-runtime-snapshot")));
    assert_eq!(snapshots.count(), JOBS);
    let writes = audit.writes_since(mark, "")?;
    // The answer to a request whose sender was killed meanwhile is not in the log: the rest is, once each.
    let mut made = BTreeMap::<&str, usize>::new();
    for write in writes.iter().filter(|write| write.path.contains("/jobsets/") && write.code == 201) {
        *made.entry(&write.path).or_default() += 1;
    }
    assert!(made.len() > JOBS - 5 * KILLS, "{} were made", made.len());
    assert!(made.values().all(|times| *times == 1), "a JobSet was made twice");
    let deleted = writes.iter().filter(|write| write.path.contains("/jobsets/") && write.verb == "delete");
    assert_eq!(deleted.count(), 0);
    println!("{before} of {JOBS} JobSets were there after {KILLS} kills");
    Ok(())
}
