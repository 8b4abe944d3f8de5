//! `render`: the same bytes every time, and the same objects in a folder.

// The lints let tests panic, but not the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

fn render(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_trainerd")).arg("render").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!output.stdout.is_empty() || arguments.contains(&"--output-dir"));
    output.stdout
}

#[test]
fn the_same_options_give_the_same_bytes() {
    for arguments in
        [&[][..], &["--set", "trainer-version=2.2.1", "--set", "runtimes=all"][..], &["-o", "json"][..]]
    {
        assert!(render(arguments) == render(arguments), "{arguments:?}");
    }
    assert!(render(&[]) != render(&["--set", "small-footprint=true"]));
}

#[test]
fn options_are_read_from_standard_input() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trainerd"))
        .args(["render", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"small-footprint: true\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == render(&["--set", "small-footprint=true"]));
}

#[test]
fn a_component_can_be_rendered_separately() {
    let all = String::from_utf8(render(&[])).unwrap();
    let jobset = String::from_utf8(render(&["jobset"])).unwrap();
    let documents: BTreeSet<&str> = all.split("---\n").collect();
    let part: BTreeSet<&str> = jobset.split("---\n").collect();
    assert!(part.len() > 1 && part.len() < documents.len());
    assert!(part.is_subset(&documents));
}

#[test]
fn a_folder_has_one_file_per_object() {
    let folder = tempfile::tempdir().unwrap();
    render(&["--output-dir", folder.path().to_str().unwrap()]);
    let mut files = BTreeSet::new();
    collect(folder.path(), &mut files);
    let all = String::from_utf8(render(&[])).unwrap();
    let documents: Vec<&str> = all.split("---\n").filter(|document| !document.is_empty()).collect();
    let names = files.len();
    let files: BTreeSet<String> = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(names, documents.len(), "no two objects share a file");
    assert_eq!(files, documents.iter().map(|document| (*document).to_owned()).collect());
}

fn collect(folder: &Path, files: &mut BTreeSet<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.extend([path]) }
    }
}
