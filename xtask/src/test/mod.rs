//! `cargo xtask test`: every test, with all that they need.

mod counts;
mod error;
mod stage;
mod world;

pub(crate) mod clusters;
pub(crate) mod programs;

use std::ffi::OsString;

use clap::Args;

pub use counts::Counts;
pub use error::Error;

use crate::cli::{FAILED, Failure, INVALID_INPUT};
use crate::files::Lock;
use crate::foreground::{check_interrupted, watch_signals};
use crate::home::Home;
use crate::steps::Steps;
use crate::terminal::{print, say};

use programs::Suite;
use stage::Stage;
use world::World;

/// The arguments of `cargo xtask test`.
#[derive(Args)]
pub struct Arguments {
    /// Only these stages [default: all of them]
    #[arg(value_enum)]
    stages: Vec<Stage>,

    /// Every scenario of the charm, where otherwise a spread of them is played
    #[arg(long)]
    charm: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    let which = std::env::var("TRAINERD_TEST_CLUSTER").ok();
    let given = given_cluster(which.as_deref(), std::env::var_os("KUBECONFIG"))
        .map_err(|error| Failure { code: INVALID_INPUT, ..Failure::of(error) })?;
    let chosen = |stage: &&Stage| arguments.stages.is_empty() || arguments.stages.contains(stage);
    let stages: Vec<Stage> = Stage::all().iter().filter(chosen).copied().collect();

    watch_signals().map_err(Failure::of)?;
    announce(&stages, given.is_some());
    let waiting = || say("waiting for another run of the tests on this machine");
    let _lock = Lock::take(&home.clusters().join(".test.lock"), waiting).map_err(Failure::of)?;

    let mut tally = Tally::default();
    let mut world = World { home: &home, given, programs: Vec::new(), whole_charm: arguments.charm };
    run_stages(&stages, &mut world, &mut tally);

    print(format_args!("\n{}", tally.steps.table()));
    let Counts { passed, failed, skipped } = tally.sum;
    print(format_args!("{passed} passed, {failed} failed, {skipped} skipped"));
    check_interrupted().map_err(Failure::of)?;
    match tally.steps.failed().as_slice() {
        [] => Ok(()),
        failed => {
            let error = format!("failed: {}", failed.join(", ")).into();
            let hint = Some("`cargo xtask test STAGE…` runs only those; --help lists them".to_owned());
            Err(Failure { code: FAILED, error, hint })
        }
    }
}

/// The cluster that the tests shall use, where somebody gives one.
fn given_cluster(word: Option<&str>, kubeconfig: Option<OsString>) -> Result<Option<OsString>, Error> {
    match (word, kubeconfig) {
        (None | Some(""), _) => Ok(None),
        (Some("existing"), Some(kubeconfig)) if !kubeconfig.is_empty() => Ok(Some(kubeconfig)),
        (Some("existing"), _) => Err(Error::NoKubeconfig),
        (Some(word), _) => Err(Error::UnknownWord(word.to_owned())),
    }
}

fn announce(stages: &[Stage], is_given: bool) {
    let titles: Vec<&str> = stages.iter().map(|stage| stage.title()).collect();
    say(format_args!("To be tested: {}.", titles.join(", ")));
    if stages.iter().any(|stage| stage.needs_cluster()) {
        say(if is_given {
            "The cluster of KUBECONFIG is used: the stack is installed and removed there. Nothing is started."
        } else {
            "Clusters are started for it and stopped again (root). Debian packages that the machine lacks are\n\
             installed; the first time, Kubernetes and the controllers are built from source (minutes)."
        });
    }
}

/// Runs the stages, whatever the ones before found; stops where what the rest needs cannot be built, and after
/// a signal.
fn run_stages(stages: &[Stage], world: &mut World<'_>, tally: &mut Tally) {
    let home = world.home;
    let (mut has_parts, own_clusters) = (world.given.is_some(), world.given.is_none());
    for group in stages.chunk_by(|one, next| own_clusters && one.runs_beside(*next)) {
        if group.iter().any(|stage| stage.needs_programs()) && world.programs.is_empty() {
            let built = tally.step("build of the tests", |_| {
                world.programs = Suite::build(home)?;
                Ok(format!("{} programs", world.programs.len()))
            });
            if !built {
                return;
            }
        }
        if group.iter().any(|stage| stage.needs_cluster()) && !has_parts {
            let with_node = stages.contains(&Stage::Node);
            has_parts = tally.step("programs of the clusters", |_| clusters::build_parts(home, with_node));
            if !has_parts {
                return;
            }
        }
        tally.stages(group, world);
        if check_interrupted().is_err() {
            return;
        }
    }
}

/// What was done so far, and its outcome.
#[derive(Default)]
struct Tally {
    steps: Steps,
    sum: Counts,
}

impl Tally {
    /// Runs stages at the same time.
    fn stages(&mut self, stages: &[Stage], world: &World<'_>) {
        let mut counts = vec![Counts::default(); stages.len()];
        let acts = stages
            .iter()
            .zip(&mut counts)
            .map(|(stage, counts)| (stage.title(), move || world.run(*stage, counts).map(|note| ((), note))));
        let results = self.steps.run_parallel(acts.collect());
        for (result, counts) in results.into_iter().zip(counts) {
            self.add(&result, counts);
        }
    }

    /// Does something, counts its tests and returns whether it went well.
    fn step(&mut self, title: &str, act: impl FnOnce(&mut Counts) -> Result<String, Error>) -> bool {
        let mut counts = Counts::default();
        let result = self.steps.take(title, || act(&mut counts).map(|note| ((), note)));
        self.add(&result, counts)
    }

    /// What fails without a failed test (clippy, a cluster that does not start) counts as one: no run that failed has
    /// `0 failed`.
    fn add(&mut self, result: &Result<(), Error>, mut counts: Counts) -> bool {
        if let Err(error) = result {
            counts.failed = counts.failed.max(1);
            if let Some(hint) = error.hint() {
                say(format_args!("    hint: {hint}"));
            }
        }
        self.sum = [self.sum, counts].into_iter().sum();
        result.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_cluster_needs_its_kubeconfig() {
        let path = || Some(OsString::from("/k"));
        assert_eq!(given_cluster(None, path()).unwrap(), None);
        assert_eq!(given_cluster(Some(""), path()).unwrap(), None);
        assert_eq!(given_cluster(Some("existing"), path()).unwrap(), path());
        assert!(matches!(given_cluster(Some("existing"), None), Err(Error::NoKubeconfig)));
        assert!(matches!(given_cluster(Some("existing"), Some("".into())), Err(Error::NoKubeconfig)));
        assert!(matches!(given_cluster(Some("exists"), path()), Err(Error::UnknownWord(_))));
    }

    #[test]
    fn the_summary_counts_every_failed_step() {
        let mut tally = Tally::default();
        let failed = |passed, failed| Counts { passed, failed, skipped: 0 };
        assert!(tally.step("good", |counts| {
            *counts = failed(3, 0);
            Ok(String::new())
        }));
        assert!(!tally.step("failing tests", |counts| {
            *counts = failed(1, 2);
            Err(Error::NoTest)
        }));
        assert!(!tally.step("a check", |_| Err(Error::NoTest)));
        assert_eq!(tally.sum, failed(4, 3));
        assert_eq!(tally.steps.failed(), ["failing tests", "a check"]);
    }
}
