//! What the drift controller has in flight: reads, writes, the lease; and their outcomes.

use serde_json::Value;
use tokio::time::Instant;
use trainerd_causes::one_line;
use trainerd_cluster::lease::Fence;
use trainerd_cluster::{RequestError, builtin};
use trainerd_plan::applyset;
use trainerd_plan::drift::{ContendedField, Drifted, NotRepaired, Remedy, Verdict};
use trainerd_plan::object::ObjectKey;
use trainerd_plan::plan::Step;
use trainerd_plan::readiness::by_existence;

use super::event::{DriftEvent, RepairMode};
use super::object_cache::{Assessment, RecordSeen};
use super::snapshot::DriftState;
use super::{DriftController, lease_holder, patience};
use crate::event::Event;
use crate::observe::IN_FLIGHT;
use crate::retry::patiently;
use crate::write::{Written, verb_name, write};
use crate::write_error::WriteError;

/// Something that was waited for.
pub(super) enum Work {
    Read {
        key: ObjectKey,
        answer: Result<Option<Value>, RequestError>,
    },
    Written {
        key: ObjectKey,
        step: Box<Step>,
        drifted: Box<Drifted>,
        fields: Vec<ContendedField>,
        written: Written,
    },
    Reconnected {
        key: ObjectKey,
        written: Written,
    },
    Lease(lease_holder::Acquisition),
    Record {
        answer: Result<Option<Value>, RequestError>,
    },
    Released,
}

impl DriftController {
    pub(super) fn read(&mut self, key: &ObjectKey) {
        let Some((_, resource)) = self.objects.packed().and_then(|packed| packed.place(key)) else { return };
        let resource = resource.clone();
        if !self.busy.insert(key.clone()) {
            return;
        }
        // What is to be done about it is decided again once it was read.
        self.queue.retain(|queued| queued != key);
        self.noticed.entry(key.clone()).or_insert_with(Instant::now);
        let (cluster, key) = (self.cluster.clone(), key.clone());
        self.work.push(Box::pin(async move {
            let answer =
                patiently(async || cluster.get_opt(&resource, key.namespace.as_deref(), &key.name).await);
            let answer = answer.await;
            Work::Read { key, answer }
        }));
    }

    /// Begins the writes that are due, once the lease is ours.
    pub(super) fn begin(&mut self) {
        if self.checking || self.mode != RepairMode::Active {
            return;
        }
        let webhooks = self.to_reconnect();
        if self.queue.is_empty() && webhooks.is_empty() {
            return;
        }
        let Some(fence) = self.lease.fence() else {
            if let Some(taking) = self.lease.take() {
                self.work.push(Box::pin(async move { Work::Lease(taking.await) }));
            }
            return;
        };
        while self.busy.len() < IN_FLIGHT {
            let Some(key) = self.queue.pop_front() else { break };
            // What was queued may have been repaired by others since.
            let Assessment::Clear(Verdict::Drifted(drifted)) = self.sight(&key) else {
                self.look(&key);
                continue;
            };
            let Remedy::Repair(step) = drifted.remedy.clone() else { continue };
            let fields = drifted.contendable_fields(&key);
            let writing = self.writing(&key, step.clone(), fence.clone());
            self.work.push(Box::pin(async move {
                let written = writing.await;
                Work::Written { key, step, drifted, fields, written }
            }));
        }
        for key in webhooks {
            // Its repair comes first.
            if self.busy.contains(&key) {
                continue;
            }
            let Some(step) = self.reconnection(&key) else { continue };
            let writing = self.writing(&key, Box::new(step), fence.clone());
            self.work.push(Box::pin(async move { Work::Reconnected { key, written: writing.await } }));
        }
    }

    fn writing(
        &mut self,
        key: &ObjectKey,
        step: Box<Step>,
        fence: Fence,
    ) -> impl Future<Output = Written> + use<> {
        self.busy.insert(key.clone());
        let (cluster, halt) = (self.cluster.clone(), self.halt.subscribe());
        let namespace = self.installation.namespace.clone();
        async move {
            let log = |event: Event| tracing::debug!(?event, "repairing");
            write(&cluster, &step, &namespace, 0, Some(&fence), &log, halt).await
        }
    }

    pub(super) fn worked(&mut self, work: Work) {
        match work {
            Work::Read { key, answer } => {
                self.busy.remove(&key);
                match answer {
                    Ok(value) => {
                        self.objects.put(&key, value, true);
                        self.assess(&key, false);
                        // It is no longer in doubt.
                        self.changed();
                    }
                    Err(error) => self.failed(&key, None, &one_line(&error)),
                }
            }
            Work::Written { key, step, drifted, fields, written } => {
                self.busy.remove(&key);
                self.lease.used();
                self.written(&key, &step, &drifted, fields, written);
            }
            Work::Reconnected { key, written } => {
                self.busy.remove(&key);
                self.lease.used();
                self.reconnected(&key, written);
            }
            Work::Lease(taken) => {
                match self.lease.taken(taken) {
                    Ok(true) => {}
                    // Somebody has held it meanwhile, and may have written another revision.
                    Ok(false) => self.check_record(),
                    Err(why) => {
                        for key in self.queue.clone() {
                            if let Some(status) = self.drift.get_mut(&key) {
                                status.state = DriftState::Waiting { why: why.clone() };
                            }
                        }
                    }
                }
                // Whether the lease is held is part of what is shown.
                self.changed();
            }
            Work::Record { answer } => {
                self.checking = false;
                self.checked(answer);
            }
            Work::Released => {
                self.lease.released();
                self.changed();
            }
        }
    }

