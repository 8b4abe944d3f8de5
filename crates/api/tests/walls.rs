//! The pure side stays pure: nothing that talks to a cluster or runs tasks is below these crates.

use std::process::Command;

#[test]
fn no_runtime_and_no_client_below_the_types() {
    for package in ["trainerd-schema", "trainerd-api"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(["--package", package, "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .output()
            .unwrap();
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let tree = String::from_utf8(tree.stdout).unwrap();
        let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains(&package) && names.contains(&"serde_json"), "unexpected tree:\n{tree}");
        for barred in ["tokio", "kube", "kube-client", "kube-runtime", "hyper", "k8s-openapi", "reqwest"] {
            assert!(!names.contains(&barred), "{package} depends on {barred}:\n{tree}");
        }
    }
}
