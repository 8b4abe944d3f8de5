//! How far the rows of a source are counted, where they must be read for it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Units whose rows are counted by reading them.
#[derive(Debug, Default)]
pub struct Counting {
    counted: AtomicUsize,
    units: AtomicUsize,
}

impl Counting {
    /// So many units are to be counted.
    pub(crate) fn begin(&self, units: usize) {
        self.counted.store(0, Ordering::Relaxed);
        self.units.store(units, Ordering::Relaxed);
    }

    /// One more is counted.
    pub(super) fn advance(&self) {
        self.counted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are counted, and of how many; nothing where there is nothing left to count.
    pub fn progress(&self) -> Option<(usize, usize)> {
        let progress = (self.counted.load(Ordering::Relaxed), self.units.load(Ordering::Relaxed));
        (progress.0 < progress.1).then_some(progress)
    }
}
