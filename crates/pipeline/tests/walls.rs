//! The pipeline decides and never acts: nothing that can reach a cluster is below it.

use std::process::Command;

#[test]
fn nothing_below_can_reach_a_cluster() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-p",
            "trainerd-pipeline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"trainerd-api") && names.contains(&"jiff"), "cargo tree shows nothing: {text}");
    for banned in ["tokio", "kube", "kube-client", "kube-core", "kube-runtime", "hyper", "reqwest", "rustls"]
    {
        assert!(!names.contains(&banned), "{banned} is below the pipeline");
    }
}
