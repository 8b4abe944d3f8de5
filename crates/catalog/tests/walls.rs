//! The catalog decides and never acts: nothing that can reach a cluster is below it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it is surprised")]

use std::process::Command;

#[test]
fn nothing_below_can_reach_a_cluster() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "trainerd-catalog", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"trainerd-plan") && names.contains(&"tera"), "cargo tree shows nothing: {text}");
    for banned in ["tokio", "kube", "kube-client", "kube-core", "kube-runtime", "hyper", "reqwest", "rustls"]
    {
        assert!(!names.contains(&banned), "{banned} is below the catalog");
    }
}
