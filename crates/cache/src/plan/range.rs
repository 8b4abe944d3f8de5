//! How rows are divided between readers.

/// An inclusive range of row positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First position.
    pub start: u64,
    /// Last position, part of the range.
    pub end: u64,
}

impl Range {
    /// Number of positions.
    pub fn len(self) -> u64 {
        (self.end + 1).saturating_sub(self.start)
    }

    /// A range read from a bare ticket may be turned around; it has no rows.
    pub fn is_empty(self) -> bool {
        self.start > self.end
    }

    /// The positions in both, where there are any.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let both = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (!both.is_empty()).then_some(both)
    }
}

/// How the rows of a dataset are split between partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// Upstream's rule: `ceil(rows / partitions)` each, the last ones less or nothing.
    #[default]
    Range,
    /// Sizes differ by at most one, larger ones first.
    Even,
    /// All `ceil(rows / partitions)`, going on from the start where rows are short.
    Pad,
    /// All `floor(rows / partitions)`; what is left over is not read.
    Drop,
    /// Batches in turn: partition `i` of `P` reads the batches `i`, `i + P`, … of the whole order, so that all
    /// partitions together are always at one place of it.
    Strided,
}

/// Most batches of a strided partition: a bound of what a request costs.
pub const MOST_BATCHES: u64 = 1 << 22;

/// The ranges of a strided partition: batches from `first` on, each `stride` behind the one before. `None` where they
/// are too many.
pub fn strided(rows: u64, first: u64, stride: u64, batch: u64) -> Option<Vec<Range>> {
    if batch == 0 || stride < batch || rows.saturating_sub(first).div_ceil(stride) > MOST_BATCHES {
        return None;
    }
    let starts = std::iter::successors(Some(first), |start| start.checked_add(stride));
    let ranges = starts
        .take_while(|start| *start < rows)
        .map(|start| Range { start, end: start.saturating_add(batch).min(rows) - 1 });
    Some(ranges.collect())
}

/// Leaves out the first positions.
pub fn skip(positions: Vec<Range>, mut skip: u64) -> Vec<Range> {
    let mut rest = Vec::with_capacity(positions.len());
    for range in positions {
        let skipped = skip.min(range.len());
        skip -= skipped;
        if skipped < range.len() {
            rest.push(Range { start: range.start + skipped, end: range.end });
        }
    }
    rest
}

/// The ranges of one partition, in the order in which they are read: one, or two where `Pad` goes on from the start;
/// none where there is nothing for it. A strided one is [`strided`].
pub fn partition(split: Split, rows: u64, partition: u64, partitions: u64) -> Vec<Range> {
    if rows == 0 || partition >= partitions {
        return Vec::new();
    }
    match split {
        Split::Range => {
            let each = rows.div_ceil(partitions);
            let Some(start) = each.checked_mul(partition).filter(|start| *start < rows) else {
                return Vec::new();
            };
            vec![Range { start, end: (start + each).min(rows) - 1 }]
        }
        Split::Even => {
            let (each, larger) = (rows / partitions, rows % partitions);
            let start = each * partition + partition.min(larger);
            let length = each + u64::from(partition < larger);
            sized(start, length)
        }
        Split::Drop => {
            let each = rows / partitions;
            sized(each * partition, each)
        }
        Split::Strided => Vec::new(),
        Split::Pad => {
            let each = rows.div_ceil(partitions);
            // The product may pass 2^64 where there are more partitions than rows; the position wraps anyway.
            let first = u128::from(each) * u128::from(partition) % u128::from(rows);
            let first = u64::try_from(first).unwrap_or_default();
            let until_end = each.min(rows - first);
            let mut ranges = sized(first, until_end);
            ranges.extend(sized(0, each - until_end));
            ranges
        }
    }
}

