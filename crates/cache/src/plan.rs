//! What is read, in which order, and by whom: pure, without a clock, a network or a runtime.
//!
//! A [`Plan`] is the same for every head that reads the same pinned source, so that two heads, or one that started
//! again, never disagree about which row an index means.

pub mod assignment;
pub mod identity;
pub mod options;
pub mod range;
pub mod shuffle;
pub mod ticket;

pub use assignment::{Assignment, Placed, Worker};
pub use identity::PlanId;

use serde::Serialize;

/// The granule of assignment: a file, or one row group of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Unit {
    /// Where the file is: a URI, or a path relative to the source.
    pub path: String,
    /// Number of the row group; the whole file where there is none.
    pub row_group: Option<u32>,
    /// Live rows, those that deletes and the filter leave.
    pub rows: u64,
}

/// More units or rows than an index can name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Units are numbered by 32 bits.
    #[error("{0} units are too many; the limit is 4294967296")]
    TooManyUnits(usize),
    /// Indexes stay below 2^63, so that the difference of two is a signed number.
    #[error("the source has more than 9223372036854775808 rows")]
    TooManyRows,
}

/// All units of a pinned source in canonical order: by the bytes of their paths, then by row group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    id: PlanId,
    units: Vec<Unit>,
    rows: u64,
}

/// What a plan is made of beside its units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Columns of the dataset, in source order; all where empty.
    pub columns: Vec<String>,
    /// The dataset-wide filter, as it was given.
    pub filter: Option<String>,
    /// The snapshot's id, or the digest of the listing.
    pub snapshot: String,
    /// Which source: its kind and its URI without user information and query.
    pub source: String,
}

impl Plan {
    /// Puts the units in canonical order and gives the plan its identity.
    pub fn new(origin: &Origin, mut units: Vec<Unit>) -> Result<Self, Error> {
        if u32::try_from(units.len()).is_err() {
            return Err(Error::TooManyUnits(units.len()));
        }
        units.sort();
        let mut rows = 0_u64;
        for unit in &units {
            rows = rows.checked_add(unit.rows).filter(|rows| *rows <= 1 << 63).ok_or(Error::TooManyRows)?;
        }
        Ok(Self { id: PlanId::of(origin, &units), units, rows })
    }

    /// The plan's identity: independent of the listing's order and of the number of workers.
    pub fn id(&self) -> PlanId {
        self.id
    }

    /// The units in canonical order.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The sum of all units' rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str, row_group: Option<u32>, rows: u64) -> Unit {
        Unit { path: path.to_owned(), row_group, rows }
    }

    #[test]
    fn the_order_of_the_listing_does_not_matter() {
        let origin = Origin::default();
        let units = vec![unit("b", Some(1), 3), unit("b", Some(0), 2), unit("a", None, 1)];
        let mut turned = units.clone();
        turned.reverse();
        let (one, other) = (Plan::new(&origin, units).unwrap(), Plan::new(&origin, turned).unwrap());
        assert_eq!(one, other);
        assert_eq!(one.units().iter().map(|unit| unit.rows).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(one.rows(), 6);
    }

    #[test]
    fn whatever_is_read_differently_is_another_plan() {
        let units = || vec![unit("a", None, 1), unit("b", None, 2)];
        let id = |origin: &Origin, units| Plan::new(origin, units).unwrap().id();
        let plain = id(&Origin::default(), units());
        let others = [
            id(&Origin { columns: vec!["x".into()], ..Origin::default() }, units()),
            id(&Origin { filter: Some("x = 1".into()), ..Origin::default() }, units()),
            id(&Origin { snapshot: "7".into(), ..Origin::default() }, units()),
            id(&Origin { source: "file:///t".into(), ..Origin::default() }, units()),
            id(&Origin::default(), vec![unit("a", None, 1), unit("b", None, 3)]),
            id(&Origin::default(), vec![unit("a", Some(0), 1), unit("b", None, 2)]),
        ];
        for (place, other) in others.iter().enumerate() {
            assert_ne!(plain, *other, "{place}");
        }
    }

    #[test]
    fn rows_that_no_index_can_name_are_refused() {
        let half = || unit("a", None, (1 << 62) + 1);
        let error = Plan::new(&Origin::default(), vec![half(), half()]).unwrap_err();
        assert_eq!(error, Error::TooManyRows);
        let most = vec![unit("a", None, 1 << 62), unit("b", None, 1 << 62)];
        assert_eq!(Plan::new(&Origin::default(), most).unwrap().rows(), 1 << 63);
    }
}
