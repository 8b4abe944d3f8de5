//! `cargo xtask torture`: the fault matrices in full.

mod node;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::cargo::{self, Program};
use crate::cli::Failure;
use crate::foreground;
use crate::home::Home;
use crate::terminal::say;
use crate::test::clusters::{INTEGRATION, cleared_after};
use crate::test::programs::Suite;
use crate::test::{Counts, Error};

/// The arguments of `cargo xtask torture`.
#[derive(Args)]
pub struct Arguments {
    /// Only this scenario, at each of its points; `late`: controllers that start up to 30 s late, 100 times;
    /// `daemon`: a daemon in random trouble; `secrets`: trainerd's own Secrets deleted at random instants [default: all of
    /// them]
    #[arg(long, value_name = "NAME", default_value = "all", hide_default_value = true)]
    scenario: String,
    /// Only one of so many parts of the points and runs, in a cluster of its own: for runs side by side
    #[arg(long, value_name = "PART/PARTS")]
    part: Option<Part>,
    /// Runs of a daemon in random trouble, and of Secrets that are deleted (of these 200 at most)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The first of these runs; the others follow
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32))]
    seed: u32,
    /// Instead: kill so many commands at random instants, on a real node
    #[arg(long, value_name = "KILLS", value_parser = clap::value_parser!(u32).range(1..=49),
          conflicts_with_all = ["scenario", "part", "runs", "seed", "further"])]
    node: Option<u32>,
    /// Torture an optimised build of trainerd; the tests themselves stay as they are
    #[arg(long)]
    release: bool,
    /// Further arguments for the test programs, as those after `--` of `cargo test`
    #[arg(last = true, value_name = "ARGUMENT")]
    further: Vec<String>,
}

/// One of several parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    number: usize,
    of: usize,
}

/// A text that is no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be PART/PARTS, for example 1/2")]
struct NoPart;

impl FromStr for Part {
    type Err = NoPart;

    fn from_str(text: &str) -> Result<Self, NoPart> {
        let (number, of) = text.split_once('/').ok_or(NoPart)?;
        let part = Self { number: number.parse().map_err(|_| NoPart)?, of: of.parse().map_err(|_| NoPart)? };
        if (1..=part.of).contains(&part.number) { Ok(part) } else { Err(NoPart) }
    }
}

/// The scenario that is no kill: controllers that take their time.
const LATE: &str = "late";
/// The scenario of a daemon in random trouble.
const DAEMON: &str = "daemon";
/// The scenario of trainerd's own Secrets, deleted at random instants.
const SECRETS: &str = "secrets";
/// Of these so many at most: each takes some ten seconds.
const LOSSES: u32 = 200;

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    say(
        "Kills trainerd again and again, and runs it once more: this takes hours. A cluster is started for it (root).",
    );
    torture(&home, arguments).map_err(Failure::of)
}

fn torture(home: &Home, arguments: &Arguments) -> Result<(), Error> {
    if let Some(kills) = arguments.node {
        let trainerd = if arguments.release { release(home) } else { cargo::build_trainerd(home) };
        return node::run(home, kills, trainerd?);
    }
    let programs = Suite::build(home)?;
    let mut suite = Suite::new(home, &programs).with_binaries()?;
    if arguments.release {
        suite = suite.variable("TRAINERD_BIN", release(home)?);
    }
    let is_wanted = |name: &str| ["all", name].contains(&arguments.scenario.as_str());
    let (late, daemon, secrets) = (is_wanted(LATE), is_wanted(DAEMON), is_wanted(SECRETS));
    let kills = ![LATE, DAEMON, SECRETS].contains(&arguments.scenario.as_str());
    let first = u64::from(arguments.seed);
    let seeds = format!("{first}..{}", first + u64::from(arguments.runs));
    let scenario = if arguments.scenario == LATE { "all" } else { &arguments.scenario };
    let mut suite = suite
        .variable("TRAINERD_TORTURE", scenario)
        .variable("TRAINERD_TORTURE_SEEDS", seeds)
        .arguments(["--nocapture"]);
    let mut cluster = INTEGRATION.to_owned();
    if let Some(Part { number, of }) = arguments.part {
        cluster = format!("torture-{number}");
        suite = suite
            .variable("TRAINERD_TORTURE_PART", format!("{number}/{of}"))
            .variable("TRAINERD_INTEGRATION_CLUSTER", &cluster);
    }
    let suite = suite.arguments(&arguments.further);
    let tests = |target: &str, suite: &Suite<'_>| {
        let wanted =
            |program: &Program| program.folder == Path::new("integration") && program.target == target;
        suite.run(wanted, &mut Counts::default()).map(drop)
    };
    cleared_after(home, &cluster, || {
        if kills {
            tests("torture", &suite)?;
        }
        if daemon {
            tests("torture_daemon", &suite)?;
        }
        if secrets {
            let end = first + u64::from(arguments.runs.min(LOSSES));
            let suite = suite.clone().variable("TRAINERD_TORTURE_SEEDS", format!("{first}..{end}"));
            tests("torture_secrets", &suite)?;
        }
        if late && arguments.part.is_none_or(|part| part.number == 1) {
            tests("install", &suite.arguments(["controllers_that_start_late"]))?;
        }
        Ok(())
    })
}

fn release(home: &Home) -> Result<PathBuf, cargo::Error> {
    let programs = cargo::build(home, &["build", "--release", "--package", "trainerd"])?;
    cargo::binary(&programs, "trainerd").map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_validated() {
        assert_eq!("2/3".parse(), Ok(Part { number: 2, of: 3 }));
        for text in ["", "1", "0/2", "3/2", "a/b", "1/0", "1/2/3"] {
            assert_eq!(text.parse::<Part>(), Err(NoPart), "{text}");
        }
    }
}
