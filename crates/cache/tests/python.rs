//! The Python client against head and workers, by its own tests. `TRAINERD_PYTHON` names an interpreter with pyarrow.

use std::process::Command;

#[test]
fn the_python_client_reads_from_the_cache() {
    let Some(python) = std::env::var_os("TRAINERD_PYTHON") else {
        eprintln!("skipped: TRAINERD_PYTHON names no interpreter with pyarrow");
        return;
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/trainerd-data-cache");
    let output = Command::new(python)
        .args(["-B", "-m", "unittest", "discover", "--start-directory", "tests"])
        .current_dir(folder)
        .env("TRAINERD_CACHE_BIN", env!("CARGO_BIN_EXE_trainerd-cache"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // Tests that were skipped show nothing.
    assert!(said.trim_end().ends_with("OK"), "{said}");
}