fn sized(start: u64, length: u64) -> Vec<Range> {
    if length == 0 { Vec::new() } else { vec![Range { start, end: start + length - 1 }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(rows: u64, partitions: u64) -> Vec<Option<(u64, u64)>> {
        let one = |number| partition(Split::Range, rows, number, partitions);
        (0..partitions).map(|number| one(number).first().map(|range| (range.start, range.end))).collect()
    }

    #[test]
    fn upstreams_rule_as_its_table_has_it() {
        assert_eq!(upstream(100, 4), [Some((0, 24)), Some((25, 49)), Some((50, 74)), Some((75, 99))]);
        assert_eq!(upstream(10, 4), [Some((0, 2)), Some((3, 5)), Some((6, 8)), Some((9, 9))]);
        assert_eq!(upstream(9, 5), [Some((0, 1)), Some((2, 3)), Some((4, 5)), Some((6, 7)), Some((8, 8))]);
        assert_eq!(upstream(5, 4), [Some((0, 1)), Some((2, 3)), Some((4, 4)), None]);
        let three = upstream(3, 8);
        assert_eq!(three[..3], [Some((0, 0)), Some((1, 1)), Some((2, 2))]);
        assert!(three[3..].iter().all(Option::is_none));
        assert_eq!(upstream(1, 1), [Some((0, 0))]);
        assert_eq!(upstream(0, 1), [None]);
        assert!(partition(Split::Range, 10, 4, 4).is_empty());
        assert!(partition(Split::Range, 10, 0, 0).is_empty());
    }

    #[test]
    fn every_rule_keeps_what_it_promises() {
        for rows in 0..40_u64 {
            for partitions in 1..12_u64 {
                let counts = |split| {
                    let mut counts = vec![0_u64; usize::try_from(rows).unwrap()];
                    let mut lengths = Vec::new();
                    for number in 0..partitions {
                        let ranges = partition(split, rows, number, partitions);
                        lengths.push(ranges.iter().map(|range| range.len()).sum::<u64>());
                        for position in ranges.iter().flat_map(|range| range.start..=range.end) {
                            counts[usize::try_from(position).unwrap()] += 1;
                        }
                    }
                    (counts, lengths)
                };
                let case = format!("{rows} rows, {partitions} partitions");
                for split in [Split::Range, Split::Even] {
                    assert!(counts(split).0.iter().all(|count| *count == 1), "{split:?}, {case}");
                }
                let (_, lengths) = counts(Split::Even);
                assert!(lengths.is_sorted_by(|one, next| one >= next && one - next <= 1), "{case}");
                let (times, lengths) = counts(Split::Pad);
                assert!(times.iter().all(|count| *count >= 1), "{case}");
                let each = rows.div_ceil(partitions);
                assert!(lengths.iter().all(|length| *length == each), "{case}");
                // As many positions too many as it takes to fill the last partitions, fewer than there are of them.
                assert!(times.iter().sum::<u64>() - rows < partitions.max(1), "{case}");
                let (times, lengths) = counts(Split::Drop);
                assert!(times.iter().all(|count| *count <= 1), "{case}");
                assert!(lengths.iter().all(|length| *length == rows / partitions), "{case}");
                assert!(rows - times.iter().sum::<u64>() < partitions, "{case}");
            }
        }
    }

    #[test]
    fn strided_partitions_are_at_one_place_whatever_their_number_was_before() {
        let read = |partitions: u64, start: u64, steps: u64| -> Vec<u64> {
            let mut seen: Vec<u64> = (0..partitions)
                .flat_map(|number| {
                    let ranges = strided(1000, start + number * 7, partitions * 7, 7).unwrap();
                    ranges.into_iter().take(usize::try_from(steps).unwrap())
                })
                .flat_map(|range| range.start..=range.end)
                .collect();
            seen.sort_unstable();
            seen
        };
        for partitions in 1..9 {
            assert!(read(partitions, 0, u64::MAX >> 1).into_iter().eq(0..1000), "{partitions}");
            let before = read(partitions, 0, 5);
            let place = partitions * 5 * 7;
            assert!(before.into_iter().eq(0..place), "{partitions}");
            // Whoever goes on, with whatever number, reads the rest.
            for others in 1..9 {
                assert!(
                    read(others, place, u64::MAX >> 1).into_iter().eq(place..1000),
                    "{partitions}, {others}"
                );
            }
        }
        assert_eq!(strided(10, 10, 3, 3).unwrap(), []);
        assert_eq!(strided(10, u64::MAX, u64::MAX, 3).unwrap(), []);
        assert_eq!(strided(u64::MAX, 0, 1, 1), None);
        assert_eq!(strided(10, 0, 1, 2), None);
        assert_eq!(strided(10, 0, 0, 0), None);
    }

    #[test]
    fn the_first_positions_are_left_out_across_ranges() {
        let range = |start, end| Range { start, end };
        assert_eq!(skip(vec![range(8, 9), range(0, 2)], 3), [range(1, 2)]);
        assert_eq!(skip(vec![range(8, 9)], 0), [range(8, 9)]);
        assert!(skip(vec![range(8, 9)], 2).is_empty());
    }

    #[test]
    fn large_numbers_do_not_overflow() {
        assert!(partition(Split::Range, 1 << 63, u64::MAX - 1, u64::MAX).is_empty());
        for split in [Split::Range, Split::Even, Split::Pad, Split::Drop] {
            let _ = partition(split, (1 << 63) - 1, 1 << 62, u64::MAX);
            let _ = partition(split, 1, u64::MAX - 1, u64::MAX);
        }
    }
}
