//! The command line, run as people run it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests, which the exemption for tests does not reach"
)]

use std::process::{Command, Output};

fn xtask(cache: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .env("TRAINERD_CACHE", cache)
        .output()
        .expect("xtask runs")
}

#[test]
fn a_wrong_command_line_exits_with_4() {
    let cache = tempfile::tempdir().unwrap();
    for arguments in [
        &["nonsense"][..],
        &["cluster"],
        &["cluster", "nonsense"],
        &["cluster", "up", "Not/A/Name"],
        &["cluster", "up", "--no-such-flag"],
        &["cluster", "status", "-o", "xml"],
        &["demo", "--cluster", "Not/A/Name"],
        &["test", "no-such-stage"],
        &["lint", "no-such-check"],
        &["generate", "--no-such-flag"],
        &["torture", "without-two-dashes"],
    ] {
        let output = xtask(cache.path(), arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_invalid_test_cluster_exits_with_4_before_building() {
    let cache = tempfile::tempdir().unwrap();
    for (which, kubeconfig) in [("existing", ""), ("exists", "/k")] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("test")
            .env("TRAINERD_CACHE", cache.path())
            .env("TRAINERD_TEST_CLUSTER", which)
            .env("KUBECONFIG", kubeconfig)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{which}");
        assert!(output.stdout.is_empty(), "{which}");
    }
}

#[test]
fn help_is_no_error() {
    let cache = tempfile::tempdir().unwrap();
    let output = xtask(cache.path(), &["cluster", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("kubeconfig"));
}

#[test]
fn an_absent_cluster_can_be_removed_but_not_queried() {
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(xtask(cache.path(), &["cluster", "down", "nobody"]).status.code(), Some(0));
    for verb in ["status", "kubeconfig"] {
        let output = xtask(cache.path(), &["cluster", verb, "nobody"]);
        assert_eq!(output.status.code(), Some(1), "{verb}");
        assert!(output.stdout.is_empty(), "{verb}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cluster up nobody"), "a hint is given");
    }
}
