//! The programs of a cluster, built from their Go modules once a machine.
//!
//! `integration/cluster/<folder>/go.mod` names the modules and their versions. A built program lies in the
//! cache under the hash of all that goes into it, so that another version, or other flags, is another file.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::{Error, Profile};
use crate::command::run;
use crate::files::{self, Lock};
use crate::home::Home;
use crate::terminal::say;

use table::KUBERNETES;
pub use table::*;

/// Needed by every cluster.
static CONTROL_PLANE: [&Part; 4] = [&ETCD, &KUBE_APISERVER, &KUBE_CONTROLLER_MANAGER, &KUBECTL];
/// Needed by a node besides; what its images need is theirs to say.
static NODE: [&Part; 3] = [&KUBE_SCHEDULER, &KUBELET, &KUBE_PROXY];

/// Where the programs are, or will be.
#[derive(Debug)]
pub struct Parts {
    modules: PathBuf,
    cache: PathBuf,
    assets: Option<PathBuf>,
}

impl Parts {
    /// Prebuilt parts where `KUBEBUILDER_ASSETS` (the convention of envtest) names a folder that has etcd
    /// and the API server, else the cache's.
    pub fn find(home: &Home) -> Result<Self, Error> {
        let assets =
            std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = &assets {
            for part in [&ETCD, &KUBE_APISERVER] {
                if !folder.join(part.program).is_file() {
                    return Err(Error::MissingAsset { program: part.program, folder: folder.clone() });
                }
            }
        }
        Ok(Self { modules: home.modules(), cache: home.parts(), assets })
    }

    /// Builds what a profile needs and is not there yet.
    pub(super) fn prepare(&self, profile: Profile) -> Result<(), Error> {
        for part in CONTROL_PLANE {
            if self.has(part) {
                self.path(part)?;
            } else {
                say(format_args!("KUBEBUILDER_ASSETS has no {}: the cluster runs without it", part.program));
            }
        }
        if profile == Profile::Node {
            for part in NODE {
                self.path(part)?;
            }
        }
        Ok(())
    }

    /// Whether the program can be had: always, but for prebuilt control planes that lack it.
    pub(super) fn has(&self, part: &Part) -> bool {
        !CONTROL_PLANE.contains(&part)
            || self.assets.as_ref().is_none_or(|folder| folder.join(part.program).is_file())
    }

    /// The path of a program; builds it first where that was not done yet on this machine.
    pub fn path(&self, part: &Part) -> Result<PathBuf, Error> {
        if let Some(folder) = &self.assets {
            let prebuilt = folder.join(part.program);
            if CONTROL_PLANE.contains(&part) && prebuilt.is_file() {
                return Ok(prebuilt);
            }
        }
        let source = self.modules.join(part.folder);
        let flags = linker_flags(part, &source)?;
        let key = key(&source, &[part.package, &flags])?;
        let program = self.cache.join(format!("{}-{key}", part.folder)).join(part.program);
        if program.is_file() {
            return Ok(program);
        }
        // One build at a time a module: its programs share most packages, which the second then finds built.
        let waiting = || say(format_args!("waiting for another process that is building {}", part.folder));
        let _lock = Lock::take(&self.cache.join(format!("{}.lock", part.folder)), waiting)?;
        if !program.is_file() {
            build(part, &source, &flags, &program)?;
        }
        Ok(program)
    }

    /// Where finished image archives are kept.
    pub(super) fn archives(&self) -> PathBuf {
        self.cache.join("images")
    }
}

fn build(part: &Part, source: &Path, flags: &str, program: &Path) -> Result<(), Error> {
    say(format_args!(
        "building {} from {} (once on this machine; can take minutes)",
        part.program, part.folder
    ));
    let start = Instant::now();
    let unfinished = program.with_extension("unfinished");
    if let Some(parent) = program.parent() {
        files::make_folder(parent)?;
    }
    run(Command::new("go")
        .args(["build", "-trimpath", "-ldflags", flags, "-o"])
        .args([unfinished.as_os_str(), part.package.as_ref()])
        .env("CGO_ENABLED", "0")
        .current_dir(source))
    .map_err(|source| Error::Build { program: part.program, source })?;
    fs::rename(&unfinished, program).map_err(|source| files::Error::new("rename", &unfinished, source))?;
    say(format_args!("built {} in {} s", part.program, start.elapsed().as_secs()));
    Ok(())
}

