//! Following changes.
//!
//! kube's runtime has a watcher, but it always lists first, notices a dead connection only after the watch's whole
//! time (half an hour here), and reads objects into types that drop what they do not know. What is taken from the
//! library is the connection; what is left is small: list, watch from there, again.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::core::Status;
use serde::Deserialize;
use serde_json::Value;
use trainerd_object::Resource;

use crate::classify::{RequestInfo, classify_status};
use crate::cluster::Cluster;
use crate::error::{RequestError, Verb};
use crate::lines::Lines;
use crate::params::{ListParams, ObjectList};
use crate::path::{self, Query};
use crate::retry::Backoff;
use crate::transport::Call;
use crate::verbs::{METADATA, name_kind};

/// Least time that a watch asks to be kept open.
const OPEN_FOR: Duration = Duration::from_mins(30);
/// The API server sends a bookmark a minute: a watch as silent as this has lost its connection without a word.
/// A kind that is served without bookmarks costs a reopened watch each time.
const SILENCE: Duration = Duration::from_mins(5);

/// Which objects to follow.
#[derive(Clone, Debug, Default)]
pub struct WatchParams {
    /// Which objects, and how much of them.
    pub list: ListParams,
    /// Follow from a list at this resourceVersion; `None` to list first.
    pub resource_version: Option<String>,
}

/// A change.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// All objects there are, as of now: whatever else was known is gone. Comes first, unless the watch starts
    /// at a given resourceVersion, and again whenever changes may have been missed.
    Restarted(ObjectList),
    /// An object is new or changed, or now matches the selectors.
    Applied(Value),
    /// An object is gone, or no longer matches; as it last was.
    Deleted(Value),
    /// The watch is open again after an error that was told. Nothing was missed.
    Resumed,
}

impl Cluster {
    /// Follows the changes of a kind.
    ///
    /// The stream never ends and misses nothing: it reopens a watch where it stopped, and lists again
    /// when that is too long ago. An error says that the watch is interrupted; polled again, it continues after a
    /// jittered backoff. Whoever thinks the error final (for example [`RequestError::Forbidden`] or
    /// [`RequestError::NotServed`]) drops the stream. A connection that ends in silence is no error as long as it
    /// can be reopened.
    pub fn watch(
        &self,
        resource: &Resource,
        params: WatchParams,
    ) -> BoxStream<'static, Result<Event, RequestError>> {
        let phase = match params.resource_version {
            Some(version) => Phase::Open(version),
            None => Phase::List,
        };
        let watcher = Watcher {
            cluster: self.clone(),
            resource: resource.clone(),
            list: params.list,
            phase,
            failed: false,
            told: false,
            server_wait: None,
            backoff: Backoff::default(),
        };
        stream::unfold(watcher, |mut watcher| async move {
            let event = watcher.next().await;
            Some((event, watcher))
        })
        .boxed()
    }
}

enum Phase {
    List,
    /// Open a watch at this resourceVersion.
    Open(String),
    /// Read a watch; the version is that of its last event.
    Read(String, RequestInfo, Lines),
}

struct Watcher {
    cluster: Cluster,
    resource: Resource,
    list: ListParams,
    phase: Phase,
    /// Something went wrong since the last event: wait before the next request.
    failed: bool,
    /// An error was told, and no event since.
    told: bool,
    /// How long the server asked to wait.
    server_wait: Option<Duration>,
    backoff: Backoff,
}

/// A line of a watch.
#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Value,
}

