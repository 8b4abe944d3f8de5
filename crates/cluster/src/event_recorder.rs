//! Kubernetes Events: what `kubectl describe` and `kubectl get events` show of what we did.
//!
//! They are for people, and nothing depends on them: a full queue, a refused or a failed request loses an Event and
//! nothing else. A burst is bounded, so that putting a thousand objects right does not write a thousand Events.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use trainerd_plan::object::ObjectKey;

use crate::builtin;
use crate::cluster::Cluster;
use crate::params::CreateParams;

/// Events that may wait to be written.
const QUEUE: usize = 32;
/// Events in a burst, and the time in which one more is allowed.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(10);
/// Characters of a note (events.k8s.io/v1).
const NOTE: usize = 1024;

/// How an Event is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// A way to have Events written, and what writes them. `controller` names who says it, `instance` which of them.
pub fn event_recorder(
    cluster: Cluster,
    controller: String,
    instance: String,
) -> (EventRecorder, EventWriter) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (EventRecorder(sender), EventWriter { cluster, controller, instance, queue })
}

impl EventRecorder {
    /// Has an Event written soon. It does not wait; an Event too many is dropped.
    pub fn record(&self, announcement: NewEvent) {
        if self.0.try_send(announcement).is_err() {
            tracing::debug!("an Event was dropped");
        }
    }
}

impl EventWriter {
    /// Writes what is announced until nobody is left to announce.
    pub async fn run(mut self) {
        let mut budget = Budget { tokens: BURST, filled: Instant::now() };
        while let Some(announcement) = self.queue.recv().await {
            if !budget.take(Instant::now()) {
                tracing::debug!(reason = announcement.reason, "too many Events; this one is dropped");
                continue;
            }
            let event = self.event(&announcement);
            if let Err(error) = self.cluster.create(&builtin::event(), &event, CreateParams::default()).await
            {
                tracing::debug!(%error, "failed to write an Event");
            }
        }
    }

    fn event(&self, announcement: &NewEvent) -> Value {
        let NewEvent { regarding, uid, api_version, event_type, reason, action, note } = announcement;
        // Events of cluster-scoped objects stand in the default namespace.
        let namespace = regarding.namespace.as_deref().unwrap_or("default");
        let note: String = note.chars().take(NOTE).collect();
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": "trainerd-", "namespace": namespace},
            "eventTime": format!("{:.6}", jiff::Timestamp::now()),
            "reportingController": self.controller,
            "reportingInstance": self.instance,
            "type": match event_type { EventType::Normal => "Normal", EventType::Warning => "Warning" },
            "reason": reason,
            "action": action,
            "note": note,
            "regarding": {
                "apiVersion": api_version,
                "kind": regarding.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
            },
        });
        if let Some(uid) = uid {
            event["regarding"]["uid"] = json!(uid);
        }
        event
    }
}

/// A bucket of tokens.
struct Budget {
    tokens: u32,
    filled: Instant,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        while self.tokens < BURST && now.saturating_duration_since(self.filled) >= REFILL {
            self.tokens += 1;
            self.filled += REFILL;
        }
        if self.tokens == BURST {
            self.filled = now;
        }
        let is_left = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_bounded_and_comes_back_with_time() {
        let start = Instant::now();
        let mut budget = Budget { tokens: BURST, filled: start };
        let taken = (0..100).filter(|_| budget.take(start)).count();
        assert_eq!(taken, 20);
        assert!(!budget.take(start + REFILL / 2));
        assert!(budget.take(start + REFILL));
        assert!(!budget.take(start + REFILL));
        let later = start + REFILL * 1000;
        assert_eq!((0..100).filter(|_| budget.take(later)).count(), 20);
    }
}
