//! The native reconciler as a process of the daemon, on a real API server: what it makes of TrainJobs, and what becomes of
//! it, of TrainJobs and of the status when it crashes, hangs, refuses to stop, or its daemon is killed.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use trainerd_integration::TestCluster;
use trainerd_integration::daemon::Daemon;
use trainerd_integration::stack::{
    NAMESPACE, a_train_job, deployment, event, job_set, lease, train_job, webhook_configurations,
};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// For whatever the daemon has to do.
const BOUND: Duration = Duration::from_mins(3);
/// The controller in the cluster.
const MANAGER: &str = "kubeflow-trainer-controller-manager";

/// A cluster in which a daemon hosts the reconciler.
struct World {
    daemon: Daemon,
    file: PathBuf,
    // Last: the daemon ends before its cluster is given back.
    cluster: TestCluster,
}

impl World {
    fn new(host: &[&str]) -> Result<Self> {
        let cluster = TestCluster::take()?;
        let file = cluster.folder().join("options.yaml");
        std::fs::write(&file, options("hosted"))?;
        let daemon = start(&cluster, "daemon", &file, host)?;
        Ok(Self { daemon, file, cluster })
    }

    /// Waits until the hosted reconciler is as wanted.
    fn wait(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let view = self.daemon.wait_for(what, BOUND, |view| holds(&view["hosted"][0]))?;
        Ok(view["hosted"][0].clone())
    }

    fn create(&self, name: &str) -> Result {
        self.cluster.create(&train_job(), &a_train_job(name))?;
        Ok(())
    }

    /// Waits for the JobSet of a TrainJob; how long that took.
    fn wait_for_job_set(&self, name: &str) -> Result<Duration> {
        let began = Instant::now();
        let what = format!("the JobSet {name}");
        let found = || Ok(self.cluster.get(&job_set(), "default", name)?.is_some());
        self.cluster
            .wait_until(&what, BOUND, found)
            .map_err(|error| format!("{error}\n{}", self.daemon.log()))?;
        Ok(began.elapsed())
    }

    fn restarts(&self) -> Result<String> {
        let series = "trainerd_hosted_restarts_total{workload=\"reconciler\"}";
        Ok(self.daemon.metric(series)?.ok_or("no count of restarts")?.to_string())
    }

    fn status(&self) -> Result<String> {
        let socket = self.daemon.socket();
        Ok(self.cluster.run(&["status", "--socket", &socket])?.expect_code(0)?.stdout)
    }
}

fn options(reconciler: &str) -> String {
    format!("small-footprint: true\nsettle: 0\nreconciler: {reconciler}\n")
}

fn start(cluster: &TestCluster, name: &str, file: &std::path::Path, host: &[&str]) -> Result<Daemon> {
    let file = file.to_string_lossy();
    let mut arguments = vec!["--config", &file];
    arguments.extend(host);
    Ok(cluster.daemon(name, &arguments)?)
}

