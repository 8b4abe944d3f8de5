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

#[cfg(test)]
mod tests {
    use crate::plan::Unit;
    use crate::source::filtered::counted;

    use super::*;

    #[tokio::test]
    async fn it_is_told_how_many_of_the_units_that_must_be_read_are_counted() {
        let unit = |path: &str| Unit { path: path.to_owned(), row_group: None, rows: 7 };
        let units = [("a", None), ("b", Some(3)), ("c", None), ("d", None)];
        let units = units.map(|(path, rows)| (unit(path), rows)).to_vec();
        let counting = Counting::default();
        let told = std::cell::RefCell::new(Vec::new());
        let counts = ([unit("d")], &counting);
        let read = |_: Unit| {
            told.borrow_mut().push(counting.progress());
            async { Ok(5) }
        };
        let all = counted(units, (&counts.0, counts.1), 1, read).await.unwrap();
        assert_eq!(all.iter().map(|unit| unit.rows).collect::<Vec<_>>(), [5, 3, 5, 7]);
        assert_eq!(told.take(), [Some((0, 2)), Some((1, 2))]);
        assert_eq!(counting.progress(), None);
    }
}
