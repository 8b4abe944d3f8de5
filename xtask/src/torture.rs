//! `cargo xtask torture`: the fault matrices in full.

use std::path::{Path, PathBuf};

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
    /// Torture an optimised build of trainerd; the tests themselves stay as they are
    #[arg(long)]
    release: bool,
    /// Further arguments for the test programs, as those after `--` of `cargo test`
    #[arg(last = true, value_name = "ARGUMENT")]
    further: Vec<String>,
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
    cleared_after(home, INTEGRATION, || {
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
