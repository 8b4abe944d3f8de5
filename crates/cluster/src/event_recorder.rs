//! Kubernetes Events (`events.k8s.io/v1`): what `kubectl describe` and `kubectl get events` show of what we did.
//!
//! They are for people, and nothing depends on them: a full queue, a refused or a failed request loses an Event and
//! nothing else. What is said again within six minutes is one series, as client-go's broadcaster makes them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use trainerd_object::ObjectKey;

use crate::builtin;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::params::CreateParams;

/// For how long the same Event is the same series.
const SERIES: Duration = Duration::from_mins(6);
/// Least time between two writes of a series after its second Event: a count that is late is no harm.
const PACE: Duration = Duration::from_secs(30);
/// How long an Event waits for work to be done first, and how often it looks.
const YIELD: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(20);
/// The time in which a burst grows by one again.
const REFILL: Duration = Duration::from_secs(10);
/// Bytes of a note, and of who reports (events.k8s.io/v1).
const NOTE: usize = 1024;
const INSTANCE: usize = 128;

/// How many Events are written.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// Events that may wait to be written.
    pub queue: usize,
    /// Events that may be written one right after the other, so that repairing a thousand objects does not write a
    /// thousand Events; `None` for as many as come.
    pub burst: Option<u32>,
}

/// How an Event is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewEvent {
    /// What it is about.
    pub regarding: ObjectKey,
    /// uid of that object, where it is known: `kubectl describe` looks for it.
    pub uid: Option<String>,
    /// `apiVersion` of that object.
    pub api_version: String,
    /// How it is meant.
    pub event_type: EventType,
    /// Why, in one CamelCase word.
    pub reason: &'static str,
    /// What was done, in one CamelCase word.
    pub action: &'static str,
    /// A sentence for people. No values of Secrets.
    pub note: String,
}

/// Takes Events to be written.
#[derive(Clone, Debug)]
pub struct EventRecorder(mpsc::Sender<NewEvent>);

/// Writes Events, for as long as there is an [`EventRecorder`].
#[derive(Debug)]
pub struct EventWriter {
    cluster: Cluster,
    controller: String,
    instance: String,
    queue: mpsc::Receiver<NewEvent>,
    burst: Option<Burst>,
    /// By a digest of the Event, which would be kept a thousand times.
    series: HashMap<u64, Series>,
    digests: RandomState,
    swept: Instant,
}

/// An Event that was written, and may come again.
#[derive(Debug)]
struct Series {
    name: String,
    count: u64,
    last: Instant,
    written: Instant,
}

/// A way to have Events written, and what writes them. `controller` names who says it, `instance` which of them.
pub fn event_recorder(
    cluster: Cluster,
    controller: String,
    instance: String,
    limits: EventLimits,
) -> (EventRecorder, EventWriter) {
    let (sender, queue) = mpsc::channel(limits.queue);
    let burst = limits.burst.map(|size| Burst { size, left: size, filled: Instant::now() });
    let (series, digests, swept) = (HashMap::new(), RandomState::new(), Instant::now());
    (
        EventRecorder(sender),
        EventWriter { cluster, controller, instance, queue, burst, series, digests, swept },
    )
}

impl NewEvent {
    /// About an object, as the API server returned it; `None` for what is no object.
    pub fn about(
        object: &Value,
        event_type: EventType,
        (reason, action): (&'static str, &'static str),
        note: String,
    ) -> Option<Self> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            regarding: ObjectKey::of(object)?,
            uid: text("/metadata/uid"),
            api_version: text("/apiVersion")?,
            event_type,
            reason,
            action,
            note,
        })
    }

    /// Events of cluster-scoped objects stand in the default namespace.
    fn namespace(&self) -> &str {
        self.regarding.namespace.as_deref().unwrap_or("default")
    }
}

impl EventRecorder {
    /// Has an Event written soon. It does not wait; an Event too many is dropped.
    pub fn record(&self, event: NewEvent) {
        if self.0.try_send(event).is_err() {
            tracing::debug!("an Event was dropped");
        }
    }
}

impl EventWriter {
    /// Writes what is recorded until nobody is left to record.
    pub async fn run(self) {
        self.run_after(|| false).await;
    }

