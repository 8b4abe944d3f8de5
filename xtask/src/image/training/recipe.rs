//! What a training image is made of: `images/NAME/image.yaml`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Error;
use crate::files;

/// A recipe, as its file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    /// Full reference that the image is imported under.
    reference: String,
    /// Training runtimes that run on it.
    runtimes: Vec<String>,
    /// Why the image is smaller than what the runtime has elsewhere.
    #[serde(default)]
    difference: Option<String>,
    debian: Debian,
    #[serde(default)]
    python: Option<Python>,
    #[serde(default)]
    overlays: Vec<String>,
    user: User,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// Packages of a release of Debian.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Debian {
    /// Code name of the release.
    pub(super) suite: String,
    /// The packages; what they depend on comes with them.
    pub(super) packages: Vec<String>,
}

/// Packages of PyPI, which `requirements.txt` pins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Python {
    /// Version of the release's interpreter, as `3.11`.
    pub(super) version: String,
    /// What the lock is made of: requirements, as pip takes them.
    pub(super) requirements: Vec<String>,
    /// Packages that are taken without what they depend on.
    #[serde(default)]
    pub(super) alone: Vec<String>,
    /// Packages of pure Python that are only published as source.
    #[serde(default)]
    pub(super) source: Vec<String>,
    /// Packages of pure Python that lie in this checkout.
    #[serde(default)]
    pub(super) own: Vec<PathBuf>,
}

/// Whom the image's processes run as.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    /// Its name.
    pub(super) name: String,
    /// Its number, and that of its group.
    pub(super) uid: u32,
}

/// A recipe of the checkout.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// Name of the recipe's folder.
    pub(crate) name: String,
    folder: PathBuf,
    file: File,
}

impl Recipe {
    /// Reads the recipe of that name.
    pub(super) fn read(images: &Path, name: &str) -> Result<Self, Error> {
        let folder = images.join(name);
        let path = folder.join("image.yaml");
        if !path.is_file() {
            return Err(Error::Unknown { name: name.to_owned(), known: names(images)?.join(", ") });
        }
        let file = serde_yaml::from_str(&files::read(&path)?)
            .map_err(|source| Error::Recipe { path: path.clone(), source })?;
        Ok(Self { name: name.to_owned(), folder, file })
    }

    /// Full reference that the image is imported under.
    pub(crate) fn reference(&self) -> &str {
        &self.file.reference
    }

    /// Training runtimes that run on it.
    pub(crate) fn runtimes(&self) -> &[String] {
        &self.file.runtimes
    }

    /// How it differs from what the runtime has elsewhere.
    pub(crate) fn difference(&self) -> Option<&str> {
        self.file.difference.as_deref()
    }

    pub(super) fn debian(&self) -> &Debian {
        &self.file.debian
    }

    pub(super) fn python(&self) -> Option<&Python> {
        self.file.python.as_ref()
    }

    pub(super) fn user(&self) -> &User {
        &self.file.user
    }

    pub(super) fn env(&self) -> &BTreeMap<String, String> {
        &self.file.env
    }

    /// Versions of the Debian packages that the image was last tried with.
    pub(super) fn debian_lock(&self) -> PathBuf {
        self.folder.join("debian.lock")
    }

    /// The pinned packages of PyPI, with their digests.
    pub(super) fn requirements(&self) -> PathBuf {
        self.folder.join("requirements.txt")
    }

    /// Folders whose files are laid over the packages, one after the other: those that images share, then its own.
    pub(super) fn overlays(&self) -> Vec<PathBuf> {
        let shared = self.folder.with_file_name("overlays");
        let own = self.folder.join("root");
        let own = own.is_dir().then_some(own);
        self.file.overlays.iter().map(|name| shared.join(name)).chain(own).collect()
    }
}

impl Debian {
    /// What the layer is cached under: changes with all that it is made of.
    pub(super) fn key(&self, user: &User) -> String {
        let packages = self.packages.join(" ");
        key("debian", &[&self.suite, &packages, &user.name, &user.uid.to_string()])
    }
}

/// Name in the cache of what is made of these inputs by this version of the code.
pub(super) fn key(kind: &str, inputs: &[&str]) -> String {
    /// To be raised with every change of how layers are made.
    const BUILD_VERSION: &str = "1";
    let mut hash = Sha256::new();
    for input in inputs.iter().chain([&BUILD_VERSION, &std::env::consts::ARCH]) {
        hash.update(input);
        hash.update([0]);
    }
    format!("{kind}-{}", hex::encode(&hash.finalize()[..8]))
}

/// Names of the recipes there are, sorted.
pub(super) fn names(images: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| files::Error::new("list", images, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(images).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().join("image.yaml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containerfile_builds_the_same_image() {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("images");
        let mut seen = 0;
        for name in names(&images).unwrap() {
            let recipe = Recipe::read(&images, &name).unwrap();
            let text = files::read(&images.join(&name).join("Containerfile")).unwrap();
            let install = "&& apt-get install --yes --no-install-recommends ";
            let line = text.lines().find_map(|line| line.trim().strip_prefix(install)).unwrap();
            let mut installed: Vec<&str> = line.trim_end_matches('\\').split_whitespace().collect();
            installed.sort_unstable();
            let mut wanted: Vec<&str> = recipe.debian().packages.iter().map(String::as_str).collect();
            wanted.extend(recipe.python().map(|_| "python3-pip"));
            wanted.sort_unstable();
            assert_eq!(installed, wanted, "{name}");

            let copies = text.lines().filter_map(|line| line.strip_prefix("COPY "));
            let sources: Vec<&Path> = copies
                .filter_map(|copy| copy.split(' ').find(|word| !word.starts_with("--")))
                .map(Path::new)
                .collect();
            for overlay in recipe.overlays() {
                for entry in std::fs::read_dir(&overlay).unwrap() {
                    let path = entry.unwrap().path();
                    let path = path.strip_prefix(&images).unwrap();
                    assert!(
                        sources.iter().any(|source| source.starts_with(path)),
                        "{name}: {}",
                        path.display()
                    );
                }
            }
            let user = recipe.user();
            for expected in [
                format!("--tag {} images", recipe.reference()),
                format!("--uid {} --shell /bin/bash {}\n", user.uid, user.name),
                format!("USER {0}:{0}\nWORKDIR /home/{1}\n", user.uid, user.name),
            ] {
                assert!(text.contains(&expected), "{name}: {expected}");
            }
            for (variable, value) in recipe.env() {
                assert!(text.contains(&format!("ENV {variable}={value}\n")), "{name}: {variable}");
            }
            seen += 1;
        }
        assert!(seen > 0, "there are recipes");
    }
}
