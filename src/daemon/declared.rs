//! The source of options, watched for changes.

use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use notify::{RecursiveMode, Watcher as _};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use trainerd_catalog::parse_options_file;
use trainerd_cluster::watch::{Event, WatchParams};
use trainerd_cluster::{Cluster, ListParams, builtin};
use trainerd_engine::EngineError;

use crate::options;
use crate::options::declared::{OptionsSpec, Source, values_of};
use crate::problem::{InputError, Problem};

/// The current content of the source.
#[derive(Clone, Debug)]
pub(crate) enum Declared {
    /// Nothing yet: the installed revision is kept.
    Nothing,
    /// These options.
    Options(OptionsSpec),
    /// Invalid content.
    Unreadable(Problem),
}

impl Declared {
    /// Which options they are; `None` where there are none.
    pub(crate) fn generation(&self) -> Option<&str> {
        match self {
            Self::Options(spec) => Some(&spec.generation),
            Self::Nothing | Self::Unreadable(_) => None,
        }
    }

    /// Whether it is another daemon's turn to act.
    pub(crate) fn is_standby(&self) -> bool {
        matches!(self, Self::Options(spec) if spec.standby)
    }

    /// The Juju unit that is the leader, if known.
    pub(crate) fn leader(&self) -> Option<&str> {
        match self {
            Self::Options(spec) if !spec.standby => spec.unit.as_deref(),
            Self::Options(_) | Self::Nothing | Self::Unreadable(_) => None,
        }
    }

    /// uid of the ConfigMap that declares it, where one does.
    pub(crate) fn uid(&self) -> Option<String> {
        match self {
            Self::Options(spec) => spec.uid.clone(),
            Self::Nothing | Self::Unreadable(_) => None,
        }
    }
}

/// Why a source can no longer be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The file cannot be watched.
    #[error("failed to watch {}", .path.display())]
    Watch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
    /// The watch of the file ended.
    #[error("no longer notified of changes of {}", .0.display())]
    Ended(PathBuf),
}

/// Follows a source that is not the API until it can no longer be followed.
pub(crate) async fn follow(
    source: Source,
    cluster: Cluster,
    declared: watch::Sender<Declared>,
) -> Result<(), SourceError> {
    match source {
        Source::File(path) => follow_file(&path, &declared).await,
        Source::ConfigMap { namespace, name } => {
            follow_config_map(&cluster, &namespace, &name, &declared).await;
            Ok(())
        }
        Source::Api => std::future::pending().await,
    }
}

/// The options of a file as it is now.
pub(crate) fn read_file(path: &Path) -> Declared {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) => {
            return Declared::Unreadable(InputError::ReadFile { path: path.to_owned(), source }.into());
        }
    };
    match parse_options_file(&path.display().to_string(), &text) {
        Ok(values) => Declared::Options(OptionsSpec::of(values, &options::Source::File)),
        Err(error) => Declared::Unreadable(error.into()),
    }
}

/// Publishes the content of a source if it changed.
fn declare(declared: &watch::Sender<Declared>, now: Declared) {
    declared.send_if_modified(|known| {
        let same = match (&*known, &now) {
            (Declared::Options(known), Declared::Options(now)) => {
                known.generation == now.generation && known.uid == now.uid
            }
            (Declared::Unreadable(known), Declared::Unreadable(now)) => known == now,
            _ => false,
        };
        if !same {
            *known = now;
        }
        !same
    });
}

/// A file is followed by its folder: editors and mounted ConfigMaps replace it rather than write into it.
async fn follow_file(path: &Path, declared: &watch::Sender<Declared>) -> Result<(), SourceError> {
    let failed = |source| SourceError::Watch { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (sender, mut events) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file causes events too; one queued event is enough.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.try_send(());
        }
    })
    .map_err(failed)?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(failed)?;
    loop {
        declare(declared, read_file(path));
        if events.recv().await.is_none() {
            return Err(SourceError::Ended(path.to_owned()));
        }
        // A file that is being written is read once it no longer changes.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn follow_config_map(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    declared: &watch::Sender<Declared>,
) {
    let list = ListParams {
        namespace: Some(namespace.to_owned()),
        field_selector: Some(format!("metadata.name={name}")),
        ..ListParams::default()
    };
    let missing = || {
        let problem = InputError::NoConfigMap { namespace: namespace.to_owned(), name: name.to_owned() };
        Declared::Unreadable(problem.into())
    };
    let mut events = cluster.watch(&builtin::config_map(), WatchParams { list, resource_version: None });
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(Event::Applied(object)) => of_config_map(&object),
            Ok(Event::Restarted(objects)) => objects.items.first().map_or_else(missing, of_config_map),
            Ok(Event::Deleted(_)) => missing(),
            Ok(Event::Resumed) => continue,
            Err(error) => {
                tracing::warn!(%error, namespace, name, "failed to watch the ConfigMap with the options");
                // The last valid options stay in force.
                if !matches!(*declared.borrow(), Declared::Nothing) {
                    continue;
                }
                let what = format!("ConfigMap {namespace}/{name}");
                let error = EngineError::Request { action: "watch", what, source: error };
                Declared::Unreadable(error.into())
            }
        };
        declare(declared, now);
    }
}

fn of_config_map(object: &Value) -> Declared {
    let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
    Declared::Options(OptionsSpec { uid, ..OptionsSpec::of(values_of(object), &options::Source::ConfigMap) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn config_map_keys_are_options_and_equal_options_have_equal_specs() {
        let read = |data: Value| match of_config_map(&serde_json::json!({ "data": data })) {
            Declared::Options(spec) => spec,
            other => panic!("{other:?}"),
        };
        let one = read(serde_json::json!({"settle": "3\n", "data-cache": "false"}));
        let catalog = trainerd_catalog::Catalog::builtin().unwrap();
        assert_eq!(one.given.parse(&catalog).unwrap().values()["settle"], Value::from(3));
        let same = read(serde_json::json!({"data-cache": "false", "settle": "3"}));
        assert_eq!(one.generation, same.generation);
        assert_ne!(one.generation, read(serde_json::json!({"settle": "4"})).generation);
    }

    #[tokio::test]
    async fn a_replaced_file_is_reloaded_and_errors_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("options.yaml");
        std::fs::write(&path, "settle: 1\n").unwrap();
        let (sender, mut declared) = watch::channel(Declared::Nothing);
        let followed = path.clone();
        let task = tokio::spawn(async move { follow_file(&followed, &sender).await });
        let mut next = async || {
            tokio::time::timeout(Duration::from_secs(10), declared.changed()).await.unwrap().unwrap();
            declared.borrow_and_update().clone()
        };
        let Declared::Options(first) = next().await else { panic!("the file is there") };
        let new = folder.path().join("new");
        std::fs::write(&new, "settle: 2\n").unwrap();
        std::fs::rename(&new, &path).unwrap();
        let Declared::Options(second) = next().await else { panic!("the file is there") };
        assert_ne!(first.generation, second.generation);
        std::fs::remove_file(&path).unwrap();
        let Declared::Unreadable(problem) = next().await else { panic!("the file is gone") };
        assert!(problem.message.contains("failed to read"), "{problem:?}");
        task.abort();
    }
}
