//! The life of a real control plane. Its programs are built first where they are not yet: minutes once, so
//! these run only when asked for (`cargo test -p xtask -- --ignored`).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests, which the exemption for tests does not reach"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A cluster of this test's own, removed at its end, whatever that is.
struct Cluster {
    name: String,
}

impl Cluster {
    fn new(purpose: &str) -> Self {
        let cluster = Self { name: format!("xtask-{purpose}-{}", std::process::id()) };
        assert!(cluster.run("down", &[]).status.success());
        cluster
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["cluster", verb, &self.name])
            .args(arguments)
            .output()
            .expect("xtask runs")
    }

    fn up(&self) {
        let output = self.run("up", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run("status", &["-o", "json"]).stdout).expect("status is JSON")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run("down", &[]);
    }
}

fn pids(status: &Value) -> BTreeMap<String, u64> {
    let process =
        |entry: &Value| (entry["name"].as_str().unwrap().to_owned(), entry["pid"].as_u64().unwrap());
    status["processes"].as_array().unwrap().iter().map(process).collect()
}

fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
#[ignore = "starts a real control plane"]
fn a_cluster_is_created_and_removed_completely() {
    let cluster = Cluster::new("life");
    cluster.up();
    let status = cluster.status();
    let keys: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["auditLog", "kubeconfig", "name", "processes", "profile"]);
    assert_eq!(status["profile"], "control-plane");
    let kubeconfig = PathBuf::from(status["kubeconfig"].as_str().unwrap());
    let audit_log = Path::new(status["auditLog"].as_str().unwrap());
    assert!(kubeconfig.is_absolute() && audit_log.is_absolute());
    let log = std::fs::read_to_string(audit_log).unwrap();
    assert!(
        log.lines().any(|line| line.contains("/readyz")),
        "blocking mode: what was answered is in the log"
    );
    assert!(log.lines().all(|line| line.contains(r#""level":"Metadata""#)));

    let first = pids(&status);
    assert_eq!(first.len(), 3);
    assert!(first.values().all(|pid| runs(*pid)));
    cluster.up();
    assert_eq!(pids(&cluster.status()), first, "a second up is a no-op");

    assert!(cluster.run("down", &[]).status.success());
    assert!(first.values().all(|pid| !runs(*pid)));
    assert!(!kubeconfig.parent().unwrap().exists());
}

#[test]
#[ignore = "starts a real control plane"]
fn a_broken_cluster_is_replaced() {
    let cluster = Cluster::new("broken");
    cluster.up();
    let first = pids(&cluster.status());
    let victim = first["kube-apiserver"].to_string();
    assert!(Command::new("kill").args(["-KILL", &victim]).status().unwrap().success());
    while runs(first["kube-apiserver"]) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(cluster.run("status", &[]).status.code(), Some(1));

    cluster.up();
    let second = pids(&cluster.status());
    assert_eq!(second.len(), 3);
    assert!(first.values().all(|pid| !runs(*pid)), "nothing of the first is left");
    assert!(second.values().all(|pid| runs(*pid)));
}
