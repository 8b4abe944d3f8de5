//! One load for all who want the same at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use tokio::sync::{Mutex, MutexGuard};

/// What is loaded, while it is loaded and while somebody still has it.
type Landed<V> = Mutex<Weak<V>>;

/// Loads that are in progress.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    open: StdMutex<HashMap<K, Weak<Landed<V>>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { open: StdMutex::default() }
    }
}

/// Part in a load.
pub(super) struct Flight<'a, K: Hash + Eq, V> {
    flights: &'a Flights<K, V>,
    key: K,
    landed: Arc<Landed<V>>,
}

/// The turn to load: the others wait until it ends.
pub(super) struct Turn<'a, V>(MutexGuard<'a, Weak<V>>);

impl<K: Hash + Eq + Copy, V> Flights<K, V> {
    /// Takes part in the load of a key.
    pub(super) fn join(&self, key: K) -> Flight<'_, K, V> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let there = open.get(&key).and_then(Weak::upgrade);
        let landed = there.unwrap_or_else(|| {
            let landed = Arc::new(Mutex::new(Weak::new()));
            open.insert(key, Arc::downgrade(&landed));
            landed
        });
        Flight { flights: self, key, landed }
    }
}

impl<K: Hash + Eq, V> Flight<'_, K, V> {
    /// Waits for whoever loads. Where that failed, or was given up, the next one loads.
    pub(super) async fn turn(&self) -> Turn<'_, V> {
        Turn(self.landed.lock().await)
    }
}

impl<V> Turn<'_, V> {
    /// What another one loaded.
    pub(super) fn landed(&self) -> Option<Arc<V>> {
        self.0.upgrade()
    }

    /// Hands it to those who wait.
    pub(super) fn land(&mut self, value: &Arc<V>) {
        *self.0 = Arc::downgrade(value);
    }
}

impl<K: Hash + Eq, V> Drop for Flight<'_, K, V> {
    fn drop(&mut self) {
        let mut open = self.flights.open.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one leaves nothing behind; nobody can join meanwhile, who needs the lock for it.
        if Arc::strong_count(&self.landed) == 1 {
            open.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    async fn load(flights: &Flights<u32, u32>, loads: &AtomicU32, fails: bool) -> Option<Arc<u32>> {
        let flight = flights.join(7);
        let mut turn = flight.turn().await;
        if let Some(landed) = turn.landed() {
            return Some(landed);
        }
        let number = loads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        if fails && number == 0 {
            return None;
        }
        let value = Arc::new(number);
        turn.land(&value);
        Some(value)
    }

    #[tokio::test]
    async fn all_who_want_the_same_get_it_from_one_load() {
        let (flights, loads) = (Flights::default(), AtomicU32::new(0));
        let all = futures::future::join_all((0..20).map(|_| load(&flights, &loads, false))).await;
        assert!(all.iter().all(|value| value.as_deref() == Some(&0)));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert!(flights.open.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn where_a_load_fails_the_next_one_loads() {
        let (flights, loads) = (Flights::default(), AtomicU32::new(0));
        let all = futures::future::join_all((0..5).map(|_| load(&flights, &loads, true))).await;
        assert_eq!(all.iter().filter(|value| value.is_none()).count(), 1);
        assert_eq!(loads.load(Ordering::Relaxed), 2);
        assert!(flights.open.lock().unwrap().is_empty());
    }
}
