//! Who may depend on whom: inside the program, and below the crates that decide and never act.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What people, Kubernetes and Juju start; none knows another.
const FRONT_ENDS: [&str; 3] = ["cli", "daemon", "charm"];
/// The files that know one all the same: the verbs that start it.
const STARTED_BY: [(&str, &str); 2] = [("daemon", "cli/verbs/daemon.rs"), ("charm", "cli/verbs/charm.rs")];

/// Crates that decide and never act, each with a crate that is below it for certain.
const PURE: [(&str, &str); 7] = [
    ("trainerd-schema", "serde_json"),
    ("trainerd-api", "trainerd-schema"),
    ("trainerd-object", "serde_json"),
    ("trainerd-plan", "trainerd-object"),
    ("trainerd-catalog", "tera"),
    ("trainerd-pipeline", "trainerd-api"),
    ("trainerd-causes", "trainerd-causes"),
];
/// What talks to somebody, or runs tasks.
const IMPURE: [&str; 9] = [
    "tokio",
    "kube",
    "kube-client",
    "kube-core",
    "kube-runtime",
    "k8s-openapi",
    "hyper",
    "reqwest",
    "rustls",
];
/// Further crates that must not be below one, and why.
const APART: [(&str, &str, &str); 3] = [
    ("trainerd-engine", "trainerd-catalog", "a revision is rolled back to without the catalog that made it"),
    ("trainerd", "arrow", "the data cache is a program of its own"),
    ("trainerd", "trainerd-cache", "the data cache is a program of its own"),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// What each file of `src` names of other modules of the top level, tests aside: pairs of a file's path and a module.
fn uses() -> io::Result<Vec<(String, String)>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&source, &mut paths)?;
    let mut uses = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&source).unwrap_or(&path).display().to_string();
        // They belong to no module, or to all: where the program begins, and what only tests know.
        if name == "main.rs" || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for named in text.split("crate::").skip(1) {
            let module = named.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next();
            let module = module.unwrap_or_default();
            if module != module_of(&name) && !module.is_empty() {
                uses.push((name.clone(), module.to_owned()));
            }
        }
    }
    Ok(uses)
}

fn module_of(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

#[test]
fn the_front_ends_do_not_know_each_other() {
    let uses = uses().unwrap();
    assert!(uses.len() > 100, "{}", uses.len());
    let across: Vec<_> = uses
        .iter()
        .filter(|(file, module)| {
            FRONT_ENDS.contains(&module.as_str()) && !STARTED_BY.contains(&(module.as_str(), file.as_str()))
        })
        .collect();
    assert!(across.is_empty(), "what two of them need belongs below them: {across:?}");
}

#[test]
fn no_modules_depend_on_each_other_in_a_circle() {
    let mut below: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, module) in uses().unwrap() {
        below.entry(module_of(&file).to_owned()).or_default().insert(module);
    }
    // Take away those that depend on none that is left, until nothing is left, or only circles.
    while let Some(module) = below
        .iter()
        .find(|(_, on)| on.iter().all(|on| !below.contains_key(on)))
        .map(|(module, _)| module.clone())
    {
        below.remove(&module);
    }
    assert!(below.is_empty(), "these depend on each other: {below:?}");
}

/// Names of the crates that a program is built from with that one, itself included.
fn below(package: &str) -> io::Result<BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

#[test]
fn pure_crates_have_no_io_dependencies() {
    for (package, known) in PURE {
        let below = below(package).unwrap();
        assert!(below.contains(package) && below.contains(known), "unexpected: {below:?}");
        for impure in IMPURE {
            assert!(!below.contains(impure), "{package} depends on {impure}");
        }
    }
}

#[test]
fn crates_stay_independent() {
    for (package, other, why) in APART {
        let below = below(package).unwrap();
        assert!(below.contains(package) && below.contains("tokio"), "unexpected: {below:?}");
        assert!(!below.contains(other), "{package} depends on {other}, though {why}");
    }
}
