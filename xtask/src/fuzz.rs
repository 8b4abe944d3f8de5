//! `cargo xtask fuzz`: a million random inputs for everything that reads what comes from outside, where `test` takes a
//! sample.

use clap::Args;

use crate::cargo::cargo;
use crate::cli::Failure;
use crate::foreground;
use crate::home::Home;
use crate::terminal::say;

/// The arguments of `cargo xtask fuzz`.
#[derive(Args)]
pub struct Arguments {
    /// Only families whose name holds this: configuration_files, webhook_bodies, raw_webhook_bodies, status_bodies,
    /// merge_patches, quantities, and those of the data cache
    #[arg(default_value = "")]
    family: String,
    /// Inputs of each family
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    inputs: u64,
    /// Where the sequence of inputs begins; what failed says which seed it had
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Where the tests are: the package, its test program, and the module in it.
const PLACES: [(&str, &[&str], &str); 3] = [
    ("trainerd-pipeline", &["--test", "fuzz"], ""),
    ("trainerd-reconciler", &["--lib"], "fuzz::"),
    ("trainerd-cache", &["--test", "serving"], "fuzz::"),
];

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    for (package, program, module) in PLACES {
        say(format_args!("{package}: {} inputs of each family, seed {}", arguments.inputs, arguments.seed));
        let mut command = cargo(&home);
        command
            .args(["test", "--package", package])
            .args(program)
            .args(["--", "--nocapture"])
            .arg(format!("{module}{}", arguments.family))
            .env("TRAINERD_FUZZ", arguments.inputs.to_string())
            .env("TRAINERD_FUZZ_SEED", arguments.seed.to_string());
        foreground::run(&mut command).map_err(Failure::of)?;
    }
    Ok(())
}
