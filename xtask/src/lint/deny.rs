//! cargo-deny: licences, bans and sources of the dependencies.

use std::path::PathBuf;
use std::process::Command;

use super::Error;
use crate::cargo::cargo;
use crate::home::Home;
use crate::terminal::say;
use crate::{command, foreground};

/// The version that is installed where there is none. Another that is there already is used as it is.
const VERSION: &str = "0.20.2";

/// Runs cargo-deny, which is installed first where the machine has none.
pub(super) fn check(home: &Home, advisories: bool) -> Result<String, Error> {
    let program = find_or_install(home)?;
    let mut checks = vec!["licenses", "bans", "sources"];
    if advisories {
        checks.push("advisories");
    }
    let mut deny = Command::new(program);
    deny.current_dir(home.checkout()).args(["--workspace", "check", "--hide-inclusion-graph"]).args(&checks);
    foreground::run(&mut deny)?;
    Ok(format!("{} are fine", checks.join(", ")))
}

/// The machine's own cargo-deny, else the one in the cache.
fn find_or_install(home: &Home) -> Result<PathBuf, Error> {
    const NAME: &str = "cargo-deny";
    if command::run(Command::new(NAME).arg("--version")).is_ok() {
        return Ok(NAME.into());
    }
    let root = home.tools().join(format!("{NAME}-{VERSION}"));
    let program = root.join("bin").join(NAME);
    if !program.is_file() {
        say(format_args!("installing {NAME} {VERSION} (once on this machine; takes minutes)"));
        let mut install = cargo(home);
        install.args(["install", "--locked", "--version", VERSION, "--root"]).arg(&root).arg(NAME);
        // Without it cargo builds in a folder that it removes afterwards.
        foreground::run(install.env_remove("CARGO_TARGET_DIR"))?;
    }
    Ok(program)
}
