//! Which worker owns which rows.

use super::range::Range;
use super::{Plan, Unit};

/// How units are given to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Contiguous pieces in canonical order: what an index means does not depend on the number of workers.
    Contiguous,
    /// Upstream's: the largest first, each to the worker that has fewest rows.
    Largest,
}

/// A unit with its place in the index space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The unit.
    pub unit: Unit,
    /// Index of its first row.
    pub first_index: u64,
    /// The worker that owns it.
    pub owner: u32,
}

/// A worker's part of the index space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Counted from 0.
    pub id: u32,
    /// Its rows; none where there are fewer units than workers.
    pub rows: Option<Range>,
}

/// Every unit with its owner, in the order of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    units: Vec<Placed>,
    workers: Vec<Worker>,
    rows: u64,
}

impl Assignment {
    /// Gives the units of a plan to so many workers; at least one.
    pub fn new(plan: &Plan, rule: Rule, workers: u32) -> Self {
        let workers = workers.max(1);
        let owned = match rule {
            Rule::Contiguous => contiguous(plan, workers),
            Rule::Largest => largest(plan, workers),
        };
        let mut next = 0;
        let mut units = Vec::with_capacity(plan.units().len());
        let mut parts = Vec::new();
        for (owner, owned) in (0..).zip(owned) {
            let start = next;
            for unit in owned {
                units.push(Placed { unit: unit.clone(), first_index: next, owner });
                next += unit.rows;
            }
            let rows = (next > start).then(|| Range { start, end: next - 1 });
            parts.push(Worker { id: owner, rows });
        }
        Self { units, workers: parts, rows: next }
    }

    /// The units in the order of their first indexes.
    pub fn units(&self) -> &[Placed] {
        &self.units
    }