/// Strips the program, and stamps Kubernetes' version into its own: unstamped it calls itself v0.0.0 and
/// clients turn away.
fn linker_flags(part: &Part, source: &Path) -> Result<String, Error> {
    let mut flags = String::from("-s -w");
    if part.module == KUBERNETES {
        let path = source.join("go.mod");
        let text = files::read(&path)?;
        let version = version_of(&text, KUBERNETES).ok_or(Error::NoVersion { module: KUBERNETES, path })?;
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        for (name, value) in
            [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")]
        {
            flags.push_str(" -X k8s.io/component-base/version.");
            flags.extend([name, "=", value]);
        }
    }
    Ok(flags)
}

/// The version that a go.mod requires of a module.
fn version_of<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_ascii_whitespace();
        (words.next() == Some(module)).then(|| words.next())?
    })
}

/// Hash of everything that a build reads: the files of the folder (go.mod, go.sum, own sources) and its
/// flags; 16 hex digits.
fn key(source: &Path, flags: &[&str]) -> Result<String, Error> {
    let paths = files_under(source)?;
    let mut hash = Sha256::new();
    // Each piece with its length, so that no two lists of pieces look the same.
    let mut add = |piece: &[u8]| {
        hash.update((piece.len() as u64).to_be_bytes());
        hash.update(piece);
    };
    for path in paths {
        let name = path.strip_prefix(source).unwrap_or(&path);
        add(name.as_os_str().as_encoded_bytes());
        add(files::read(&path)?.as_bytes());
    }
    for flag in flags {
        add(flag.as_bytes());
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

/// All files of a folder and those below it, sorted.
fn files_under(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| files::Error::new("list", folder, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            found.append(&mut files_under(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_every_input_and_with_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let source = temporary.path();
        files::write(&source.join("go.mod"), "a").unwrap();
        files::write(&source.join("go.sum"), "b").unwrap();
        let first = key(source, &["x", "y"]).unwrap();
        assert_eq!(first.len(), 16);
        assert_eq!(first, key(source, &["x", "y"]).unwrap());
        assert_ne!(first, key(source, &["xy"]).unwrap());
        assert_ne!(first, key(source, &["x", "z"]).unwrap());
        files::write(&source.join("go.sum"), "c").unwrap();
        assert_ne!(first, key(source, &["x", "y"]).unwrap());
        files::write(&source.join("go.mod"), "ab").unwrap();
        files::write(&source.join("go.sum"), "").unwrap();
        assert_ne!(first, key(source, &["x", "y"]).unwrap());
    }

    #[test]
    fn versions_are_read_from_both_forms_of_a_requirement() {
        let go_mod = "module m\n\nrequire (\n\tk8s.io/kubernetes v1.36.3\n\tk8s.io/api v0.36.3 // indirect\n)\n\
                      require go.etcd.io/etcd/server/v3 v3.7.3\n";
        assert_eq!(version_of(go_mod, KUBERNETES), Some("v1.36.3"));
        assert_eq!(version_of(go_mod, "k8s.io/api"), Some("v0.36.3"));
        assert_eq!(version_of(go_mod, "go.etcd.io/etcd/server/v3"), Some("v3.7.3"));
        assert_eq!(version_of(go_mod, "k8s.io"), None);
    }

    #[test]
    fn kubernetes_programs_carry_their_version() {
        let temporary = tempfile::tempdir().unwrap();
        files::write(&temporary.path().join("go.mod"), "require k8s.io/kubernetes v1.36.3\n").unwrap();
        let flags = linker_flags(&KUBECTL, temporary.path()).unwrap();
        for (name, value) in [("gitVersion", "v1.36.3"), ("gitMajor", "1"), ("gitMinor", "36")] {
            assert!(flags.contains(&format!("-X k8s.io/component-base/version.{name}={value}")), "{flags}");
        }
        assert_eq!(linker_flags(&ETCD, temporary.path()).unwrap(), "-s -w");
    }

    #[test]
    fn every_part_has_a_module_that_requires_it() {
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration/cluster");
        let all = [
            &ETCD,
            &KUBE_APISERVER,
            &COREDNS,
            &JOBSET_0_11_1,
            &JOBSET_0_12_0,
            &LWS_0_8_0,
            &PEBBLE,
            &TRAINER_2_2_1,
            &TRAINER_2_3_0,
        ];
        for part in all {
            let text = files::read(&modules.join(part.folder).join("go.mod")).unwrap();
            let version = version_of(&text, part.module);
            assert!(version.is_some(), "{}", part.folder);
            // A folder that names a version must hold that version.
            if let Some((_, named)) = part.folder.split_once('-') {
                assert_eq!(version, Some(format!("v{named}").as_str()));
            }
        }
    }
}
