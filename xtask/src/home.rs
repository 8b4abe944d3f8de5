//! Where things are: the checkout, and the cache outside it.

use std::path::{Path, PathBuf};

/// No place for the cache could be told from the environment.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to find a place for the cache: none of TRAINERD_CACHE, XDG_CACHE_HOME and HOME is an absolute path"
)]
pub struct NoCache;

/// The places that everything else is relative to. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Home {
    checkout: PathBuf,
    cache: PathBuf,
}

impl Home {
    /// From this program's own place in the checkout and from the environment.
    pub fn from_environment() -> Result<Self, NoCache> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Ok(Self { checkout: checkout(), cache: cache_root(variable).ok_or(NoCache)? })
    }

    /// The checkout's root.
    pub fn checkout(&self) -> &Path {
        &self.checkout
    }

    /// Tools of the checks, installed once a machine.
    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// Folder of the Go modules that the parts are built from: `integration/cluster`.
    pub fn modules(&self) -> PathBuf {
        self.checkout.join("integration/cluster")
    }

    /// Built parts and image archives, by content.
    pub fn parts(&self) -> PathBuf {
        self.cache.join("parts")
    }

    /// Layers and archives of training images, by content.
    pub fn images(&self) -> PathBuf {
        self.cache.join("images")
    }

    /// Python environments of tests, by what is installed in them.
    pub fn python(&self) -> PathBuf {
        self.cache.join("python")
    }

    /// One folder a cluster, and the locks beside them.
    pub fn clusters(&self) -> PathBuf {
        self.cache.join("clusters")
    }
}

fn checkout() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// `$TRAINERD_CACHE`, else `$XDG_CACHE_HOME/trainerd`, else `$HOME/.cache/trainerd`. Relative values are
/// ignored, as the XDG base directory specification says.
fn cache_root(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    absolute("TRAINERD_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|path| path.join("trainerd")))
        .or_else(|| absolute("HOME").map(|path| path.join(".cache/trainerd")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_directory_follows_the_environment() {
        type Environment = &'static [(&'static str, &'static str)];
        let cases: [(Environment, Option<&str>); 5] = [
            (&[("TRAINERD_CACHE", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/c")),
            (&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")], Some("/x/trainerd")),
            (&[("HOME", "/h")], Some("/h/.cache/trainerd")),
            (&[("TRAINERD_CACHE", "relative"), ("HOME", "/h")], Some("/h/.cache/trainerd")),
            (&[], None),
        ];
        for (environment, expected) in cases {
            let variable = |name: &str| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            };
            assert_eq!(cache_root(variable), expected.map(PathBuf::from), "{environment:?}");
        }
    }
}
