//! A part of the memory: whoever allocates from it reserves bytes first.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a permit.
pub(super) const GRANULARITY: u64 = 64 << 10;

/// Bytes that are set aside for one purpose.
#[derive(Debug)]
pub(super) struct Budget {
    semaphore: Arc<Semaphore>,
    permits: u32,
}

impl Budget {
    /// Of so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let most = u32::MAX >> 4;
        let permits = u32::try_from((bytes / GRANULARITY).max(1)).unwrap_or(most).min(most);
        Self { semaphore: Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(1))), permits }
    }

    /// Bytes that are reserved now.
    pub(super) fn reserved(&self) -> u64 {
        let free = u64::try_from(self.semaphore.available_permits()).unwrap_or_default();
        u64::from(self.permits).saturating_sub(free) * GRANULARITY
    }

    /// Whether all of it is reserved.
    pub(super) fn is_exhausted(&self) -> bool {
        self.semaphore.available_permits() == 0
    }

    /// Reserves bytes if they are available. A request for more than the whole budget reserves all of it.
    pub(super) fn try_reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.semaphore).try_acquire_many_owned(self.permits(bytes)).ok()
    }

    /// As [`Budget::try_reserve`], once they are available.
    pub(super) async fn reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        // Nobody closes the semaphore.
        Arc::clone(&self.semaphore).acquire_many_owned(self.permits(bytes)).await.ok()
    }

    fn permits(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(GRANULARITY)).unwrap_or(u32::MAX).clamp(1, self.permits)
    }
}
