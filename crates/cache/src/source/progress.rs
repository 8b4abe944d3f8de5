//! How far the plan of a source is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a plan is.
#[derive(Debug, Default)]
pub struct Progress {
    is_resolved: AtomicBool,
    counted: AtomicU64,
    rows: AtomicU64,
}

/// What is being done for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The source is being opened.
    Resolving,
    /// Files are known; what is in them is being read from manifests and footers.
    Planning,
    /// Rows are counted by reading them.
    Counting {
        /// Rows that were read.
        counted: u64,
        /// Rows to read.
        rows: u64,
    },
}

impl Progress {
    /// Begins again.
    pub(crate) fn reset(&self) {
        self.is_resolved.store(false, Ordering::Relaxed);
        self.begin_counting(0);
    }

    /// It is known what the source is.
    pub(super) fn resolved(&self) {
        self.is_resolved.store(true, Ordering::Relaxed);
    }

    /// So many rows are to be read to count those that are selected or not deleted.
    pub(super) fn begin_counting(&self, rows: u64) {
        self.counted.store(0, Ordering::Relaxed);
        self.rows.store(rows, Ordering::Relaxed);
    }

    /// So many more were read.
    pub(super) fn advance(&self, rows: u64) {
        self.counted.fetch_add(rows, Ordering::Relaxed);
    }

    /// What is being done.
    pub fn stage(&self) -> Stage {
        let (counted, rows) = (self.counted.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed));
        if counted < rows {
            return Stage::Counting { counted, rows };
        }
        if self.is_resolved.load(Ordering::Relaxed) { Stage::Planning } else { Stage::Resolving }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::Unit;
    use crate::source::filtered::counted;

    use super::*;

    #[tokio::test]
    async fn progress_is_in_rows_of_the_units_that_must_be_read() {
        let unit = |path: &str, rows| Unit { path: path.to_owned(), row_group: None, rows };
        let units = [("a", 10, None), ("b", 7, Some(3)), ("c", 20, None), ("d", 7, None)];
        let units = units.map(|(path, rows, live)| (unit(path, rows), live)).to_vec();
        let progress = Progress::default();
        assert_eq!(progress.stage(), Stage::Resolving);
        progress.resolved();
        let told = std::cell::RefCell::new(Vec::new());
        let counts = ([unit("d", 7)], &progress);
        let read = |_: Unit| {
            told.borrow_mut().push(progress.stage());
            async { Ok(5) }
        };
        let all = counted(units, (&counts.0, counts.1), 1, read).await.unwrap();
        assert_eq!(all.iter().map(|unit| unit.rows).collect::<Vec<_>>(), [5, 3, 5, 7]);
        let counting = |counted| Stage::Counting { counted, rows: 30 };
        assert_eq!(told.take(), [counting(0), counting(10)]);
        assert_eq!(progress.stage(), Stage::Planning);
        progress.reset();
        assert_eq!(progress.stage(), Stage::Resolving);
    }
}
