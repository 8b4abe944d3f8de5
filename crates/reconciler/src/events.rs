//! Kubernetes Events (`events.k8s.io/v1`): what `kubectl describe` shows of a TrainJob.
//!
//! They are for people, and nothing depends on them: a full queue or a failed request loses an Event and nothing else.
//! What is said again within six minutes is one series, as client-go's broadcaster makes them.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use trainerd_cluster::{Cluster, CreateParams, RequestError, builtin};

/// Events that may wait to be written.
const QUEUE: usize = 1000;
/// For how long the same Event is the same series.
const SERIES: Duration = Duration::from_mins(6);
/// Least time between two writes of a series after its second Event: a count that is late is no harm.
const PACE: Duration = Duration::from_secs(30);

/// How an Event is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tone {
    Normal,
    Warning,
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(crate) regarding: Regarding,
    pub(crate) tone: Tone,
    pub(crate) reason: String,
    /// A sentence for people, at most 1024 bytes of which are kept.
    pub(crate) note: String,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Regarding {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

impl Regarding {
    /// An object.
    pub(crate) fn of(object: &Value) -> Self {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
        }
    }
}

/// Takes Events to be written. Clones share the queue.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(mpsc::Sender<Event>);

/// Writes Events for as long as there is a [`Recorder`].
pub(crate) struct Writer {
    cluster: Cluster,
    controller: &'static str,
    instance: String,
    queue: mpsc::Receiver<Event>,
    series: HashMap<Event, Series>,
}

/// An Event that was written, and may come again.
struct Series {
    name: String,
    count: u64,
    last: Instant,
    written: Instant,
}

/// What takes Events and what writes them, as those of a controller.
pub(crate) fn recorder(cluster: Cluster, controller: &'static str) -> (Recorder, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let instance = format!("{controller}-{host}");
    (Recorder(sender), Writer { cluster, controller, instance, queue, series: HashMap::new() })
}

impl Recorder {
    /// Has an Event written soon. It does not wait.
    pub(crate) fn record(&self, event: Event) {
        if self.0.try_send(event).is_err() {
            tracing::debug!("an Event was dropped");
        }
    }
}

impl Writer {
    /// Writes what is recorded until nobody is left to record.
    pub(crate) async fn run(mut self) {
        let mut refused = false;
        while let Some(event) = self.queue.recv().await {
            let now = Instant::now();
            self.series.retain(|_, series| now - series.last < SERIES);
            let written = match self.series.get_mut(&event) {
                Some(series) => {
                    series.count += 1;
                    series.last = now;
                    if series.count > 2 && now - series.written < PACE {
                        continue;
                    }
                    series.written = now;
                    let (name, count) = (series.name.clone(), series.count);
                    self.continue_series(&event, &name, count).await
                }
                None => self.begin(event, now).await,
            };
            match written {
                Ok(()) => refused = false,
                Err(error @ RequestError::Forbidden { .. }) if !std::mem::replace(&mut refused, true) => {
                    tracing::warn!(%error, "Events may not be written, and are not");
                }
                Err(error) => tracing::debug!(%error, "failed to write an Event"),
            }
        }
    }

    async fn begin(&mut self, event: Event, now: Instant) -> Result<(), RequestError> {
        let name = format!("{}.{:x}", event.regarding.name, jiff::Timestamp::now().as_nanosecond());
        let object = self.object(&event, &name);
        self.cluster.create(&builtin::event(), &object, CreateParams::default()).await?;
        self.series.insert(event, Series { name, count: 1, last: now, written: now });
        Ok(())
    }

    async fn continue_series(&self, event: &Event, name: &str, count: u64) -> Result<(), RequestError> {
        let patch = json!({"series": {"count": count, "lastObservedTime": micro_time()}});
        let namespace = namespace(event);
        let params = CreateParams::default();
        self.cluster.patch_merge(&builtin::event(), Some(namespace), name, &patch, params).await.map(drop)
    }

    fn object(&self, event: &Event, name: &str) -> Value {
        let Event { regarding, tone, reason, note } = event;
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace(event)},
            "eventTime": micro_time(),
            "reportingController": self.controller,
            "reportingInstance": shortened(&self.instance, 128),
            "action": "Reconciling",
            "reason": reason,
            "type": match tone { Tone::Normal => "Normal", Tone::Warning => "Warning" },
            "note": shortened(note, 1024),
            "regarding": {
                "apiVersion": regarding.api_version,
                "kind": regarding.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
                "uid": regarding.uid,
            },
        })
    }
}

/// Events of cluster-scoped objects stand in the default namespace.
fn namespace(event: &Event) -> &str {
    match event.regarding.namespace.as_str() {
        "" => "default",
        namespace => namespace,
    }
}

/// Kubernetes' MicroTime.
fn micro_time() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// At most so many bytes, whole characters.
fn shortened(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("abc", 5), "abc");
        assert_eq!(shortened("aé", 2), "a");
        assert_eq!(shortened("aé", 3), "aé");
    }
}
