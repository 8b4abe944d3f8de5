//! The API server is led to new pods once a repair has replaced those behind a webhook, while the old ones still serve.
//!
//! It keeps its connections, and a call over one is refused when its pod ends: see `webhook_port` in the plan's crate, which
//! does the same in a plan. A repair is one write to one object, so what follows from it is remembered here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use trainerd_causes::one_line;
use trainerd_plan::drift::{self, Drifted};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::order::ObjectClass;
use trainerd_plan::plan::Step;

use super::DriftController;
use crate::write::Written;
use crate::write_error::WriteError;

/// Webhook configurations behind which pods are being replaced, with the pods that the API server may be connected to.
#[derive(Default)]
pub(super) struct Reconnections(BTreeMap<ObjectKey, BTreeSet<String>>);

impl Reconnections {
    /// Nothing is to be done any more: a plan did it.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl DriftController {
    /// Remembers which webhooks a repair concerns.
    pub(super) fn repaired(&mut self, key: &ObjectKey, repaired: &Drifted) {
        if !drift::replaces_pods(repaired) {
            return;
        }
        for webhook in self.objects.partners(key, ObjectClass::Webhook) {
            let connected = self.objects.pods_behind(&webhook);
            self.reconnections.0.entry(webhook).or_default().extend(connected);
        }
    }

    /// The webhook configurations to write now: another pod than before answers, and all are ready.
    pub(super) fn to_reconnect(&self) -> Vec<ObjectKey> {
        let now = Timestamp::now();
        let is_due = |(webhook, connected): &(&ObjectKey, &BTreeSet<String>)| {
            let workloads = self.objects.partners(webhook, ObjectClass::Workload);
            !self.busy.contains(*webhook)
                && !self.objects.pods_behind(webhook).is_subset(connected)
                && workloads.iter().chain([*webhook]).all(|key| self.objects.waiting(key, now).is_none())
        };
        self.reconnections.0.iter().filter(is_due).map(|(webhook, _)| webhook.clone()).collect()
    }

    /// The write for one of them; none where nothing is to be written after all.
    pub(super) fn reconnection(&mut self, webhook: &ObjectKey) -> Option<Step> {
        let step = self.objects.reconnection(&self.rules(), webhook);
        if step.is_none() {
            self.reconnections.0.remove(webhook);
        }
        step
    }

    /// Takes the answer to such a write.
    pub(super) fn reconnected(&mut self, webhook: &ObjectKey, written: Written) {
        match written.answer {
            Ok(value) => {
                tracing::info!(object = %webhook, "the API server now connects to the new pods");
                self.reconnections.0.remove(webhook);
                self.objects.put(webhook, value, true);
            }
            Err(WriteError::LeaseLost(why)) => {
                tracing::warn!(object = %webhook, %why, "not written");
                self.lease.lose();
            }
            Err(error) => {
                // Somebody changed it meanwhile, say. Without it a call may be refused when the old pods end.
                let error = refusal(error);
                tracing::warn!(object = %webhook, error, "failed to switch the API server to the new pods");
                self.reconnections.0.remove(webhook);
            }
        }
        self.look(webhook);
        self.changed();
    }
}

fn refusal(error: WriteError) -> String {
    match error {
        WriteError::Request(error) | WriteError::NotGivenBack(error) => one_line(&error),
        WriteError::Overtaken { owner } => format!("it was created by {owner} in the meantime"),
        WriteError::ChangedHands => "it is no longer the installation's".to_owned(),
        WriteError::LeaseLost(why) => why.to_string(),
    }
}