    /// The workers in the order of their ids.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Rows of all units.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

/// Cuts the list of units into pieces, each at the unit's boundary nearest to an equal share; the lower on ties.
fn contiguous(plan: &Plan, workers: u32) -> Vec<Vec<&Unit>> {
    let units = plan.units();
    let boundaries: Vec<u64> = std::iter::once(0)
        .chain(units.iter().scan(0, |sum, unit| {
            *sum += unit.rows;
            Some(*sum)
        }))
        .collect();
    let mut pieces = Vec::new();
    let mut begin = 0;
    for cut in 1..=u128::from(workers) {
        let end = if cut == u128::from(workers) {
            units.len()
        } else {
            nearest(&boundaries, u128::from(plan.rows()) * cut, u128::from(workers)).max(begin)
        };
        pieces.push(units[begin..end].iter().collect());
        begin = end;
    }
    pieces
}

/// The place of the boundary that is nearest to `share / parts`.
fn nearest(boundaries: &[u64], share: u128, parts: u128) -> usize {
    let scaled = |place: usize| u128::from(boundaries[place]) * parts;
    // Boundaries may repeat where units are empty: the first of equals is the lower one.
    let after = boundaries.partition_point(|boundary| u128::from(*boundary) * parts < share);
    let Some(before) = after.checked_sub(1) else { return after };
    if after == boundaries.len() || share - scaled(before) <= scaled(after) - share {
        boundaries.partition_point(|boundary| *boundary < boundaries[before])
    } else {
        after
    }
}

/// Upstream's rule: sorted by rows, descending and stable; each to the worker with the fewest rows, the lowest id on
/// ties. Inside a worker by path, then by row group.
fn largest(plan: &Plan, workers: u32) -> Vec<Vec<&Unit>> {
    let mut sorted: Vec<&Unit> = plan.units().iter().collect();
    sorted.sort_by_key(|unit| std::cmp::Reverse(unit.rows));
    let mut owned: Vec<(u64, Vec<&Unit>)> = (0..workers).map(|_| (0, Vec::new())).collect();
    for unit in sorted {
        if let Some((rows, units)) = owned.iter_mut().min_by_key(|(rows, _)| *rows) {
            *rows += unit.rows;
            units.push(unit);
        }
    }
    owned
        .into_iter()
        .map(|(_, mut units)| {
            units.sort();
            units
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn plan(rows: &[u64]) -> Plan {
        let unit = |(number, rows): (usize, &u64)| Unit {
            path: format!("f{number:03}"),
            row_group: None,
            rows: *rows,
        };
        Plan::new(&Origin::default(), rows.iter().enumerate().map(unit).collect()).unwrap()
    }

    /// Rows of each worker's units, and its range.
    type Part = (Vec<u64>, Option<(u64, u64)>);

    fn parts(rule: Rule, rows: &[u64], workers: u32) -> Vec<Part> {
        let assignment = Assignment::new(&plan(rows), rule, workers);
        let owned = |id| assignment.units().iter().filter(move |placed| placed.owner == id);
        let part = |worker: &Worker| {
            let rows = owned(worker.id).map(|placed| placed.unit.rows).collect();
            (rows, worker.rows.map(|range| (range.start, range.end)))
        };
        assignment.workers().iter().map(part).collect()
    }

    #[test]
    fn upstreams_rule_as_its_examples_have_it() {
        assert_eq!(
            parts(Rule::Largest, &[2000, 1500, 1000, 500], 2),
            [(vec![2000, 500], Some((0, 2499))), (vec![1500, 1000], Some((2500, 4999)))]
        );
        assert_eq!(
            parts(Rule::Largest, &[5, 4, 3], 2),
            [(vec![5], Some((0, 4))), (vec![4, 3], Some((5, 11)))]
        );
        assert_eq!(parts(Rule::Largest, &[7], 3), [(vec![7], Some((0, 6))), (vec![], None), (vec![], None)]);
    }

    #[test]
    fn pieces_are_cut_at_the_nearest_boundary_and_at_the_lower_on_ties() {
        let pieces = |rows, workers| {
            parts(Rule::Contiguous, rows, workers).into_iter().map(|(rows, _)| rows).collect::<Vec<_>>()
        };
        assert_eq!(pieces(&[10, 10, 10, 10], 2), [vec![10, 10], vec![10, 10]]);
        // The share is 15: both boundaries are 5 away.
        assert_eq!(pieces(&[10, 10, 10], 2), [vec![10], vec![10, 10]]);
        assert_eq!(pieces(&[1, 1, 10], 2), [vec![1, 1], vec![10]]);
        // Shares of 2 1/3 and 4 2/3: the nearest boundaries are 0 and 7.
        assert_eq!(pieces(&[7], 3), [vec![], vec![7], vec![]]);
        assert_eq!(pieces(&[], 2), [Vec::<u64>::new(), vec![]]);
    }

    #[test]
    fn an_index_means_the_same_row_for_any_number_of_workers() {
        let rows = [3, 0, 9, 1, 1, 20, 4, 0, 6];
        let indexes = |workers| {
            let assignment = Assignment::new(&plan(&rows), Rule::Contiguous, workers);
            assignment
                .units()
                .iter()
                .map(|placed| (placed.unit.clone(), placed.first_index))
                .collect::<Vec<_>>()
        };
        for workers in 2..12 {
            assert_eq!(indexes(1), indexes(workers));
        }
    }

    #[test]
    fn every_row_has_one_owner_and_pieces_differ_from_a_share_by_at_most_a_unit() {
        let mut random = 7_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..500 {
            let rows: Vec<u64> = (0..draw(20)).map(|_| draw(50)).collect();
            let workers = u32::try_from(draw(9) + 1).unwrap();
            let plan = plan(&rows);
            let largest_unit = rows.iter().max().copied().unwrap_or(0);
            for rule in [Rule::Contiguous, Rule::Largest] {
                let assignment = Assignment::new(&plan, rule, workers);
                let mut next = 0;
                for worker in assignment.workers() {
                    let Some(rows) = worker.rows else { continue };
                    assert_eq!(rows.start, next);
                    next = rows.end + 1;
                    let share = plan.rows() / u64::from(workers);
                    assert!(rows.len() <= share + largest_unit + 1, "{rule:?}");
                }
                assert_eq!(next, plan.rows());
                assert_eq!(assignment.units().len(), plan.units().len());
            }
        }
    }
}
