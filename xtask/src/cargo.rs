//! Cargo on this checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::foreground;
use crate::home::Home;

/// A build that failed, or that did not make what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Cargo failed; it said why.
    #[error(transparent)]
    Run(#[from] foreground::Error),
    /// Cargo's messages could not be read.
    #[error("failed to read what cargo reports")]
    Report(#[from] serde_json::Error),
    /// Cargo succeeded and did not name the program.
    #[error("failed to find the program {0} among what cargo built")]
    NotBuilt(&'static str),
}

/// Cargo, to be run in the checkout as a person would run it there.
///
/// `cargo run` tells its program of the package by variables, which would be read as those of other packages.
pub fn cargo(home: &Home) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(home.checkout());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A program that cargo built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Folder of its package, relative to the checkout; empty for the package at the root.
    pub folder: PathBuf,
    /// Name of its target.
    pub target: String,
    /// It is a test harness.
    pub is_test: bool,
    /// Where it is.
    pub path: PathBuf,
}

/// Runs `cargo ARGUMENTS…`, which builds something, and returns the programs that were asked for, whether
/// they were built now or before. Cargo's own words are shown meanwhile.
pub fn build(home: &Home, arguments: &[&str]) -> Result<Vec<Program>, Error> {
    build_with(home, arguments, &[])
}

/// The same with variables in cargo's environment.
pub fn build_with(
    home: &Home,
    arguments: &[&str],
    variables: &[(&str, String)],
) -> Result<Vec<Program>, Error> {
    let mut command = cargo(home);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.args(arguments).arg("--message-format=json-render-diagnostics");
    let report = foreground::run_for_data(&mut command)?;
    Ok(programs(&report, home.checkout())?)
}

/// Builds the product, unoptimised, and returns where it is.
pub fn build_trainerd(home: &Home) -> Result<PathBuf, Error> {
    let programs = build(home, &["build", "--package", "trainerd", "--bin", "trainerd"])?;
    binary(&programs, "trainerd").map(Path::to_owned)
}

/// The program of that name which is no test.
pub fn binary<'a>(programs: &'a [Program], name: &'static str) -> Result<&'a Path, Error> {
    let found = programs.iter().find(|program| !program.is_test && program.target == name);
    found.map(|program| program.path.as_path()).ok_or(Error::NotBuilt(name))
}

/// A message of cargo's; other fields and reasons are of no interest.
#[derive(Deserialize)]
struct Message {
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The programs of this checkout that cargo's messages name. Build scripts have no `executable` there.
fn programs(report: &str, checkout: &Path) -> Result<Vec<Program>, serde_json::Error> {
    let mut programs = Vec::new();
    for line in report.lines().filter(|line| line.starts_with('{')) {
        let Message {
            manifest_path: Some(manifest),
            target: Some(target),
            profile: Some(profile),
            executable: Some(path),
        } = serde_json::from_str(line)?
        else {
            continue;
        };
        let Some(folder) = manifest.parent().and_then(|folder| folder.strip_prefix(checkout).ok()) else {
            continue;
        };
        programs.push(Program {
            folder: folder.to_owned(),
            target: target.name,
            is_test: profile.test,
            path,
        });
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_report() {
        let report = r#"
{"reason":"compiler-artifact","manifest_path":"/c/crates/plan/Cargo.toml","target":{"kind":["lib"],"name":"trainerd_plan"},"profile":{"test":false},"executable":null,"fresh":true}
{"reason":"compiler-artifact","manifest_path":"/c/crates/plan/Cargo.toml","target":{"kind":["lib"],"name":"trainerd_plan"},"profile":{"test":true},"executable":"/t/debug/deps/trainerd_plan-1"}
{"reason":"compiler-artifact","manifest_path":"/c/Cargo.toml","target":{"kind":["bin"],"name":"trainerd"},"profile":{"test":true},"executable":"/t/debug/deps/trainerd-2"}
{"reason":"compiler-artifact","manifest_path":"/c/Cargo.toml","target":{"kind":["bin"],"name":"trainerd"},"profile":{"test":false},"executable":"/t/debug/trainerd"}
{"reason":"compiler-artifact","manifest_path":"/elsewhere/Cargo.toml","target":{"kind":["bin"],"name":"other"},"profile":{"test":false},"executable":"/t/debug/other"}
{"reason":"build-finished","success":true}
"#;
        let programs = programs(report, Path::new("/c")).unwrap();
        let found: Vec<_> = programs
            .iter()
            .map(|program| (program.folder.to_str().unwrap(), program.target.as_str(), program.is_test))
            .collect();
        assert_eq!(
            found,
            [("crates/plan", "trainerd_plan", true), ("", "trainerd", true), ("", "trainerd", false)]
        );
        assert_eq!(binary(&programs, "trainerd").unwrap(), Path::new("/t/debug/trainerd"));
        assert!(matches!(binary(&programs, "trainerd_plan"), Err(Error::NotBuilt("trainerd_plan"))));
    }

    #[test]
    fn a_report_that_cannot_be_read_is_an_error() {
        assert!(programs("{\"reason\":", Path::new("/c")).is_err());
    }
}
