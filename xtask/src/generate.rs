//! `cargo xtask generate`: the files that are made from the code, and whether they are current.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::cli::Failure;
use crate::home::Home;
use crate::terminal::say;
use crate::{cargo, command, files, foreground};

/// A file that trainerd itself prints.
struct Generated {
    /// Path in the checkout.
    path: &'static str,
    /// The arguments with which trainerd prints it.
    arguments: &'static [&'static str],
}

static GENERATED: [Generated; 1] = [Generated { path: "docs/cli.md", arguments: &["reference"] }];

/// Files that could not be generated, or that are not current.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Trainerd could not be built.
    #[error("failed to build trainerd")]
    Build(#[from] cargo::Error),
    /// Trainerd could not be run.
    #[error(transparent)]
    Run(#[from] command::Error),
    /// A file operation.
    #[error(transparent)]
    File(#[from] files::Error),
    /// What is committed is not what the code leads to.
    #[error("not current: {0}")]
    Stale(String),
}

/// The arguments of `cargo xtask generate`.
#[derive(Args)]
pub struct Arguments {
    /// Write nothing; end 1 when a file is not current
    #[arg(long)]
    check: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let home = Home::from_environment().map_err(Failure::of)?;
    foreground::watch_signals().map_err(Failure::of)?;
    let result = if arguments.check { check(&home).map(say) } else { write(&home) };
    result.map_err(|error| {
        let hint = matches!(error, Error::Stale(_)).then(|| "`cargo xtask generate` writes them".to_owned());
        Failure { hint, ..Failure::of(error) }
    })
}

fn write(home: &Home) -> Result<(), Error> {
    let trainerd = cargo::build_trainerd(home)?;
    for generated in &GENERATED {
        let path = home.checkout().join(generated.path);
        let current = generated.text(&trainerd)?;
        if is_current(&path, &current) {
            say(format_args!("{} is current", generated.path));
        } else {
            files::write(&path, current)?;
            say(format_args!("wrote {}", generated.path));
        }
    }
    Ok(())
}

/// Fails where a generated file is not current; says which are in one line.
pub(crate) fn check(home: &Home) -> Result<String, Error> {
    let trainerd = cargo::build_trainerd(home)?;
    let mut stale = Vec::new();
    for generated in &GENERATED {
        if !is_current(&home.checkout().join(generated.path), &generated.text(&trainerd)?) {
            stale.push(generated.path);
        }
    }
    if stale.is_empty() {
        let paths: Vec<_> = GENERATED.iter().map(|generated| generated.path).collect();
        return Ok(format!("{}: current", paths.join(", ")));
    }
    Err(Error::Stale(stale.join(", ")))
}

impl Generated {
    fn text(&self, trainerd: &Path) -> Result<Vec<u8>, Error> {
        Ok(command::run(Command::new(trainerd).args(self.arguments))?.stdout)
    }
}

/// A file that is missing or is no text is not current.
fn is_current(path: &Path, text: &[u8]) -> bool {
    files::read(path).is_ok_and(|committed| committed.as_bytes() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_identical_files_are_current() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docs/cli.md");
        assert!(!is_current(&path, b"text"));
        files::write(&path, "text").unwrap();
        assert!(is_current(&path, b"text"));
        assert!(!is_current(&path, b"text\n"));
    }
}
