//! What trainerd prints of itself is what is committed: the reference with the help of every verb, the alert rules, and
//! the dashboard.

use std::path::Path;
use std::process::Command;

#[test]
fn generated_files_are_current() {
    let files = [
        ("docs/cli.md", "reference"),
        ("docs/monitoring/prometheus-rules.yaml", "monitoring rules"),
        ("docs/monitoring/grafana-dashboard.json", "monitoring dashboard"),
    ];
    for (path, verb) in files {
        let output = Command::new(env!("CARGO_BIN_EXE_trainerd")).args(verb.split(' ')).output().unwrap();
        let current = String::from_utf8(output.stdout).unwrap();
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let committed = std::fs::read_to_string(committed).unwrap_or_default();
        assert!(
            current == committed,
            "{path} is stale: run `cargo xtask generate`, or `trainerd {verb} > {path}`"
        );
    }
}
