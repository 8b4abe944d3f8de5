//! Operations that users start, and their outcomes, which can be waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// Number of operations that are kept.
const KEPT: usize = 64;

/// The outcome of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum OperationState {
    /// It is in progress or queued.
    InProgress,
    /// It is done.
    Done {
        /// The revision that the cluster is at.
        revision: Option<u64>,
        /// Objects that were written for it.
        changed: usize,
        /// How many of them were recreated.
        recreated: usize,
    },
    /// It was refused or failed.
    Refused {
        /// A code.
        reason: &'static str,
        /// Why, for people.
        message: String,
    },
}

/// Whoever runs it reports its outcome here. Dropped without an outcome, it was not done.
#[derive(Debug)]
pub(crate) struct OperationHandle(watch::Sender<OperationState>);

impl OperationHandle {
    /// It is done.
    pub(crate) fn done(self, revision: Option<u64>, changed: usize, recreated: usize) {
        self.0.send_replace(OperationState::Done { revision, changed, recreated });
    }

    /// It is not, and why.
    pub(crate) fn refused(self, reason: &'static str, message: impl Into<String>) {
        self.0.send_replace(OperationState::Refused { reason, message: message.into() });
    }
}

impl Drop for OperationHandle {
    fn drop(&mut self) {
        self.0.send_if_modified(|operation| {
            let lost = *operation == OperationState::InProgress;
            if lost {
                let message =
                    "it was abandoned: the daemon is stopping, or another request replaced it".to_owned();
                *operation = OperationState::Refused { reason: "GivenUp", message };
            }
            lost
        });
    }
}

/// The operations that are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operations {
    known: Arc<Mutex<BTreeMap<u64, watch::Receiver<OperationState>>>>,
}

impl Operations {
    /// Registers an operation: its number, and the handle that reports its outcome.
    pub(crate) fn open(&self) -> (u64, OperationHandle) {
        let (sender, receiver) = watch::channel(OperationState::InProgress);
        // Nothing is left half-done by a panic under this lock.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let id = known.last_key_value().map_or(1, |(id, _)| id + 1);
        known.insert(id, receiver);
        while known.len() > KEPT {
            known.pop_first();
        }
        (id, OperationHandle(sender))
    }

    /// The one of that number.
    pub(crate) fn find(&self, id: u64) -> Option<watch::Receiver<OperationState>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_a_result_even_if_its_handle_is_dropped() {
        let operations = Operations::default();
        let (one, handle) = operations.open();
        let (other, lost) = operations.open();
        assert_ne!(one, other);
        let now = |id| operations.find(id).unwrap().borrow().clone();
        assert_eq!(now(one), OperationState::InProgress);
        handle.done(Some(3), 2, 1);
        assert_eq!(now(one), OperationState::Done { revision: Some(3), changed: 2, recreated: 1 });
        drop(lost);
        assert!(matches!(now(other), OperationState::Refused { reason: "GivenUp", .. }));
        assert!(operations.find(99).is_none());
    }

    #[test]
    fn only_the_newest_operations_are_kept() {
        let operations = Operations::default();
        let last = (0..=KEPT).map(|_| operations.open().0).max().unwrap();
        assert!(operations.find(1).is_none() && operations.find(2).is_some());
        assert_eq!(last, 65);
    }
}
