//! Running test programs and counting what they say.

use std::ffi::OsString;
use std::process::Command;

use super::Error;
use super::counts::Counts;
use crate::cargo::{self, Program};
use crate::foreground;
use crate::home::Home;
use crate::terminal::say;

/// The test programs of a build with what they need to run.
pub(crate) struct Suite<'a> {
    home: &'a Home,
    programs: &'a [Program],
    variables: Vec<(&'static str, OsString)>,
    arguments: Vec<String>,
    shown: bool,
}

impl<'a> Suite<'a> {
    /// Builds every test of the workspace, and every program that tests run.
    ///
    /// All in one, because what is built for one package alone has other features of shared dependencies, and
    /// would be built a second time.
    pub(crate) fn build(home: &Home) -> Result<Vec<Program>, cargo::Error> {
        cargo::build(home, &["test", "--workspace", "--no-run"])
    }

    /// The programs of a build.
    pub(crate) fn new(home: &'a Home, programs: &'a [Program]) -> Self {
        Self { home, programs, variables: Vec::new(), arguments: Vec::new(), shown: true }
    }

    /// With a variable in their environment.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// With arguments, as those after `--` of `cargo test`.
    pub(crate) fn arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With the product and this command as the tests of the integration package look for them.
    pub(crate) fn with_binaries(self) -> Result<Self, cargo::Error> {
        let trainerd = cargo::binary(self.programs, "trainerd")?;
        let xtask = cargo::binary(self.programs, "xtask")?;
        Ok(self.variable("TRAINERD_BIN", trainerd).variable("TRAINERD_XTASK", xtask))
    }

    /// Runs those tests that `wanted` chooses, one program after the other, all of them whatever they say;
    /// `counts` gets the sum also when this fails.
    pub(crate) fn run(
        &self,
        wanted: impl Fn(&Program) -> bool,
        counts: &mut Counts,
    ) -> Result<String, Error> {
        let mut failed = Vec::new();
        for program in self.programs.iter().filter(|program| program.is_test && wanted(program)) {
            let name = program.folder.join(&program.target).display().to_string();
            say(format_args!("\n    running {name}"));
            let (status, output) = foreground::run_piped(&mut self.command(program), self.shown)?;
            let mut found = Counts::read(&output);
            if !status.success() {
                // One that ended before it could count has failed all the same.
                found.failed = found.failed.max(1);
                failed.push(name);
            }
            *counts = [*counts, found].into_iter().sum();
        }
        if !failed.is_empty() {
            return Err(Error::Tests { counts: *counts, programs: failed.join(", ") });
        }
        if counts.passed == 0 {
            return Err(Error::NoTest);
        }
        Ok(counts.to_string())
    }

    /// The program as `cargo test` would run it, in its package's folder; without a cluster, unless one is
    /// among the variables.
    fn command(&self, program: &Program) -> Command {
        let folder = self.home.checkout().join(&program.folder);
        let mut command = Command::new(&program.path);
        command.args(&self.arguments).current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder);
        command.env_remove("KUBECONFIG").env_remove("TRAINERD_TEST_CLUSTER");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(folder: &std::path::Path, target: &str, script: &str) -> Program {
        let path = folder.join(target);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Program { folder: "xtask".into(), target: target.into(), is_test: true, path }
    }

    #[test]
    fn all_programs_run_and_a_crash_counts_as_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::from_environment().unwrap();
        let good = program(
            folder.path(),
            "good",
            r#"[ "$A $1 $KUBECONFIG" = "b c " ] && echo "test result: ok. 2 passed; 0 failed; 1 ignored""#,
        );
        let crash = program(folder.path(), "crash", "kill -ABRT $$");
        let silent = program(folder.path(), "silent", "exit 0");
        let programs = [crash, good, silent];
        let mut suite = Suite::new(&home, &programs).variable("A", "b").arguments(["c"]);
        // Whoever counts the results of this very test would count those too.
        suite.shown = false;

        let mut counts = Counts::default();
        let error = suite.run(|_| true, &mut counts).unwrap_err().to_string();
        assert!(error.contains("xtask/crash") && !error.contains("xtask/good"), "{error}");
        assert_eq!(counts, Counts { passed: 2, failed: 1, ignored: 1 });

        let mut counts = Counts::default();
        let note = suite.run(|program| program.target == "good", &mut counts).unwrap();
        assert_eq!(note, "2 passed, 1 ignored");

        let silent = suite.run(|program| program.target == "silent", &mut Counts::default());
        assert!(matches!(silent, Err(Error::NoTest)), "a stage without tests is no success");
    }
}
