//! The size of modules: a file that grows without bound is several files.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use crate::files;
use crate::home::Home;

/// Most lines of a module. Tables (type tables, snapshots, go.sum) are no Rust and not counted.
pub(super) const MOST_LINES: usize = 600;

/// Looks at every module of the checkout.
pub(super) fn check(home: &Home) -> Result<String, Error> {
    let modules = modules_under(home.checkout())?;
    let too_long: Vec<String> = modules
        .iter()
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(path, lines)| {
            let path = path.strip_prefix(home.checkout()).unwrap_or(path);
            format!("{} ({lines})", path.display())
        })
        .collect();
    if !too_long.is_empty() {
        return Err(Error::TooLong(too_long.join(", ")));
    }
    let longest = modules.iter().map(|(_, lines)| lines).max().copied().unwrap_or_default();
    Ok(format!("{} modules, the longest of {longest} lines", modules.len()))
}

/// Every Rust file of a folder and those below it, with its number of lines; what cargo builds and hidden folders
/// aside.
fn modules_under(folder: &Path) -> Result<Vec<(PathBuf, usize)>, files::Error> {
    let failed = |source| files::Error::new("list", folder, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let kind = entry.file_type().map_err(failed)?;
        let name = entry.file_name();
        if kind.is_dir() && name != "target" && !name.as_encoded_bytes().starts_with(b".") {
            found.append(&mut modules_under(&path)?);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            let lines = files::read(&path)?.lines().count();
            found.push((path, lines));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_excluded_from_module_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, lines: usize| {
            files::write(&folder.path().join(name), "line\n".repeat(lines)).unwrap();
        };
        write("a.rs", 2);
        write("deep/b.rs", 601);
        write("deep/pods.types", 900);
        write("target/c.rs", 900);
        write(".hidden/d.rs", 900);
        let found = modules_under(folder.path()).unwrap();
        let found: Vec<_> =
            found.iter().map(|(path, lines)| (path.file_name().unwrap().to_str().unwrap(), *lines)).collect();
        assert_eq!(found, [("a.rs", 2), ("b.rs", 601)]);
    }
}
