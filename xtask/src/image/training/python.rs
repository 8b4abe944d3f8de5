//! The layer of PyPI packages, made by pip without a virtual environment of the image's own.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::layer::Cache;
use super::recipe::{self, Python, Recipe};
use super::{Error, tree};
use crate::command::run;
use crate::files;
use crate::image::oci::Layer;
use crate::terminal::say;

/// Newest C library that wheels may ask for: that of Debian 13.
const NEWEST_GLIBC: u8 = 41;
/// Oldest one that wheels still say they were built for.
const OLDEST_GLIBC: u8 = 17;

/// Head of a lock.
const HEAD: &str = "# Made by `cargo xtask image NAME --lock` from image.yaml; do not edit.\n";

/// The layer of a recipe's packages, `None` where it has none.
pub(super) fn layer(cache: &Cache, recipe: &Recipe) -> Result<Option<Layer>, Error> {
    let Some(python) = recipe.python() else { return Ok(None) };
    let path = recipe.requirements();
    let key = recipe::key("python", &[&python.version, &files::read(&path)?]);
    let layer = cache.layer(&key, |archive| make(cache, recipe, python, &key, archive))?;
    Ok(Some(layer))
}

fn make(
    cache: &Cache,
    recipe: &Recipe,
    python: &Python,
    key: &str,
    archive: &mut dyn Write,
) -> Result<(), Error> {
    say(format_args!("installing the PyPI packages of image {recipe}"));
    let folder = cache.path(&format!("{key}.installed"));
    files::remove_folder(&folder)?;
    let mut pip = pip(python, &["install", "--no-deps", "--require-hashes", "--no-compile"]);
    pip.arg("--target").arg(&folder).arg("--requirement").arg(recipe.requirements());
    let installed = run(&mut pip).map_err(Error::from).and_then(|_| {
        // Their first lines name this machine's interpreter.
        files::remove_folder(&folder.join("bin"))?;
        let failed = |source| files::Error::new("pack", &folder, source);
        tree::write(&folder, &packages(python), &|_| 0, archive).map_err(failed)?;
        Ok(())
    });
    files::remove_folder(&folder)?;
    installed
}

/// Where the image's interpreter looks for packages that are not Debian's.
pub(super) fn packages(python: &Python) -> PathBuf {
    PathBuf::from(format!("usr/local/lib/python{}/dist-packages", python.version))
}

/// Pins what the recipe asks for, and what that depends on, with digests.
pub(super) fn lock(recipe: &Recipe) -> Result<(), Error> {
    let Some(python) = recipe.python() else { return Ok(()) };
    let mut pinned = Vec::new();
    for (names, more) in [
        (&python.requirements, &["--only-binary", ":all:"][..]),
        (&python.alone, &["--no-deps", "--only-binary", ":all:"]),
        (&python.source, &["--no-deps", "--no-binary", ":all:"]),
    ] {
        if names.is_empty() {
            continue;
        }
        let mut pip = pip(python, &["install", "--dry-run", "--ignore-installed", "--report", "-"]);
        // It is not written to, but pip wants one where the interpreter is another.
        pip.args(more).args(["--target", "/nonexistent"]).args(names);
        pinned.extend(pins(&serde_json::from_slice(&run(&mut pip)?.stdout)?)?);
    }
    pinned.sort();
    pinned.dedup();
    let text = pinned.iter().fold(HEAD.to_owned(), |mut text, (name, version, digest)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}=={version} --hash=sha256:{digest}");
        text
    });
    Ok(files::write(&recipe.requirements(), text)?)
}

/// Name, version and digest of every package in pip's report.
fn pins(report: &Value) -> Result<Vec<(String, String, String)>, Error> {
    let packages = report["install"].as_array().into_iter().flatten();
    packages
        .map(|package| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let name = text(&package["metadata"]["name"]).unwrap_or_default();
            let version = text(&package["metadata"]["version"]);
            let digest = text(&package["download_info"]["archive_info"]["hashes"]["sha256"]);
            match (version, digest) {
                (Some(version), Some(digest)) => Ok((name.to_lowercase(), version, digest)),
                _ => Err(Error::NoDigest(name)),
            }
        })
        .collect()
}

/// pip for the image's interpreter, whatever this machine's is.
fn pip(python: &Python, arguments: &[&str]) -> Command {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip"]).args(arguments);
    pip.args(["--quiet", "--no-cache-dir", "--disable-pip-version-check", "--root-user-action=ignore"]);
    pip.args(["--implementation", "cp", "--python-version", &python.version]);
    let architecture = std::env::consts::ARCH;
    for glibc in (OLDEST_GLIBC..=NEWEST_GLIBC).rev() {
        pip.arg("--platform").arg(format!("manylinux_2_{glibc}_{architecture}"));
    }
    pip.arg("--platform").arg(format!("manylinux2014_{architecture}"));
    // Of a package that builds without PyTorch, only what runs without a compiler.
    pip.env("DS_BUILD_OPS", "0").current_dir(Path::new("/"));
    pip
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packages_are_pinned_by_digest() {
        let package = |hashes: Value| {
            json!({"install": [{
                "metadata": {"name": "NumPy", "version": "2.0"},
                "download_info": {"archive_info": {"hashes": hashes}},
            }]})
        };
        let pinned = pins(&package(json!({"sha256": "ab"}))).unwrap();
        assert_eq!(pinned, [("numpy".to_owned(), "2.0".to_owned(), "ab".to_owned())]);
        assert!(matches!(pins(&package(json!({}))), Err(Error::NoDigest(name)) if name == "NumPy"));
    }
}
