//! Trouble in a burst of TrainJobs: controllers that are killed, that lose their lease, that an API server answers with
//! errors. Every TrainJob comes to its JobSet, exactly once.

#[path = "reconciler/objects.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod objects;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use objects::{a_job, a_runtime};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use trainerd_cluster::{CreateParams, ListParams, RequestError};
use trainerd_integration::TestCluster;
use trainerd_integration::cluster::{AuditLog, Mark};
use trainerd_integration::proxy::{Fault, Rule, When};
use trainerd_integration::reconciler::Start;
use trainerd_integration::stack::{config_map, job_set, lease, runtime, train_job};

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
/// How long the API server is in trouble.
const TROUBLE: Duration = Duration::from_mins(1);
const LEASE: &str = "trainer.kubeflow.org";

struct World {
    cluster: TestCluster,
    mark: Mark,
    config: String,
}

type Burst = JoinHandle<std::result::Result<(), RequestError>>;

impl World {
    /// A cluster with the CRDs and a runtime; nothing where nobody writes down who wrote what.
    fn new() -> Result<Option<Self>> {
        let cluster = TestCluster::take()?;
        let Some(mark) = cluster.audit().map(AuditLog::mark).transpose()? else {
            println!("skipped: it needs the audit log of the local cluster");
            return Ok(None);
        };
        cluster.install_crds()?;
        cluster.create(&runtime(), &a_runtime("plain", &json!({"numNodes": 1})))?;
        let config = "clientConnection: {qps: 500, burst: 500}\n\
                      controller: {groupKindConcurrency: {TrainJob.trainer.kubeflow.org: 5}}\n";
        Ok(Some(Self { cluster, mark, config: config.to_owned() }))
    }

    /// While nobody answers, webhooks would refuse the burst.
    fn start(&self, more: &str) -> Start {
        Start { config: format!("{}{more}", self.config), without_webhooks: true, ..Start::default() }
    }

    /// The burst, which continues while the test does.
    #[allow(clippy::async_yields_async, reason = "the burst goes on while this test does")]
    fn burst(&self) -> Burst {
        let api = self.cluster.api().clone();
        self.cluster.block_on(async {
            tokio::spawn(async move {
                let creates = (0..JOBS).map(|number| {
                    let (api, job) = (api.clone(), a_job(&format!("job-{number}"), json!({})));
                    async move { api.create(&train_job(), &job, CreateParams::default()).await.map(drop) }
                });
                let answers: Vec<std::result::Result<(), RequestError>> =
                    stream::iter(creates).buffer_unordered(WIDTH).collect().await;
                answers.into_iter().collect::<std::result::Result<Vec<()>, _>>().map(drop)
            })
        })
    }

    fn count(&self) -> Result<usize, trainerd_integration::Error> {
        let of_ours = ListParams { namespace: Some(NS.to_owned()), ..ListParams::default() };
        let params = ListParams { metadata_only: true, ..of_ours };
        Ok(self.cluster.block_on(self.cluster.api().list(&job_set(), &params))?.items.len())
    }

    fn wait_for(&self, job_sets: usize) -> Result {
        Ok(self.cluster.wait_until("JobSets", BOUND, || Ok(self.count()? >= job_sets))?)
    }

    /// Each TrainJob has one JobSet, which was made once and never again; so many answers may have been lost.
    fn each_has_one(&self, lost: usize) -> Result {
        self.wait_for(JOBS)?;
        // It looks at all of them once more; whatever it would do it does now.
        std::thread::sleep(Duration::from_secs(3));
        let owner = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"].clone();
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let jobs = self.cluster.list(&train_job(), None)?;
        let uids: BTreeMap<String, Value> =
            jobs.iter().map(|job| (name(job), job["metadata"]["uid"].clone())).collect();
        let params = ListParams { namespace: Some(NS.to_owned()), ..ListParams::default() };
        let sets = self.cluster.block_on(self.cluster.api().list(&job_set(), &params))?.items;
        assert_eq!((uids.len(), sets.len()), (JOBS, JOBS));
        for set in &sets {
            assert_eq!(uids.get(&name(set)), Some(&owner(set)), "{}", name(set));
            assert_eq!(set["metadata"]["generation"], 1, "{} was built anew", name(set));
        }
        let snapshots = self.cluster.list(&config_map(), None)?;
        assert_eq!(snapshots.iter().filter(|it| name(it).ends_with("-runtime-snapshot")).count(), JOBS);
        let audit = self.cluster.audit().ok_or("no audit log")?;
        let writes = audit.writes_since(self.mark, "")?;
        // The answer to a request whose sender was killed meanwhile is not in the log: the rest is, once each.
        let mut made = BTreeMap::<&str, usize>::new();
        for write in writes.iter().filter(|write| write.path.contains("/jobsets/") && write.code == 201) {
            *made.entry(&write.path).or_default() += 1;
        }
        assert!(made.len() + lost >= JOBS, "{} were made", made.len());
        assert!(made.values().all(|times| *times == 1), "a JobSet was made twice");
        let deleted =
            writes.iter().filter(|write| write.path.contains("/jobsets/") && write.verb == "delete");
        assert_eq!(deleted.count(), 0);
        Ok(())
    }
}

