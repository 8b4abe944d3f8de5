//! One load for all who want the same at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use tokio::sync::{Mutex, MutexGuard};

/// The result of a call, for as long as somebody has it.
type Shared<V> = Mutex<Weak<V>>;

/// Calls that are in progress.
#[derive(Debug)]
pub(super) struct SingleFlight<K, V> {
    calls: StdMutex<HashMap<K, Weak<Shared<V>>>>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { calls: StdMutex::default() }
    }
}

/// Takes part in a call.
pub(super) struct Call<'a, K: Hash + Eq, V> {
    group: &'a SingleFlight<K, V>,
    key: K,
    shared: Arc<Shared<V>>,
}

/// Runs the call: the others wait until it ends.
pub(super) struct Leader<'a, V>(MutexGuard<'a, Weak<V>>);

impl<K: Hash + Eq + Copy, V> SingleFlight<K, V> {
    /// Takes part in the call for a key.
    pub(super) fn join(&self, key: K) -> Call<'_, K, V> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let existing = calls.get(&key).and_then(Weak::upgrade);
        let shared = existing.unwrap_or_else(|| {
            let shared = Arc::new(Mutex::new(Weak::new()));
            calls.insert(key, Arc::downgrade(&shared));
            shared
        });
        Call { group: self, key, shared }
    }
}

impl<K: Hash + Eq, V> Call<'_, K, V> {
    /// Waits for the leader. If its call failed or was cancelled, the next one leads.
    pub(super) async fn lead(&self) -> Leader<'_, V> {
        Leader(self.shared.lock().await)
    }

    /// Leads, unless somebody else does.
    pub(super) fn try_lead(&self) -> Option<Leader<'_, V>> {
        self.shared.try_lock().ok().map(Leader)
    }
}

impl<V> Leader<'_, V> {
    /// The result of the leader before.
    pub(super) fn result(&self) -> Option<Arc<V>> {
        self.0.upgrade()
    }

    /// Gives the result to those who wait.
    pub(super) fn complete(&mut self, value: &Arc<V>) {
        *self.0 = Arc::downgrade(value);
    }
}

impl<K: Hash + Eq, V> Drop for Call<'_, K, V> {
    fn drop(&mut self) {
        let mut calls = self.group.calls.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one removes the entry; nobody can join meanwhile, because that needs the lock.
        if Arc::strong_count(&self.shared) == 1 {
            calls.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    async fn load(group: &SingleFlight<u32, u32>, loads: &AtomicU32, fails: bool) -> Option<Arc<u32>> {
        let call = group.join(7);
        let mut leader = call.lead().await;
        if let Some(result) = leader.result() {
            return Some(result);
        }
        assert!(group.join(7).try_lead().is_none(), "there is one leader");
        let number = loads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        if fails && number == 0 {
            return None;
        }
        let value = Arc::new(number);
        leader.complete(&value);
        Some(value)
    }

    #[tokio::test]
    async fn concurrent_calls_share_one_load() {
        let (group, loads) = (SingleFlight::default(), AtomicU32::new(0));
        let all = futures::future::join_all((0..20).map(|_| load(&group, &loads, false))).await;
        assert!(all.iter().all(|value| value.as_deref() == Some(&0)));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert!(group.calls.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn after_a_failed_load_the_next_caller_loads() {
        let (group, loads) = (SingleFlight::default(), AtomicU32::new(0));
        let all = futures::future::join_all((0..5).map(|_| load(&group, &loads, true))).await;
        assert_eq!(all.iter().filter(|value| value.is_none()).count(), 1);
        assert_eq!(loads.load(Ordering::Relaxed), 2);
        assert!(group.calls.lock().unwrap().is_empty());
    }
}