    /// Asks which version the record has, before anything is written.
    fn check_record(&mut self) {
        self.checking = true;
        let (cluster, namespace) = (self.cluster.clone(), self.installation.namespace.clone());
        let name = applyset::parent_name(&self.installation);
        self.work.push(Box::pin(async move {
            let read = async || cluster.get_metadata(&builtin::secret(), Some(&namespace), &name).await;
            let answer = match patiently(read).await {
                Ok(record) => Ok(Some(record)),
                Err(error) if error.is_absent() => Ok(None),
                Err(error) => Err(error),
            };
            Work::Record { answer }
        }));
    }

    fn checked(&mut self, answer: Result<Option<Value>, RequestError>) {
        let known = self.record.as_ref().and_then(|record| record.version.clone());
        let found = match answer {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(error = %one_line(&error), "failed to read the record; nothing is written");
                self.lease.lose();
                return;
            }
        };
        let version =
            found.and_then(|record| record["metadata"]["resourceVersion"].as_str().map(str::to_owned));
        if version != known {
            self.queue.clear();
            self.events.push_back(DriftEvent::Record(version.map_or(RecordSeen::Gone, RecordSeen::At)));
        }
    }

    fn written(
        &mut self,
        key: &ObjectKey,
        step: &Step,
        drifted: &Drifted,
        fields: Vec<ContendedField>,
        written: Written,
    ) {
        match written.answer {
            Ok(value) => {
                self.objects.put(key, value, !by_existence(key));
                let noticed = self.noticed.remove(key).unwrap_or_else(Instant::now);
                if self.is_changed_by_admission(key, drifted) {
                    tracing::warn!(object = %key, "changed by admission control and left as it is");
                } else {
                    self.repaired(key, drifted);
                    self.contention.repaired(fields, self.began.elapsed());
                    self.events.push_back(DriftEvent::Repaired {
                        object: key.clone(),
                        verb: verb_name(&step.verb),
                        by: drifted.by.clone(),
                        took: noticed.elapsed(),
                    });
                }
                self.again.remove(key);
                self.drift.remove(key);
                self.look(key);
                self.changed();
            }
            Err(WriteError::LeaseLost(why)) => {
                tracing::warn!(object = %key, %why, "not written");
                self.lease.lose();
                self.look(key);
            }
            // It was changed again meanwhile, so it is assessed again; a second time in a row waits.
            Err(
                WriteError::Overtaken { .. }
                | WriteError::Request(RequestError::Conflict { .. } | RequestError::AlreadyExists { .. }),
            ) if self.is_first_time(key) => {
                self.objects.doubt(key);
                self.look(key);
            }
            Err(WriteError::Overtaken { owner }) => {
                self.failed(key, Some(drifted), &format!("it was created by {owner} in the meantime"));
            }
            Err(WriteError::Request(error)) if error.is_absent() => {
                self.failed(key, Some(drifted), &one_line(&error));
                let why = format!("{key} cannot be repaired automatically: {}", one_line(&error));
                self.events.push_back(DriftEvent::NeedsPlan { why });
            }
            Err(WriteError::Request(error) | WriteError::NotGivenBack(error)) => {
                self.failed(key, Some(drifted), &one_line(&error));
            }
            Err(WriteError::ChangedHands) => self.look(key),
        }
    }

    /// Whether a repair was answered with all that it was to change as it was before: nothing was repaired.
    fn is_changed_by_admission(&self, key: &ObjectKey, repaired: &Drifted) -> bool {
        let Assessment::Clear(Verdict::Drifted(now)) = self.sight(key) else { return false };
        matches!(now.remedy, Remedy::Leave(NotRepaired::Admission { .. }))
            && !repaired.changes.is_empty()
            && repaired.changes.iter().all(|change| now.changes.iter().any(|left| left.path == change.path))
    }

    /// Whether something that may be a coincidence is the first of its kind in a row: then it is looked at again at
    /// once.
    pub(super) fn is_first_time(&mut self, key: &ObjectKey) -> bool {
        let is_first = !self.again.contains_key(key);
        if is_first {
            self.again.insert(key.clone(), (None, patience()));
        }
        is_first
    }

    /// A request about an object was refused: it is tried again after a while.
    pub(super) fn failed(&mut self, key: &ObjectKey, drifted: Option<&Drifted>, error: &str) {
        tracing::warn!(object = %key, error, "failed to repair drift");
        let (_, mut backoff) = self.again.remove(key).unwrap_or_else(|| (None, patience()));
        let at = Instant::now() + backoff.next_wait();
        self.again.insert(key.clone(), (Some(at), backoff));
        let unknown = Drifted { changes: Vec::new(), by: Vec::new(), remedy: Remedy::Plan };
        let state = DriftState::Failed { error: error.to_owned() };
        self.show(key, drifted.unwrap_or(&unknown), state);
    }
}
