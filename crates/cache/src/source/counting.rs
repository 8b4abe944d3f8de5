//! How far the rows of a source are counted, where they must be read for it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Rows that are counted by reading them.
#[derive(Debug, Default)]
pub struct Counting {
    counted: AtomicU64,
    rows: AtomicU64,
}

impl Counting {
    /// So many rows are to be read.
    pub(crate) fn begin(&self, rows: u64) {
        self.counted.store(0, Ordering::Relaxed);
        self.rows.store(rows, Ordering::Relaxed);
    }

    /// So many more were read.
    pub(super) fn advance(&self, rows: u64) {
        self.counted.fetch_add(rows, Ordering::Relaxed);
    }

    /// How many were read, and of how many; nothing where there is nothing left to read.
    pub fn progress(&self) -> Option<(u64, u64)> {
        let progress = (self.counted.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed));
        (progress.0 < progress.1).then_some(progress)
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
        let counting = Counting::default();
        let told = std::cell::RefCell::new(Vec::new());
        let counts = ([unit("d", 7)], &counting);
        let read = |_: Unit| {
            told.borrow_mut().push(counting.progress());
            async { Ok(5) }
        };
        let all = counted(units, (&counts.0, counts.1), 1, read).await.unwrap();
        assert_eq!(all.iter().map(|unit| unit.rows).collect::<Vec<_>>(), [5, 3, 5, 7]);
        assert_eq!(told.take(), [Some((0, 30)), Some((10, 30))]);
        assert_eq!(counting.progress(), None);
    }
}
