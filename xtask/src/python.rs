//! Interpreters with the packages of tests and examples, made once a machine.

use std::path::PathBuf;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::command::{self, run};
use crate::files;
use crate::home::Home;
use crate::terminal::say;

/// Packages with their digests, and what takes them.
pub(crate) struct Requirements {
    file: &'static str,
    whose: &'static str,
}

/// Those of the Python client's tests.
pub(crate) const CLIENT: Requirements = Requirements {
    file: "python/trainerd-data-cache/tests/requirements.txt",
    whose: "the tests of the Python client",
};

/// Those of whoever reads the charm's databags.
pub(crate) const DATABAGS: Requirements = Requirements {
    file: "integration/databags/requirements.txt",
    whose: "the tests of the charm's databags",
};

/// Those of the example of Kubeflow's SDK.
pub(crate) const SDK: Requirements =
    Requirements { file: "examples/sdk/requirements.lock", whose: "the example of Kubeflow's SDK" };

/// An interpreter that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Python or pip.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A file.
    #[error(transparent)]
    Files(#[from] files::Error),
}

/// The interpreter of a virtual environment in the cache, made where it is missing. By what it is made of it has its
/// name, so that another version is another one.
pub(crate) fn interpreter(home: &Home, wanted: &Requirements) -> Result<PathBuf, Error> {
    let requirements = home.checkout().join(wanted.file);
    let version = run(Command::new("python3").arg("--version"))?.stdout;
    let mut key = Sha256::new();
    key.update(files::read(&requirements)?);
    key.update(version);
    let folder = home.python().join(&hex::encode(key.finalize())[..16]);
    let interpreter = folder.join("bin/python3");
    let is_made = folder.join("made");
    if is_made.exists() {
        return Ok(interpreter);
    }
    say(format_args!("installing the packages of {}", wanted.whose));
    files::remove_folder(&folder)?;
    files::make_folder(&home.python())?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]);
    run(pip.arg("--requirement").arg(&requirements))?;
    // The last thing: an installation that was interrupted is created again.
    let failed = |source| files::Error::new("write", &is_made, source);
    std::fs::write(&is_made, "").map_err(failed)?;
    Ok(interpreter)
}
