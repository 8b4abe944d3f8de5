//! `status --watch` is told what changes, and asks for nothing while nothing does.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use trainerd_integration::managed::{BOUND, JOBSET, Managed};
use trainerd_integration::stack::{a_train_job, train_job};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The user agent of the command.
const STATUS: &str = "trainerd/0.1.0 (status)";

#[test]
fn status_watch_shows_changes_without_polling() -> Result {
    let mut kept = Managed::new()?;
    kept.set("drift-policy: report\n")?;
    let (command, mut child) =
        kept.cluster.spawn(kept.cluster.kubeconfig(), &["status", "--watch", "-o", "json"])?;
    let stdout = child.stdout.take().ok_or(command)?;
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
            // The test has ended.
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let first: Value = serde_json::from_str(&lines.recv_timeout(BOUND)?)?;
    assert_eq!(first["ready"], true, "{first:#}");
    if let Some(audit) = kept.cluster.audit().cloned() {
        // The watches are there by then.
        std::thread::sleep(Duration::from_secs(4));
        let mark = audit.mark()?;
        std::thread::sleep(Duration::from_secs(7));
        assert_eq!(audit.requests_since(mark, STATUS)?, [""; 0]);
    }
    kept.scale(3)?;
    loop {
        let now: Value = serde_json::from_str(&lines.recv_timeout(BOUND)?)?;
        let objects = now["objects"].as_array().cloned().unwrap_or_default();
        let drifted = |object: &Value| {
            object["object"]["name"] == JOBSET && object["drift"].to_string().contains(".spec.replicas")
        };
        if objects.iter().any(drifted) {
            break;
        }
    }
    kept.cluster.create(&train_job(), &a_train_job("a"))?;
    loop {
        let now: Value = serde_json::from_str(&lines.recv_timeout(BOUND)?)?;
        let jobs = &now["trainJobs"];
        if jobs["count"]["waiting"] == 1 {
            assert_eq!(jobs["unfinished"][0]["reason"], "NoPods", "{jobs:#}");
            break;
        }
    }
    // What is told to Prometheus is listed as it asks.
    for (series, count) in
        [("{phase=\"waiting\"}", 1.0), ("{phase=\"running\"}", 0.0), ("_waiting{reason=\"NoPods\"}", 1.0)]
    {
        assert_eq!(kept.daemon.metric(&format!("trainerd_trainjobs{series}"))?, Some(count), "{series}");
    }
    assert!(
        kept.daemon.metric("trainerd_trainjob_longest_wait_seconds")?.is_some_and(|waited| waited < 60.0)
    );
    kept.cluster.delete(&train_job(), "default", "a")?;
    loop {
        let now: Value = serde_json::from_str(&lines.recv_timeout(BOUND)?)?;
        if now["trainJobs"]["count"].as_object().is_some_and(serde_json::Map::is_empty) {
            break;
        }
    }
    kept.cluster.run(&["pause"])?.expect_code(0)?;
    loop {
        let now: Value = serde_json::from_str(&lines.recv_timeout(BOUND)?)?;
        if now["paused"].is_object() {
            break;
        }
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("a process id")?;
    kill_process(pid, Signal::INT)?;
    assert_eq!(child.wait()?.code(), Some(130));
    Ok(())
}