    /// As [`EventWriter::run`]. While `is_busy` says that there is other work, Events come slowly: the API server has that
    /// to do, too.
    pub async fn run_after(mut self, is_busy: impl Fn() -> bool) {
        let mut refused = false;
        while let Some(event) = self.queue.recv().await {
            let waits = Instant::now();
            while is_busy() && waits.elapsed() < YIELD {
                tokio::time::sleep(LOOK).await;
            }
            match self.write(event, Instant::now()).await {
                Ok(()) => refused = false,
                Err(error @ RequestError::Forbidden { .. }) if !mem::replace(&mut refused, true) => {
                    tracing::warn!(%error, "not permitted to write Events");
                }
                Err(error) => tracing::debug!(%error, "failed to write an Event"),
            }
        }
    }

    async fn write(&mut self, event: NewEvent, now: Instant) -> Result<(), RequestError> {
        if now - self.swept > PACE {
            self.swept = now;
            self.series.retain(|_, series| now - series.last < SERIES);
        }
        let digest = self.digests.hash_one(&event);
        let known = self.series.get_mut(&digest).filter(|series| now - series.last < SERIES);
        if let Some(series) = known {
            series.count += 1;
            series.last = now;
            if series.count > 2 && now - series.written < PACE {
                return Ok(());
            }
            series.written = now;
            let (namespace, name) = (Some(event.namespace()), series.name.as_str());
            let patch = json!({"series": {"count": series.count, "lastObservedTime": micro_time()}});
            let params = CreateParams::default();
            return self
                .cluster
                .patch_merge(&builtin::event(), namespace, name, &patch, params)
                .await
                .map(drop);
        }
        if self.burst.as_mut().is_some_and(|burst| !burst.take(now)) {
            tracing::debug!(reason = event.reason, "too many Events; this one is dropped");
            return Ok(());
        }
        let name = format!("{}.{:x}", event.regarding.name, jiff::Timestamp::now().as_nanosecond());
        let object = self.object(&event, &name);
        self.cluster.create(&builtin::event(), &object, CreateParams::default()).await?;
        self.series.insert(digest, Series { name, count: 1, last: now, written: now });
        Ok(())
    }

    fn object(&self, event: &NewEvent, name: &str) -> Value {
        let NewEvent { regarding, uid, api_version, event_type, reason, action, note } = event;
        let mut object = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": event.namespace()},
            "eventTime": micro_time(),
            "reportingController": self.controller,
            "reportingInstance": shortened(&self.instance, INSTANCE),
            "type": match event_type { EventType::Normal => "Normal", EventType::Warning => "Warning" },
            "reason": reason,
            "action": action,
            "note": shortened(note, NOTE),
            "regarding": {
                "apiVersion": api_version,
                "kind": regarding.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
            },
        });
        if let Some(uid) = uid {
            object["regarding"]["uid"] = json!(uid);
        }
        object
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

/// A bucket of tokens.
#[derive(Debug)]
struct Burst {
    size: u32,
    left: u32,
    filled: Instant,
}

impl Burst {
    fn take(&mut self, now: Instant) -> bool {
        while self.left < self.size && now.saturating_duration_since(self.filled) >= REFILL {
            self.left += 1;
            self.filled += REFILL;
        }
        if self.left == self.size {
            self.filled = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_bursts_are_limited_and_refilled_over_time() {
        let start = Instant::now();
        let mut burst = Burst { size: 20, left: 20, filled: start };
        let taken = (0..100).filter(|_| burst.take(start)).count();
        assert_eq!(taken, 20);
        assert!(!burst.take(start + REFILL / 2));
        assert!(burst.take(start + REFILL));
        assert!(!burst.take(start + REFILL));
        let later = start + REFILL * 1000;
        assert_eq!((0..100).filter(|_| burst.take(later)).count(), 20);
    }

    #[test]
    fn texts_are_cut_at_character_boundaries() {
        assert_eq!(shortened("abc", 5), "abc");
        assert_eq!(shortened("aé", 2), "a");
        assert_eq!(shortened("aé", 3), "aé");
    }
}
