//! Packages that the machine lacks, from Debian.

use std::process::Command;

use crate::command::{self, run};
use crate::terminal::say;

/// Installs packages, saying so (root).
pub(crate) fn install(packages: &[&str]) -> Result<(), command::Error> {
    say(format_args!("installing Debian packages: {}", packages.join(" ")));
    run(Command::new("apt-get").args(["-q", "update"]))?;
    run(Command::new("apt-get")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(())
}
