//! The seeded shuffle, version 1: which block of rows is read at which place.
//!
//! Blocks are the index space cut every so many rows; the last may be shorter and keeps its length wherever it is
//! read. The order is a function of the plan, the seed and the epoch alone, so that every reader computes the same.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use sha2::{Digest as _, Sha256};

use super::identity::PlanId;
use super::range::Range;

/// Part of the key, so that another version shuffles otherwise.
const DOMAIN: &[u8] = b"tdc-shuffle-1";

/// Rows that are read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Position of the first of them.
    pub position: u64,
    /// Their indexes.
    pub rows: Range,
}

/// What rows are shuffled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shuffle {
    /// Rows of a block, at least one.
    pub block_rows: u64,
    /// Also inside each block.
    pub inside: bool,
    /// Seed.
    pub seed: u64,
    /// Epoch.
    pub epoch: u64,
}

/// The rows at positions that are read as batches, each with the row whose owner serves it: the first of its block
/// where rows are shuffled, else its own first. The positions are in ascending order, and no batch is in two blocks.
pub fn batches(shuffle: Option<Shuffle>, plan: PlanId, rows: u64, positions: &[Range]) -> Vec<(u64, Run)> {
    match shuffle {
        None => {
            let run = |range: &Range| (range.start, Run { position: range.start, rows: *range });
            positions.iter().filter(|range| range.end < rows).map(run).collect()
        }
        Some(shuffle) => shuffle.batches(plan, rows, positions),
    }
}

impl Shuffle {
    /// As [`batches`]: one pass over the blocks, whatever the number of batches.
    fn batches(&self, plan: PlanId, rows: u64, positions: &[Range]) -> Vec<(u64, Run)> {
        let mut found = Vec::with_capacity(positions.len());
        let mut waiting = positions.iter().peekable();
        let mut position = 0;
        if rows == 0 {
            return found;
        }
        for block in self.blocks(plan, rows) {
            let first = block * self.block_rows;
            let length = self.block_rows.min(rows - first);
            let here = Range { start: position, end: position + length - 1 };
            position += length;
            let mut order = None;
            while let Some(range) = waiting.peek() {
                let Some(wanted) = range.intersection(here) else { break };
                if self.inside {
                    let order = order.get_or_insert_with(|| self.permutation(plan, length, Some(block)));
                    let mut runs = Vec::new();
                    for place in wanted.start..=wanted.end {
                        let row = usize::try_from(place - here.start).ok().and_then(|place| order.get(place));
                        if let Some(row) = row {
                            push(&mut runs, place, Range { start: first + row, end: first + row });
                        }
                    }
                    found.extend(runs.into_iter().map(|run| (first, run)));
                } else {
                    let start = first + (wanted.start - here.start);
                    let rows = Range { start, end: start + wanted.len() - 1 };
                    found.push((first, Run { position: wanted.start, rows }));
                }
                // What goes on in the next block (the last, shorter one comes in between) is read there.
                if range.end > here.end {
                    break;
                }
                waiting.next();
            }
        }
        found
    }

