//! `cargo xtask lint`: what can be said of the code without running it.

mod deny;
mod sizes;

use clap::Args;

use crate::cargo::cargo;
use crate::cli::{FAILED, Failure};
use crate::home::Home;
use crate::steps::Steps;
use crate::terminal::print;
use crate::{command, files, foreground, generate};

/// A check that found something, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool that found something, and said it.
    #[error(transparent)]
    Tool(#[from] foreground::Error),
    /// A tool that could not be installed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A file operation.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Generated files.
    #[error(transparent)]
    Generated(#[from] generate::Error),
    /// Modules with too many lines.
    #[error("modules of more than {most} lines: {0}", most = sizes::MOST_LINES)]
    TooLong(String),
}

/// The arguments of `cargo xtask lint`.
#[derive(Args)]
pub struct Arguments {
    /// Also look the dependencies up in the advisory database, which is fetched for it
    #[arg(long)]
    advisories: bool,
}

/// Runs the verb: every check, whatever the ones before it found.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    let mut steps = Steps::default();
    let checks: [(&str, Check<'_>); 6] = [
        ("formatting", &format),
        ("size of modules", &|home| sizes::check(home)),
        ("clippy", &clippy),
        ("documentation", &documentation),
        ("generated files", &|home| Ok(generate::check(home)?)),
        ("dependencies", &|home| deny::check(home, arguments.advisories)),
    ];
    for (name, check) in checks {
        // What it found is in the steps' table.
        let _ = steps.take(name, || check(&home).map(|note| ((), note)));
        foreground::check_interrupted().map_err(Failure::of)?;
    }
    print(format_args!("\n{}", steps.table()));
    match steps.failed().as_slice() {
        [] => Ok(()),
        failed => {
            let error = format!("found something in: {}", failed.join(", ")).into();
            let hint = Some("`cargo fmt --all` and `cargo xtask generate` repaired what they can".to_owned());
            Err(Failure { code: FAILED, error, hint })
        }
    }
}

/// A check; its line when it found nothing.
type Check<'a> = &'a dyn Fn(&Home) -> Result<String, Error>;

/// The formatting of all packages.
pub(crate) fn format(home: &Home) -> Result<String, Error> {
    foreground::run(cargo(home).args(["fmt", "--all", "--check"]))?;
    Ok("as rustfmt writes it".to_owned())
}

/// Clippy over all packages and targets, warnings denied.
pub(crate) fn clippy(home: &Home) -> Result<String, Error> {
    let scope = ["clippy", "--workspace", "--all-targets", "--keep-going"];
    foreground::run(cargo(home).args(scope).args(["--", "-D", "warnings"]))?;
    Ok("no warning".to_owned())
}

fn documentation(home: &Home) -> Result<String, Error> {
    let scope = ["doc", "--workspace", "--no-deps", "--keep-going"];
    foreground::run(cargo(home).args(scope).env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok("no warning".to_owned())
}