impl Watcher {
    async fn next(&mut self) -> Result<Event, RequestError> {
        loop {
            match &mut self.phase {
                Phase::List => {
                    self.pause().await;
                    match self.cluster.list(&self.resource, &self.list).await {
                        Ok(list) => {
                            self.phase = Phase::Open(list.resource_version.clone());
                            self.told = false;
                            return Ok(Event::Restarted(list));
                        }
                        Err(error) => {
                            self.told = true;
                            return Err(self.fail(error));
                        }
                    }
                }
                Phase::Open(version) => {
                    let version = version.clone();
                    self.pause().await;
                    match self.open(&version).await {
                        Ok((info, lines)) => {
                            self.phase = Phase::Read(version, info, lines);
                            if std::mem::take(&mut self.told) {
                                return Ok(Event::Resumed);
                            }
                        }
                        Err(error) => self.interrupted(error)?,
                    }
                }
                Phase::Read(version, info, lines) => {
                    let line = tokio::time::timeout(SILENCE, lines.next()).await.ok().flatten();
                    let Some(line) = line else {
                        // Closed by the server after its time, broken, or silent for too long.
                        let version = std::mem::take(version);
                        self.phase = Phase::Open(version);
                        self.failed = true;
                        continue;
                    };
                    match read_line(info, &self.resource, &line) {
                        Ok((seen, event)) => {
                            *version = seen;
                            self.failed = false;
                            self.backoff.reset();
                            if let Some(event) = event {
                                return Ok(event);
                            }
                        }
                        Err(error) => {
                            self.phase = Phase::Open(std::mem::take(version));
                            self.interrupted(error)?;
                        }
                    }
                }
            }
        }
    }

    /// What comes after an error of a watch: a new list where its resourceVersion is too old, else the error.
    fn interrupted(&mut self, error: RequestError) -> Result<(), RequestError> {
        let error = self.fail(error);
        if matches!(error, RequestError::Expired { .. }) {
            self.phase = Phase::List;
            return Ok(());
        }
        self.told = true;
        Err(error)
    }

    fn fail(&mut self, error: RequestError) -> RequestError {
        self.failed = true;
        self.server_wait = error.retry().and_then(|retry| retry.after);
        error
    }

    async fn pause(&mut self) {
        if self.failed {
            let wait = self.server_wait.take().unwrap_or_default() + self.backoff.next_wait();
            tokio::time::sleep(wait).await;
        }
    }

    // `&mut`, though it changes nothing: a body is not `Sync`, and a shared reference would not be `Send`.
    async fn open(&mut self, version: &str) -> Result<(RequestInfo, Lines), RequestError> {
        // Spread, so that watches opened together are not reopened together.
        let open_for = OPEN_FOR.as_secs() + fastrand::u64(0..OPEN_FOR.as_secs() / 3);
        let mut query = Query::default();
        query
            .set("watch", "true")
            .set("allowWatchBookmarks", "true")
            .set("resourceVersion", version)
            .set("timeoutSeconds", &open_for.to_string())
            .set_some("labelSelector", self.list.label_selector.as_deref())
            .set_some("fieldSelector", self.list.field_selector.as_deref());
        let path = query.append_to(&path::collection(&self.resource, self.list.namespace.as_deref()));
        let mut call = Call::get(Verb::Watch, path);
        if self.list.metadata_only {
            call = call.accept(METADATA);
        }
        self.cluster.open(call).await
    }
}

/// Reads a line: the resourceVersion it brings the watch to, and the change unless it is a bookmark.
fn read_line(
    info: &RequestInfo,
    resource: &Resource,
    line: &[u8],
) -> Result<(String, Option<Event>), RequestError> {
    let decode = |source| RequestError::Decode {
        verb: Verb::Watch,
        path: info.path.clone(),
        source: std::sync::Arc::new(source),
    };
    let Line { r#type, mut object } = serde_json::from_slice(line).map_err(decode)?;
    if r#type == "ERROR" {
        let status: Status = serde_json::from_value(object).map_err(decode)?;
        return Err(classify_status(info, status.code, None, status));
    }
    let version =
        object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    name_kind(&mut object, resource);
    let event = match r#type.as_str() {
        "ADDED" | "MODIFIED" => Some(Event::Applied(object)),
        "DELETED" => Some(Event::Deleted(object)),
        // Bookmarks, and whatever else a later server may send.
        _ => None,
    };
    Ok((version, event))
}
