//! Scenarios without a cluster: `tests/scenarios/*.txt` in, `tests/snapshots/*.snap` out.
//!
//! A scenario is a text: `# …` tells the story, `$ trainerd …` runs the built binary (`$ NAME=value trainerd …`
//! with a variable), `file NAME` and the lines `| …` after it make a file beforehand. The snapshot has, for each
//! command, its exit code and what it wrote to stdout and to stderr. Change one with `cargo insta review`, or with
//! `INSTA_UPDATE=always cargo test --test scenarios`.

// The lints let tests panic, but not the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Exit codes of commands that did what was asked, and so may have printed data.
const ANSWERED: [i32; 2] = [0, 2];

#[test]
fn every_scenario_ends_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scenarios: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scenarios.sort();
    assert!(!scenarios.is_empty());
    for scenario in scenarios {
        let name = scenario.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&scenario).unwrap();
        insta::with_settings!({ description => format!("tests/scenarios/{name}.txt"), omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(name, play(&text));
        });
    }
}

/// Runs a scenario in a folder of its own.
fn play(scenario: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut record = String::new();
    let mut file = None;
    for line in scenario.lines() {
        if let Some(content) = line.strip_prefix('|') {
            let path: &PathBuf = file.as_ref().expect("a line `| …` follows a line `file NAME`");
            let mut text = fs::read_to_string(path).unwrap_or_default();
            writeln!(text, "{}", content.strip_prefix(' ').unwrap_or(content)).unwrap();
            fs::write(path, text).unwrap();
            continue;
        }
        file = line.strip_prefix("file ").map(|name| folder.path().join(name));
        match line.strip_prefix("$ ") {
            Some(command) => {
                let output = run(command, folder.path());
                writeln!(record, "{line}").unwrap();
                told(&mut record, command, &output);
            }
            None => writeln!(record, "{line}").unwrap(),
        }
    }
    record
}

fn run(command: &str, folder: &Path) -> Output {
    let mut words = shell_words(command).into_iter().peekable();
    let mut process = Command::new(env!("CARGO_BIN_EXE_trainerd"));
    // Nothing of the machine may show: no kubeconfig, no colours, no options.
    process.env_clear().env("HOME", folder).current_dir(folder);
    while let Some(word) = words.next_if(|word| word != "trainerd") {
        let (name, value) = word.split_once('=').expect("a scenario runs trainerd");
        process.env(name, value);
    }
    process.args(words.skip(1)).output().unwrap()
}

/// Words between blanks; single quotes hold some together.
fn shell_words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

fn told(record: &mut String, command: &str, output: &Output) {
    let code = output.status.code().expect("no signal ends a scenario");
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    // What `doctor` and `trainjob` print is what they found, whatever that is.
    let answers = ANSWERED.contains(&code)
        || ["trainerd doctor", "trainerd trainjob"].iter().any(|verb| command.contains(verb));
    assert!(answers || stdout.is_empty(), "{command} failed and wrote to stdout: {stdout}");
    writeln!(record, "exit {code}").unwrap();
    for (name, text) in [("stdout", stdout), ("stderr", stderr)] {
        for line in text.lines() {
            writeln!(record, "{name}: {line}").unwrap();
        }
    }
}
