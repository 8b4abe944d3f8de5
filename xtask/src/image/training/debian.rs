//! The layer of Debian packages, made by mmdebstrap.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Error;
use super::layer::{Cache, copy};
use super::recipe::Recipe;
use crate::image::oci::Layer;
use crate::terminal::say;
use crate::{command, debian, files};

/// What no process of a pod reads.
const EXCLUDED: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/include/*",
    "*/__pycache__/*",
];

/// Moment that every file is of: the same packages give the same layer.
const TIMESTAMP: &str = "0";

/// The layer of a recipe's packages.
pub(super) fn layer(cache: &Cache, recipe: &Recipe) -> Result<Layer, Error> {
    let key = recipe.debian().key(recipe.user());
    let versions = cache.path(&format!("{key}.versions"));
    let layer = cache.layer(&key, |archive| make(recipe, &versions, archive))?;
    compare(recipe, &versions)?;
    Ok(layer)
}

/// Writes down which versions the layer has.
pub(super) fn lock(cache: &Cache, recipe: &Recipe) -> Result<(), Error> {
    layer(cache, recipe)?;
    let versions = cache.path(&format!("{}.versions", recipe.debian().key(recipe.user())));
    Ok(files::write(&recipe.debian_lock(), files::read(&versions)?)?)
}

fn make(recipe: &Recipe, versions: &Path, archive: &mut dyn Write) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NeedsRoot);
    }
    if !Path::new("/usr/bin/mmdebstrap").exists() {
        debian::install(&["mmdebstrap"])?;
    }
    let (suite, packages, user) = (&recipe.debian().suite, recipe.debian().packages.join(","), recipe.user());
    say(format_args!("installing Debian packages ({suite}) into a root: {packages}"));
    let hooks = [
        format!("chroot \"$1\" useradd --create-home --uid {} --shell /bin/bash {}", user.uid, user.name),
        // Where sshd, if there is one, wants a folder.
        "mkdir -p \"$1/run/sshd\"".to_owned(),
        format!(
            "dpkg-query --admindir=\"$1/var/lib/dpkg\" --show --showformat='${{Package}} ${{Version}}\\n' > '{}'",
            versions.display()
        ),
    ];
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--mode=root", "--variant=minbase", "--format=tar", "--quiet", "--skip=output/dev"]);
    mmdebstrap.arg("--aptopt=APT::Install-Recommends \"false\"");
    mmdebstrap.args(EXCLUDED.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    mmdebstrap.args(hooks.map(|hook| format!("--customize-hook={hook}")));
    mmdebstrap.arg(format!("--include={packages}")).args([suite, "-"]).env("SOURCE_DATE_EPOCH", TIMESTAMP);
    let failed = |source| command::Error::Start { program: "mmdebstrap".to_owned(), source };
    let mut child = mmdebstrap.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let copied = child.stdout.take().map_or(Ok(()), |pipe| copy(pipe, archive, versions));
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        let command = format!("mmdebstrap {suite}");
        return Err(command::Error::Failed { command, status, stderr: String::new() }.into());
    }
    copied
}

/// Says which packages are of other versions than the recipe was tried with: Debian's archive has only the newest of a
/// release, so an older one cannot be asked for.
fn compare(recipe: &Recipe, versions: &Path) -> Result<(), Error> {
    let lock = recipe.debian_lock();
    if !lock.is_file() {
        return Ok(());
    }
    let (locked, found) = (files::read(&lock)?, files::read(versions)?);
    let differing = differing(&locked, &found);
    if !differing.is_empty() {
        say(format_args!("image {recipe}: not the versions of debian.lock: {}", differing.join(", ")));
    }
    Ok(())
}

fn differing(locked: &str, found: &str) -> Vec<String> {
    let read = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
    };
    let (locked, found) = (read(locked), read(found));
    let changed = found.iter().filter(|(name, version)| locked.get(*name) != Some(version));
    let gone = locked.keys().filter(|name| !found.contains_key(*name));
    changed
        .map(|(name, version)| match locked.get(name) {
            Some(before) => format!("{name} {version} ({before})"),
            None => format!("{name} {version} (not there)"),
        })
        .chain(gone.map(|name| format!("{name} is missing")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_from_the_lock_file_are_named() {
        assert!(differing("a 1\nb 2\n", "a 1\nb 2\n").is_empty());
        let told = differing("a 1\nb 2\nd 1\n", "a 1\nb 3\nc 1\n");
        assert_eq!(told, ["b 3 (2)", "c 1 (not there)", "d is missing"]);
    }
}
