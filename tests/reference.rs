//! What trainerd prints of itself is what is committed: the reference with the help of every verb.

use std::path::Path;
use std::process::Command;

#[test]
fn the_reference_is_current() {
    let output = Command::new(env!("CARGO_BIN_EXE_trainerd")).arg("reference").output().unwrap();
    let current = String::from_utf8(output.stdout).unwrap();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let committed = std::fs::read_to_string(committed).unwrap_or_default();
    assert!(current == committed, "docs/cli.md is stale: run `cargo xtask generate`");
}