    /// The indexes of the rows at these positions, as runs of consecutive ones; single rows where rows are shuffled
    /// inside their blocks. Positions beyond the last row have none.
    pub fn runs(&self, plan: PlanId, rows: u64, positions: Range) -> Vec<Run> {
        if rows == 0 || positions.is_empty() {
            return Vec::new();
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut position = 0;
        for block in self.blocks(plan, rows) {
            let first = block * self.block_rows;
            let length = self.block_rows.min(rows - first);
            let here = Range { start: position, end: position + length - 1 };
            position += length;
            if here.start > positions.end {
                break;
            }
            let Some(wanted) = here.intersection(positions) else { continue };
            if self.inside {
                let order = self.permutation(plan, length, Some(block));
                for place in wanted.start..=wanted.end {
                    let row = usize::try_from(place - here.start).ok().and_then(|place| order.get(place));
                    if let Some(row) = row {
                        push(&mut runs, place, Range { start: first + row, end: first + row });
                    }
                }
            } else {
                let start = first + (wanted.start - here.start);
                push(&mut runs, wanted.start, Range { start, end: start + wanted.len() - 1 });
            }
        }
        runs
    }

    /// The numbers of the blocks in the order in which they are read.
    pub fn blocks(&self, plan: PlanId, rows: u64) -> Vec<u64> {
        self.permutation(plan, rows.div_ceil(self.block_rows), None)
    }

    /// Fisher and Yates, from the last element down.
    fn permutation(&self, plan: PlanId, length: u64, block: Option<u64>) -> Vec<u64> {
        let mut order: Vec<u64> = (0..length).collect();
        let mut stream = Words::new(plan, self.seed, self.epoch, block);
        for place in (1..order.len()).rev() {
            let other = stream.below(place as u64 + 1);
            if let Ok(other) = usize::try_from(other) {
                order.swap(place, other);
            }
        }
        order
    }
}

/// Adds a run, joined with the one before where it goes on from there.
fn push(runs: &mut Vec<Run>, position: u64, rows: Range) {
    match runs.last_mut() {
        Some(last) if last.rows.end + 1 == rows.start && last.position + last.rows.len() == position => {
            last.rows.end = rows.end;
        }
        _ => runs.push(Run { position, rows }),
    }
}

/// The key stream, read as 64-bit words, the lowest byte first.
struct Words(ChaCha20);

impl Words {
    fn new(plan: PlanId, seed: u64, epoch: u64, block: Option<u64>) -> Self {
        let mut key = Sha256::new();
        key.update(DOMAIN);
        key.update(plan.as_bytes());
        key.update(seed.to_le_bytes());
        key.update(epoch.to_le_bytes());
        if let Some(block) = block {
            key.update(block.to_le_bytes());
        }
        let key: [u8; 32] = key.finalize().into();
        Self(ChaCha20::new(&key.into(), &[0; 12].into()))
    }

    fn next(&mut self) -> u64 {
        let mut word = [0; 8];
        self.0.apply_keystream(&mut word);
        u64::from_le_bytes(word)
    }

    /// A number below the bound, each as likely: words in the last, incomplete stretch are drawn again.
    fn below(&mut self, bound: u64) -> u64 {
        let limit = ((1_u128 << 64) / u128::from(bound)) * u128::from(bound);
        loop {
            let word = self.next();
            if u128::from(word) < limit {
                return word % bound;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> PlanId {
        PlanId::from_bytes(&(0..16).collect::<Vec<u8>>()).unwrap()
    }

    fn all(shuffle: Shuffle, rows: u64) -> Vec<u64> {
        let runs = shuffle.runs(plan(), rows, Range { start: 0, end: rows.saturating_sub(1) });
        runs.iter().flat_map(|run| run.rows.start..=run.rows.end).collect()
    }

    /// The version's test vectors: they may never change.
    #[test]
    fn version_one_is_what_it_is() {
        let shuffle = Shuffle { block_rows: 1, inside: false, seed: 1, epoch: 2 };
        insta::assert_compact_debug_snapshot!(shuffle.blocks(plan(), 10), @"[9, 4, 7, 1, 2, 8, 3, 5, 0, 6]");
        let shuffle = Shuffle { block_rows: 4, inside: true, seed: 1, epoch: 2 };
        insta::assert_compact_debug_snapshot!(all(shuffle, 10), @"[1, 2, 3, 0, 8, 9, 7, 5, 4, 6]");
    }

    #[test]
    fn every_row_is_at_one_position() {
        for rows in 0..60 {
            for block_rows in [1, 2, 7, 64] {
                for inside in [false, true] {
                    let shuffle = Shuffle { block_rows, inside, seed: rows, epoch: 3 };
                    let mut seen = all(shuffle, rows);
                    seen.sort_unstable();
                    assert!(seen.iter().copied().eq(0..rows), "{rows} rows, {shuffle:?}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_the_positions_is_that_part_of_the_whole() {
        for inside in [false, true] {
            let shuffle = Shuffle { block_rows: 7, inside, seed: 5, epoch: 0 };
            let whole = all(shuffle, 50);
            for start in 0..50_u64 {
                for end in start..50 {
                    let runs = shuffle.runs(plan(), 50, Range { start, end });
                    let part: Vec<u64> = runs.iter().flat_map(|run| run.rows.start..=run.rows.end).collect();
                    assert_eq!(runs[0].position, start);
                    let (start, end) = (usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
                    assert_eq!(part, whole[start..=end]);
                }
            }
        }
    }

    #[test]
    fn another_epoch_or_seed_is_another_order() {
        let order = |seed, epoch| all(Shuffle { block_rows: 1, inside: false, seed, epoch }, 100);
        assert_eq!(order(1, 1), order(1, 1));
        assert_ne!(order(1, 1), order(1, 2));
        assert_ne!(order(1, 1), order(2, 1));
    }
}
