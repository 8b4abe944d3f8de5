//! How many loads from the source run at the same time. Loads that a stream waits for go first; prefetching and warming
//! take what they leave.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Slots for loads.
#[derive(Debug)]
pub(super) struct LoadSlots {
    slots: Semaphore,
    total: usize,
    /// Foreground loads that have no slot yet.
    waiting: AtomicUsize,
    none_waiting: Notify,
}

/// A load that may run. Nobody closes the semaphore; if it were closed, loads would run without a permit.
pub(super) type Slot<'a> = Option<SemaphorePermit<'a>>;

/// A foreground load without a slot.
struct Waiting<'a>(&'a LoadSlots);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_waiting.notify_waiters();
        }
    }
}

impl LoadSlots {
    pub(super) fn new(total: usize) -> Self {
        Self {
            slots: Semaphore::new(total),
            total,
            waiting: AtomicUsize::new(0),
            none_waiting: Notify::new(),
        }
    }

    /// Loads that run now.
    pub(super) fn used(&self) -> usize {
        self.total.saturating_sub(self.slots.available_permits())
    }

    /// A slot for a load that a stream waits for.
    pub(super) async fn foreground(&self) -> Slot<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(self);
        self.slots.acquire().await.ok()
    }

    /// A slot for a load that nobody waits for, once no foreground load waits for one.
    pub(super) async fn background(&self) -> Slot<'_> {
        loop {
            // Before the look at the counter, so that no notification is missed.
            let none_waiting = self.none_waiting.notified();
            if self.waiting.load(Ordering::SeqCst) > 0 {
                none_waiting.await;
                continue;
            }
            let slot = self.slots.acquire().await.ok();
            // A foreground load may have queued up behind this one meanwhile.
            if self.waiting.load(Ordering::SeqCst) == 0 {
                return slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn foreground_loads_go_before_background_loads_that_came_first() {
        let slots = Arc::new(LoadSlots::new(1));
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = slots.foreground().await;
        let mut loads = tokio::task::JoinSet::new();
        for (name, is_foreground) in [("prefetch", false), ("warm", false), ("one", true), ("two", true)] {
            let (slots, order) = (Arc::clone(&slots), Arc::clone(&order));
            loads.spawn(async move {
                let _slot = if is_foreground { slots.foreground().await } else { slots.background().await };
                order.lock().unwrap().push(name);
            });
            // Each queues up before the next one comes.
            tokio::task::yield_now().await;
        }
        assert_eq!(slots.used(), 1);
        drop(held);
        loads.join_all().await;
        let order = order.lock().unwrap().clone();
        assert_eq!(order[..2], ["one", "two"], "{order:?}");
        assert_eq!((order.len(), slots.used()), (4, 0));
    }
}
