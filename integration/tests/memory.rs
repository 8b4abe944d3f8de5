//! The daemon's memory does not grow with what users store.

use std::error::Error;
use std::fs;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use trainerd_cluster::CreateParams;
use trainerd_integration::TestCluster;
use trainerd_integration::stack::{a_train_job, train_job};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// How many TrainJobs there are, and the size of each: 72 MiB of text.
const JOBS: usize = 3000;
const SIZE: usize = 24 * 1024;
/// What the daemon may grow by: a few pages of them.
const GROWS: u64 = 40 * 1024;

/// The most memory that the process ever had, in KiB.
fn peak(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no peak is told")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

#[test]
fn many_large_train_jobs_are_counted_in_bounded_memory() -> Result {
    let cluster = TestCluster::take()?;
    if !cluster.is_local() {
        println!("skipped: it fills the cluster with TrainJobs, and only the local one is put back");
        return Ok(());
    }
    let options = cluster.folder().join("options.yaml");
    fs::write(&options, "small-footprint: true\nsettle: 0\n")?;
    let mut daemon = cluster.daemon("daemon", &["--config", &options.to_string_lossy()])?;
    daemon.wait_until_settled(Duration::from_mins(2))?;
    let ask = || -> Result<(Value, Value)> {
        Ok((daemon.read("/v1/status")?["jobs"].clone(), daemon.read("/v1/trainjobs")?))
    };
    ask()?;
    let before = peak(daemon.pid())?;

    let notes = "x".repeat(SIZE);
    let create = |number: usize| {
        let mut job = a_train_job(&format!("job-{number}"));
        job["metadata"]["annotations"] = json!({"notes": notes});
        let cluster = &cluster;
        async move { cluster.api().create(&train_job(), &job, CreateParams::default()).await.map(drop) }
    };
    cluster.block_on(stream::iter(0..JOBS).map(create).buffer_unordered(16).try_collect::<()>())?;

    // What was told before is kept for a while.
    let all = json!(JOBS);
    cluster.wait_until("every TrainJob to be counted and told", Duration::from_mins(3), || {
        let Ok((counted, told)) = ask() else { return Ok(false) };
        Ok(counted["total"] == all && told["count"]["waiting"] == all)
    })?;
    let (counted, told) = ask()?;
    assert_eq!(counted["running"], all, "{counted}");
    assert_eq!(told["unfinished"].as_array().map(Vec::len), Some(50), "the first of them are told");
    let grown = peak(daemon.pid())?.saturating_sub(before);
    println!("{JOBS} TrainJobs of {SIZE} bytes: {before} KiB before, {grown} KiB more at most");
    assert!(grown < GROWS, "the daemon grew by {grown} KiB");
    Ok(())
}