#[test]
fn a_burst_creates_one_job_set_each_although_the_controller_is_killed() -> Result {
    let Some(world) = World::new()? else { return Ok(()) };
    let burst = world.burst();
    let start = world.start("");
    for kill in 1..=KILLS {
        let mut manager = world.cluster.manager("killed", &start)?;
        world.wait_for(kill * JOBS / (KILLS + 2))?;
        manager.signal(Signal::KILL)?;
        assert_eq!(manager.end()?, -Signal::KILL.as_raw());
    }
    world.cluster.block_on(burst)??;
    let before = world.count()?;
    assert!(before < JOBS, "it was killed after the burst, not in it");
    let _manager = world.cluster.manager("last", &start)?;
    world.each_has_one(5 * KILLS)?;
    println!("{before} of {JOBS} JobSets were there after {KILLS} kills");
    Ok(())
}

/// Two replicas: the one that leads is killed, the next one loses its lease to somebody who goes away with it.
#[test]
fn the_second_replica_takes_over_when_the_leader_ends() -> Result {
    let Some(world) = World::new()? else { return Ok(()) };
    let election = format!(
        "leaderElection: {{leaderElect: true, resourceName: {LEASE}, resourceNamespace: {NS}, \
         leaseDuration: 8s, renewDeadline: 6s, retryPeriod: 1s}}\n"
    );
    let start = world.start(&election);
    let holder = || -> Result<String, trainerd_integration::Error> {
        let found = world.cluster.get(&lease(), NS, LEASE)?.unwrap_or_default();
        Ok(found["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let mut first = world.cluster.manager("first", &start)?;
    world.cluster.wait_until("a leader", BOUND, || Ok(!holder()?.is_empty()))?;
    let first_holder = holder()?;
    let mut second = world.cluster.manager("second", &start)?;
    let burst = world.burst();

    world.wait_for(JOBS / 4)?;
    first.signal(Signal::KILL)?;
    assert_eq!(first.end()?, -Signal::KILL.as_raw());
    let killed = Instant::now();
    let at_kill = world.count()?;
    assert!(at_kill < JOBS, "it was killed after the burst, not in it");
    world.cluster.wait_until("the other one to lead", BOUND, || Ok(holder()? != first_holder))?;
    let taken_over = killed.elapsed();
    world.wait_for(JOBS / 2)?;

    // A third one is there when the second has its lease taken away.
    let _third = world.cluster.manager("third", &start)?;
    let at_theft = world.count()?;
    let stolen = json!({"spec": {
        "holderIdentity": "somebody_else", "leaseDurationSeconds": 2,
        "renewTime": format!("{:.6}", jiff::Timestamp::now()),
    }});
    world.cluster.patch(&lease(), NS, LEASE, &stolen)?;
    assert_eq!(second.end()?, 1, "{}", second.log());
    assert!(second.log().contains("leader election lost"), "{}", second.log());
    world.cluster.block_on(burst)??;
    world.each_has_one(10)?;
    assert_ne!(holder()?, "somebody_else");
    println!(
        "{at_kill} JobSets when the first was killed, taken over after {taken_over:.1?}; {at_theft} when the second lost \
         its lease; {JOBS} in the end"
    );
    Ok(())
}

/// An API server that answers every request of the controller, its watches included, with 429 and then with 500.
#[test]
fn no_train_job_is_lost_when_the_api_server_fails_for_a_minute() -> Result {
    let Some(world) = World::new()? else { return Ok(()) };
    let start = Start { kubeconfig: Some(world.cluster.proxied()), ..world.start("") };
    let proxy = world.cluster.proxy();
    world.cluster.block_on(proxy.begin(Vec::new()));
    let mut manager = world.cluster.manager("troubled", &start)?;
    let burst = world.burst();
    world.wait_for(JOBS / 10)?;
    let begun = world.count()?;
    let start_of_trouble = Instant::now();
    let mut refused = 0;
    for code in [429, 500] {
        let rule = Rule { when: When::Each { of: 1, times: None }, fault: Fault::Answer(code) };
        proxy.add(rule.clone());
        proxy.cut_watches();
        let asked = proxy.log().len();
        std::thread::sleep(TROUBLE / 2);
        refused += proxy.log().len() - asked;
        proxy.remove(&rule);
    }
    proxy.clear_faults();
    let (during, clear_faults) = (world.count()?, Instant::now());
    assert!(during < JOBS, "the trouble came after the burst, not in it");
    world.cluster.block_on(burst)??;
    world.wait_for(JOBS)?;
    let recovered = clear_faults.elapsed();
    world.each_has_one(0)?;
    assert_eq!(manager.probe("/healthz")?.code, 200);
    manager.signal(Signal::TERM)?;
    assert_eq!(manager.end()?, 0, "{}", manager.log());
    println!(
        "{begun} JobSets before the trouble, {during} after {:.0?} of it with {refused} refused requests, {JOBS} {recovered:.1?} later",
        clear_faults - start_of_trouble
    );
    Ok(())
}
