//! Running an example that is a script: it submits its TrainJob itself, follows it and takes it away.

use std::path::Path;
use std::time::Instant;

use super::Error;
use super::check::check;
use super::run::Ran;
use super::table::Example;
use crate::demo::Scene;
use crate::foreground;
use crate::home::Home;
use crate::python::{self, SDK};

/// Runs the script of an example of that folder with the packages that it asks for.
pub(super) fn run(
    home: &Home,
    scene: &Scene,
    folder: &Path,
    example: &Example,
    script: &str,
) -> Result<Ran, Error> {
    let python = python::interpreter(home, &SDK)?;
    let path = folder.join(example.name).join(script);
    let start = Instant::now();
    let (status, said) = foreground::run_piped(scene.command(&python).arg(&path), true)?;
    let took = start.elapsed();
    if !status.success() {
        return Err(Error::NotSeen(format!("{script} of {} succeed: {status}", example.name)));
    }
    let saw =
        check(&example.expect, &[said]).map_err(|why| Error::NotSeen(format!("what it should: {why}")))?;
    Ok(Ran { took, saw })
}
