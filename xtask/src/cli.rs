//! The command line of `cargo xtask`, and how its errors are told.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cluster;
use crate::terminal::say;

/// Exit code of invalid input, a wrong command line included; the same as trainerd's own.
const INVALID_INPUT: u8 = 4;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "What people repeat in this checkout")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts and stops clusters on this machine
    Cluster(cluster::cli::Arguments),
}

/// What a verb that did not succeed hands to the terminal.
pub struct Failure {
    /// The process's exit code.
    pub code: u8,
    /// What went wrong, with its causes as sources.
    pub error: Box<dyn Error>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Parses the process's arguments, runs the verb and tells how it went.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for and go to stdout; the rest is a wrong command line.
            let asked_for = !error.use_stderr();
            let _ = error.print();
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(INVALID_INPUT) };
        }
    };
    let outcome = match cli.verb {
        Verb::Cluster(arguments) => cluster::cli::run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn tell(failure: &Failure) {
    say(format_args!("error: {}", failure.error));
    let mut cause = failure.error.source();
    while let Some(error) = cause {
        say(format_args!("  because: {error}"));
        cause = error.source();
    }
    if let Some(hint) = &failure.hint {
        say(format_args!("  hint: {hint}"));
    }
}