fn pid_of(hosted: &Value) -> Result<Pid> {
    let pid = hosted["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    Ok(pid.ok_or_else(|| format!("no process: {hosted:#}"))?)
}

fn lives(pid: Pid) -> bool {
    // One whose parent is gone is waited for by nobody in some containers: it is dead all the same.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn wait_until_gone(pid: Pid, bound: Duration) -> Result<Duration> {
    let began = Instant::now();
    while lives(pid) {
        if began.elapsed() > bound {
            return Err(format!("process {pid:?} is left after {bound:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(began.elapsed())
}

#[test]
fn a_hosted_reconciler_recovers_from_failures() -> Result {
    let mut world = World::new(&["--host", "reconciler"])?;
    world.daemon.wait_until_settled(BOUND)?;
    let hosted = world.wait("ready", |it| it["ready"] == true)?;
    assert_eq!((&hosted["component"], &hosted["name"]), (&json!("trainer"), &json!("reconciler")));
    // Not in the cluster, and no webhook that nobody answers.
    assert_eq!(world.cluster.get(&deployment(), NAMESPACE, MANAGER)?, None);
    let [mutating, validating] = webhook_configurations();
    assert_eq!(world.cluster.get(&mutating, "", "defaulter.trainer.kubeflow.org")?, None);
    assert_eq!(world.cluster.get(&validating, "", "validator.trainer.kubeflow.org")?, None);
    world.create("first")?;
    let usual = world.wait_for_job_set("first")?;

    // It crashes.
    let pid = pid_of(&hosted)?;
    world.create("ahead")?;
    world.wait_for_job_set("ahead")?;
    kill_process(pid, Signal::KILL)?;
    let began = Instant::now();
    world.create("crashed")?;
    let down = world.wait("down", |it| it["failure"] != Value::Null)?;
    assert_eq!(down["failure"]["message"], "it was ended by signal 9", "{down:#}");
    assert!(!down["failure"]["log"].as_array().ok_or("no log")?.is_empty());
    world.wait_for_job_set("crashed")?;
    let crash = began.elapsed();
    assert!(crash < Duration::from_secs(10), "it waited for its own lease to run out: {crash:?}");
    let again = world.wait("ready again", |it| it["ready"] == true)?;
    assert_ne!(pid_of(&again)?, pid);
    assert_eq!((&again["restarts"], world.restarts()?.as_str()), (&json!(1), "1"));
    world.daemon.wait_until_settled(BOUND)?;

    // It hangs.
    let pid = pid_of(&again)?;
    kill_process(pid, Signal::STOP)?;
    let began = Instant::now();
    world.create("hung")?;
    let view = world.daemon.wait_for("degraded", BOUND, |view| view["phase"] == "degraded")?;
    let noticed = began.elapsed();
    assert_eq!(view["reason"]["code"], "hosted-degraded", "{view:#}");
    let failure = &view["hosted"][0]["failure"];
    assert_eq!(
        (&failure["cause"]["code"], &failure["cause"]["check"]),
        (&json!("check-failed"), &json!("alive"))
    );
    let (ready, settled) = (world.daemon.probe("/readyz")?, world.daemon.probe("/settledz")?);
    assert_eq!((ready.code, settled.code), (200, 503), "{settled:?}");
    assert!(settled.body.contains("hosted workload reconciler is not ready"), "{settled:?}");
    assert_eq!(world.daemon.metric("trainerd_hosted_up{workload=\"reconciler\"}")?, Some(0.0));
    let told = world.daemon.read("/v1/status")?;
    assert_eq!(told["reason"]["code"], "HostedDegraded", "{told:#}");
    let text = world.status()?;
    assert!(text.contains("check alive failed 3 times in a row: no response within 2 s"), "{text}");
    assert!(text.contains(": not ready, revision 1"), "{text}");
    println!("while it hangs, `trainerd status` says:\n{text}");
    world.wait_for_job_set("hung")?;
    let hang = began.elapsed();
    world.daemon.wait_until_settled(BOUND)?;
    let again = world.wait("ready again", |it| it["ready"] == true)?;
    assert_eq!(world.restarts()?, "2");
    wait_until_gone(pid, Duration::ZERO)?;
    assert_eq!(world.daemon.probe("/settledz")?.code, 200);
    let reasons: Vec<Value> =
        world.cluster.list(&event(), None)?.into_iter().map(|event| event["reason"].clone()).collect();
    assert!(
        reasons.contains(&json!("HostedFailed")) && reasons.contains(&json!("HostedRecovered")),
        "{reasons:?}"
    );

    // It does not stop when it is told to.
    let pid = pid_of(&again)?;
    kill_process(pid, Signal::STOP)?;
    let began = Instant::now();
    world.daemon.signal(Signal::TERM)?;
    assert_eq!(world.daemon.end()?, Some(0), "{}", world.daemon.log());
    let stubborn = began.elapsed();
    assert!(stubborn >= Duration::from_secs(5) && stubborn < Duration::from_secs(11), "{stubborn:?}");
    wait_until_gone(pid, Duration::ZERO)?;

    // Its daemon is killed.
    world.daemon = start(&world.cluster, "again", &world.file, &["--host", "reconciler"])?;
    let hosted = world.wait("ready", |it| it["ready"] == true)?;
    let pid = pid_of(&hosted)?;
    world.daemon.signal(Signal::KILL)?;
    world.daemon.end()?;
    let orphan = wait_until_gone(pid, Duration::from_secs(5))?;

    // It stops when it is told to.
    world.daemon = start(&world.cluster, "last", &world.file, &["--host", "reconciler"])?;
    let pid = pid_of(&world.wait("ready", |it| it["ready"] == true)?)?;
    let began = Instant::now();
    world.daemon.signal(Signal::TERM)?;
    assert_eq!(world.daemon.end()?, Some(0), "{}", world.daemon.log());
    let orderly = began.elapsed();
    wait_until_gone(pid, Duration::ZERO)?;
    println!(
        "JobSet of a new TrainJob after {usual:?}; with a crash {crash:?}; with a hang {hang:?}, noticed after \
         {noticed:?}; stop {orderly:?}, of one that does not {stubborn:?}; after kill -9 of the daemon its process was \
         there for {orphan:?}"
    );
    Ok(())
}

#[test]
fn switching_the_reconciler_runs_one_at_a_time() -> Result {
    let mut world = World::new(&["--host", "reconciler"])?;
    world.daemon.wait_until_settled(BOUND)?;
    world.wait("ready", |it| it["ready"] == true)?;
    let holder = |world: &World| -> Result<String> {
        let lease = world.cluster.get(&lease(), NAMESPACE, "trainer.kubeflow.org")?.ok_or("no lease")?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    world.create("one")?;
    world.wait_for_job_set("one")?;
    let first = holder(&world)?;

    // Another daemon hosts one, too: it answers its probes, and the lease keeps it from acting.
    let mut second = start(&world.cluster, "second", &world.file, &["--host", "reconciler"])?;
    second.wait_for("ready", BOUND, |view| view["hosted"][0]["ready"] == true)?;
    world.create("two")?;
    world.wait_for_job_set("two")?;
    assert_eq!(holder(&world)?, first);
    drop(second);

    // Without --host the status says what is missing.
    let mut without = start(&world.cluster, "without", &world.file, &[])?;
    let view = without.wait_for("degraded", BOUND, |view| view["phase"] == "degraded")?;
    assert_eq!(view["reason"]["code"], "not-hosted", "{view:#}");
    drop(without);

    std::fs::write(&world.file, options("native"))?;
    world.wait("stopped", |it| it["wanted"] == false && it["state"] == "stopped")?;
    world.daemon.wait_until_settled(BOUND)?;
    assert!(world.cluster.get(&deployment(), NAMESPACE, MANAGER)?.is_some());
    let set = world.cluster.get(&job_set(), "default", "one")?.ok_or("the JobSet is gone")?;
    assert_eq!(set["metadata"]["generation"], 1);

    std::fs::write(&world.file, options("hosted"))?;
    world.wait("ready", |it| it["ready"] == true)?;
    world.daemon.wait_until_settled(BOUND)?;
    assert_eq!(world.cluster.get(&deployment(), NAMESPACE, MANAGER)?, None);
    world.create("three")?;
    world.wait_for_job_set("three")?;
    Ok(())
}

#[test]
fn status_reports_a_hosted_reconciler_without_daemon() -> Result {
    let cluster = TestCluster::take()?;
    cluster.install("2.3.0", &["--set", "reconciler=hosted"])?;
    let text = cluster.run(&["status"])?.expect_code(0)?.stdout;
    assert!(text.contains(": not ready, revision 1"), "{text}");
    assert!(text.contains("a reconciler (`trainerd daemon --host reconciler` runs one)"), "{text}");
    let status: Value = cluster.run(&["status", "-o", "json"])?.expect_code(0)?.json()?;
    assert_eq!(status["ready"], false, "{status:#}");
    Ok(())
}
