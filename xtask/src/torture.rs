//! `cargo xtask torture`: the fault matrices in full.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::cargo;
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
    /// Only this scenario, at each of its points [default: all of them]
    #[arg(long, value_name = "NAME", default_value = "all", hide_default_value = true)]
    scenario: String,
    /// Only one of so many parts of the points, in a cluster of its own: for runs side by side
    #[arg(long, value_name = "PART/PARTS")]
    part: Option<Part>,
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

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    say(
        "Kills trainerd at every request boundary, and runs it again: this takes long. A cluster is started for\nit (root).",
    );
    torture(&home, arguments).map_err(Failure::of)
}

fn torture(home: &Home, arguments: &Arguments) -> Result<(), Error> {
    let programs = Suite::build(home)?;
    let mut suite = Suite::new(home, &programs).with_binaries()?;
    if arguments.release {
        suite = suite.variable("TRAINERD_BIN", release(home)?);
    }
    let suite = suite
        .variable("TRAINERD_TORTURE", &arguments.scenario)
        .arguments(["--nocapture"])
        .arguments(&arguments.further);
    let (suite, cluster) = match arguments.part {
        None => (suite, INTEGRATION.to_owned()),
        Some(Part { number, of }) => {
            let cluster = format!("torture-{number}");
            let suite = suite
                .variable("TRAINERD_TORTURE_PART", format!("{number}/{of}"))
                .variable("TRAINERD_INTEGRATION_CLUSTER", &cluster);
            (suite, cluster)
        }
    };
    cleared_after(home, &cluster, || {
        suite.run(
            |program| program.folder == Path::new("integration") && program.target.starts_with("torture"),
            &mut Counts::default(),
        )
    })?;
    Ok(())
}

fn release(home: &Home) -> Result<PathBuf, cargo::Error> {
    let programs = cargo::build(home, &["build", "--release", "--package", "trainerd"])?;
    cargo::binary(&programs, "trainerd").map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_one_of_those_there_are() {
        assert_eq!("2/3".parse(), Ok(Part { number: 2, of: 3 }));
        for text in ["", "1", "0/2", "3/2", "a/b", "1/0", "1/2/3"] {
            assert_eq!(text.parse::<Part>(), Err(NoPart), "{text}");
        }
    }
}
