//! Running test programs and counting what they say.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::Error;
use super::counts::{Counts, Skipped};
use crate::cargo::{self, Program};
use crate::foreground;
use crate::home::Home;
use crate::terminal::{print, say};

/// The test programs of a build with what they need to run.
#[derive(Clone)]
pub(crate) struct Suite<'a> {
    home: &'a Home,
    programs: &'a [Program],
    variables: Vec<(&'static str, OsString)>,
    arguments: Vec<String>,
    /// What programs that run at the same time do not share: one variable each.
    lanes: Option<(&'static str, Vec<String>)>,
    /// Programs that are begun before the others, because they take longest.
    first: &'static [&'static str],
    shown: bool,
}

/// The outcome of a program.
struct Ended {
    name: String,
    counts: Counts,
    skipped: Vec<Skipped>,
    is_success: bool,
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
        Self {
            home,
            programs,
            variables: Vec::new(),
            arguments: Vec::new(),
            lanes: None,
            first: &[],
            shown: true,
        }
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

    /// As many programs at a time as there are values for the variable, each with its own; those named `first` are
    /// begun first. What a program prints is shown at its end then.
    pub(crate) fn lanes(
        self,
        variable: &'static str,
        values: impl IntoIterator<Item = String>,
        first: &'static [&'static str],
    ) -> Self {
        Self { lanes: Some((variable, values.into_iter().collect())), first, ..self }
    }

    /// With the product and this command as the tests of the integration package look for them.
    pub(crate) fn with_binaries(self) -> Result<Self, cargo::Error> {
        let trainerd = cargo::binary(self.programs, "trainerd")?;
        let xtask = cargo::binary(self.programs, "xtask")?;
        Ok(self.variable("TRAINERD_BIN", trainerd).variable("TRAINERD_XTASK", xtask))
    }

    /// Runs those tests that `wanted` chooses, all of them whatever they say, one program after the other unless there
    /// are lanes; `counts` gets the sum also when this fails.
    pub(crate) fn run(
        &self,
        wanted: impl Fn(&Program) -> bool,
        counts: &mut Counts,
    ) -> Result<String, Error> {
        let mut programs: Vec<_> = self.programs.iter().filter(|one| one.is_test && wanted(one)).collect();
        let place = |program: &Program| self.first.iter().position(|name| program.target == *name);
        programs.sort_by_key(|program| place(program).unwrap_or(self.first.len()));
        let queue = Mutex::new(programs.into_iter());
        let queue = &queue;
        let lane = move |own| {
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let mut ended = Vec::new();
            while let Some(program) = next() {
                match self.run_one(program, own) {
                    Ok(one) => ended.push(one),
                    Err(error) => return (ended, Some(error)),
                }
            }
            (ended, None)
        };
        let lanes: Vec<(Vec<Ended>, Option<foreground::Error>)> = match &self.lanes {
            None => vec![lane(None)],
            Some((variable, values)) => thread::scope(|scope| {
                let lanes = values.iter().map(|value| scope.spawn(move || lane(Some((*variable, value)))));
                let lanes: Vec<_> = lanes.collect();
                lanes
                    .into_iter()
                    .map(|lane| lane.join().unwrap_or_else(|panic| resume_unwind(panic)))
                    .collect()
            }),
        };
        let ended = || lanes.iter().flat_map(|(ended, _)| ended);
        *counts = ended().map(|ended| ended.counts).sum();
        let failed: Vec<&str> =
            ended().filter(|ended| !ended.is_success).map(|ended| ended.name.as_str()).collect();
        let failed = failed.join(", ");
        let mut skipped = String::new();
        for Ended { name, skipped: of_program, .. } in ended() {
            for Skipped { test, why } in of_program {
                // Writing to a String cannot fail.
                let _ = write!(skipped, "\n    skipped: {name} {test}: {why}");
            }
        }
        if let Some(error) = lanes.into_iter().find_map(|(_, error)| error) {
            return Err(error.into());
        }
        if !failed.is_empty() {
            return Err(Error::Tests { counts: *counts, programs: failed });
        }
        if counts.passed == 0 {
            return Err(Error::NoTest);
        }
        let note = counts.to_string() + &skipped;
        Ok(note)
    }

    fn run_one(
        &self,
        program: &Program,
        own: Option<(&'static str, &String)>,
    ) -> Result<Ended, foreground::Error> {
        let name = program.folder.join(&program.target).display().to_string();
        say(format_args!("\n    running {name}"));
        let began = Instant::now();
        let mut command = self.command(program);
        command.envs(own);
        let shown_meanwhile = self.shown && own.is_none();
        let mut news = without_output_of_successes();
        let (status, output) =
            foreground::run_piped_showing(&mut command, move |line| news(line) && shown_meanwhile)?;
        if self.shown && own.is_some() {
            let mut news = without_output_of_successes();
            let told: String = output.split_inclusive('\n').filter(|line| news(line)).collect();
            let took = began.elapsed().as_secs_f32();
            print(format_args!("\n    {name}, in {took:.1} s:\n{}", told.trim()));
        }
        let mut counts = Counts::read(&output);
        if !status.success() {
            // One that ended before it could count has failed all the same.
            counts.failed = counts.failed.max(1);
        }
        let skipped = Skipped::read(&output);
        Ok(Ended { name, counts, skipped, is_success: status.success() })
    }

    /// The program as `cargo test` would run it, in its package's folder; without a cluster, unless one is
    /// among the variables.
    fn command(&self, program: &Program) -> Command {
        let folder = self.home.checkout().join(&program.folder);
        let mut command = Command::new(&program.path);
        // What a test says that did not look is only in its output.
        command
            .arg("--show-output")
            .args(&self.arguments)
            .current_dir(&folder)
            .env("CARGO_MANIFEST_DIR", &folder);
        command.env_remove("KUBECONFIG").env_remove("TRAINERD_TEST_CLUSTER");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Tells the lines that are worth showing from what tests that passed printed: a program lists it at its end.
fn without_output_of_successes() -> impl FnMut(&str) -> bool + Send + 'static {
    let mut listing = false;
    move |line| {
        let line = line.trim_end();
        listing = match line {
            "successes:" => true,
            "failures:" => false,
            _ => listing && !line.starts_with("test result: "),
        };
        !listing
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
    fn parallel_lanes_run_each_program_once() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::from_environment().unwrap();
        // Each waits for the other: one after the other they would end with a failure.
        let meeting = |own: &str, other: &str| {
            let path = folder.path().display();
            format!(
                "touch {path}/{own}-$LANE; for i in $(seq 100); do ls {path}/{other}-* && \
                 echo 'test result: ok. 1 passed; 0 failed; 0 ignored' && exit 0; sleep 0.1; done; exit 1"
            )
        };
        let quick = program(folder.path(), "quick", "echo 'test result: ok. 1 passed; 0 failed; 0 ignored'");
        let programs = [
            quick,
            program(folder.path(), "left", &meeting("l", "r")),
            program(folder.path(), "right", &meeting("r", "l")),
        ];
        let lanes = ["one", "two"].map(str::to_owned);
        let mut suite = Suite::new(&home, &programs).lanes("LANE", lanes, &["right", "left"]);
        suite.shown = false;
        let mut counts = Counts::default();
        assert_eq!(suite.run(|_| true, &mut counts).unwrap(), "3 passed");
        assert_eq!(counts.passed, 3);
        let met = |name: &str| folder.path().join(name).exists();
        assert!(met("r-one") && met("l-two") || met("r-two") && met("l-one"), "each lane has its variable");
    }

    #[test]
    fn the_output_of_passed_tests_is_hidden() {
        let output = "test a ... ok\n\nsuccesses:\n\n---- a stdout ----\nnoise\n\nsuccesses:\n    a\n\nfailures:\n\n\
                      ---- b stdout ----\nnews\n\ntest result: FAILED. 1 passed; 1 failed\n";
        let mut news = without_output_of_successes();
        let shown: String = output.split_inclusive('\n').filter(|line| news(line)).collect();
        assert_eq!(
            shown,
            "test a ... ok\n\nfailures:\n\n---- b stdout ----\nnews\n\ntest result: FAILED. 1 passed; 1 failed\n"
        );
    }

    #[test]
    fn all_programs_run_and_a_crash_counts_as_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::from_environment().unwrap();
        let good = program(
            folder.path(),
            "good",
            r#"[ "$A $2 $KUBECONFIG" = "b c " ] && echo "test result: ok. 2 passed; 0 failed; 1 ignored""#,
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
        assert_eq!(counts, Counts { passed: 2, failed: 1, skipped: 1 });

        let mut counts = Counts::default();
        let note = suite.run(|program| program.target == "good", &mut counts).unwrap();
        assert_eq!(note, "2 passed, 1 skipped");

        let silent = suite.run(|program| program.target == "silent", &mut Counts::default());
        assert!(matches!(silent, Err(Error::NoTest)), "a stage without tests is no success");
    }
}
