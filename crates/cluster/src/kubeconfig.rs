//! Which kubeconfig counts: the file that is named, those of `KUBECONFIG`, or `~/.kube/config`.
//!
//! As for kubectl, files of the list that do not exist are left out, and the first file that sets something wins.
//! Unlike kubectl, a list of which nothing exists is an error: whoever names files means their cluster, and no other.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, KubeconfigError};

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// This.
    Kubeconfig(Box<Kubeconfig>),
    /// Nobody named a file, and the usual one does not exist or is empty.
    Nothing,
    /// Files were named, and none of them exists.
    Missing(Vec<PathBuf>),
}

/// Reads the kubeconfig. `named`: the only one to read; `list`: the value of `KUBECONFIG`.
pub(crate) fn find(
    named: Option<&Path>,
    list: Option<&OsStr>,
    home: Option<PathBuf>,
) -> Result<Found, KubeconfigError> {
    if let Some(path) = named {
        return read(&[path.to_owned()]).map(|read| found(read, vec![path.to_owned()]));
    }
    let listed = list.map(|list| std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()));
    let listed: Vec<PathBuf> = listed.into_iter().flatten().collect();
    if !listed.is_empty() {
        return read(&listed).map(|read| found(read, listed));
    }
    let usual = home.map(|home| home.join(".kube").join("config"));
    let kubeconfig = usual.map_or(Ok(None), |path| read(&[path]))?;
    // An empty one is what some tools leave behind; it names no cluster.
    let kubeconfig = kubeconfig.filter(|kubeconfig| !kubeconfig.contexts.is_empty());
    Ok(kubeconfig.map_or(Found::Nothing, |kubeconfig| Found::Kubeconfig(Box::new(kubeconfig))))
}

fn found(kubeconfig: Option<Kubeconfig>, named: Vec<PathBuf>) -> Found {
    kubeconfig.map_or(Found::Missing(named), |kubeconfig| Found::Kubeconfig(Box::new(kubeconfig)))
}

/// The files that exist, merged; `None` where none does.
fn read(paths: &[PathBuf]) -> Result<Option<Kubeconfig>, KubeconfigError> {
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        let mut next = match Kubeconfig::read_from(path) {
            Ok(next) => next,
            Err(KubeconfigError::ReadConfig(source, _)) if source.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
        // `kubectl config unset` leaves an empty text, which is none to kubectl.
        for text in [&mut next.current_context, &mut next.kind, &mut next.api_version] {
            text.take_if(|text| text.is_empty());
        }
        merged = Some(match merged {
            Some(merged) => merged.merge(next)?,
            None => next,
        });
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn context(name: &str, current: bool) -> String {
        let current =
            if current { format!("current-context: {name}\n") } else { "current-context: \"\"\n".into() };
        format!(
            "apiVersion: v1\nkind: Config\n{current}contexts: [{{name: {name}, context: {{cluster: c, user: \"\"}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"http://{name}\"}}}}]\nusers: null\n"
        )
    }

    #[test]
    fn missing_kubeconfigs_are_skipped_and_the_first_value_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (
            write(folder.path(), "one", &context("one", false)),
            write(folder.path(), "two", &context("two", true)),
        );
        let nowhere = folder.path().join("nowhere");
        let list = |paths: &[&Path]| std::env::join_paths(paths).unwrap();
        for (paths, contexts, current) in [
            (vec![nowhere.as_path(), &two], vec!["two"], Some("two")),
            (vec![&two, nowhere.as_path()], vec!["two"], Some("two")),
            // An empty context is none.
            (vec![one.as_path(), &two], vec!["one", "two"], Some("two")),
            (vec![nowhere.as_path(), &one], vec!["one"], None),
        ] {
            let found = find(None, Some(&list(&paths)), Some(folder.path().to_owned())).unwrap();
            let Found::Kubeconfig(found) = found else { panic!("{paths:?}: {found:?}") };
            let names: Vec<&str> = found.contexts.iter().map(|context| context.name.as_str()).collect();
            assert_eq!((names, found.current_context.as_deref()), (contexts, current), "{paths:?}");
            assert!(found.auth_infos.is_empty());
            // The cluster of the first file that has one of that name.
            let server = found.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap();
            assert_eq!(server, format!("http://{}", found.contexts[0].name));
        }
    }

    #[test]
    fn without_any_kubeconfig_there_is_no_fallback() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), ".kube/config", &context("usual", true));
        let home = || Some(folder.path().to_owned());
        let nowhere = |name: &str| folder.path().join(name);
        let list = std::env::join_paths([nowhere("a"), nowhere("b")]).unwrap();
        match find(None, Some(&list), home()).unwrap() {
            Found::Missing(paths) => assert_eq!(paths, [nowhere("a"), nowhere("b")]),
            other => panic!("{other:?}"),
        }
        match find(Some(&nowhere("c")), None, home()).unwrap() {
            Found::Missing(paths) => assert_eq!(paths, [nowhere("c")]),
            other => panic!("{other:?}"),
        }
        // A list of nothing is no list.
        for list in [None, Some(OsString::new()), Some(OsString::from(":"))] {
            let found = find(None, list.as_deref(), home()).unwrap();
            assert!(matches!(found, Found::Kubeconfig(_)), "{list:?}: {found:?}");
        }
        assert!(matches!(find(None, None, Some(nowhere("home"))).unwrap(), Found::Nothing));
    }

    #[test]
    fn an_unreadable_kubeconfig_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let good = write(folder.path(), "good", &context("good", true));
        let bad = write(folder.path(), "bad", "contexts: [");
        for other in [bad.as_path(), folder.path()] {
            let list = std::env::join_paths([other, &good]).unwrap();
            assert!(find(None, Some(&list), None).is_err(), "{}", other.display());
        }
    }
}
