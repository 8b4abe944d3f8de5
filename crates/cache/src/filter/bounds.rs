//! Whether a filter may select any of some rows, by what is known of them without reading them.

use super::Comparison;
use super::select::{Selector, Step, compare};
use crate::arrow::{Array as _, ArrayRef};

/// What is known of the values that a column has in some rows.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// One value, which none of them is below; null where that is not known.
    pub least: ArrayRef,
    /// One value, which none of them is above; null where that is not known.
    pub greatest: ArrayRef,
    /// How many rows have no value.
    pub nulls: Option<u64>,
    /// How many rows there are.
    pub rows: u64,
}

impl Selector {
    /// Whether any of the rows may be selected. Where nothing is known of a column, they may.
    pub fn may_select(&self, bounds: &dyn Fn(&str) -> Option<Bounds>) -> bool {
        may(self.step(), false, bounds)
    }
}

/// Whether a step, or its opposite, may be true.
fn may(step: &Step, negated: bool, bounds: &dyn Fn(&str) -> Option<Bounds>) -> bool {
    let known = |column: &str, may: &dyn Fn(Bounds) -> bool| bounds(column).is_none_or(may);
    match step {
        Step::Compare(column, comparison, literal) => {
            let comparison = if negated { comparison.opposite() } else { *comparison };
            known(column, &|bounds| bounds.may(comparison, |of, values| compare(of, values, literal)))
        }
        Step::Any(column, _) | Step::IsNull(column) if negated => {
            known(column, &|bounds| bounds.has_values())
        }
        Step::Any(column, literals) => known(column, &|bounds| {
            let is = |literal| bounds.may(Comparison::Equal, |of, values| compare(of, values, literal));
            literals.iter().any(is)
        }),
        Step::IsNull(column) => known(column, &|bounds| bounds.nulls != Some(0)),
        Step::Not(one) => may(one, !negated, bounds),
        Step::And(one, other) if negated => may(one, true, bounds) || may(other, true, bounds),
        Step::Or(one, other) if negated => may(one, true, bounds) && may(other, true, bounds),
        Step::And(one, other) => may(one, false, bounds) && may(other, false, bounds),
        Step::Or(one, other) => may(one, false, bounds) || may(other, false, bounds),
    }
}

impl Bounds {
    fn has_values(&self) -> bool {
        self.nulls != Some(self.rows)
    }

    /// Whether a value may compare so with a literal.
    fn may<E>(
        &self,
        comparison: Comparison,
        compare: impl Fn(Comparison, &ArrayRef) -> Result<crate::arrow::BooleanArray, E>,
    ) -> bool {
        if !self.has_values() {
            return false;
        }
        // Bounds leave out what is no number, which compares as the greatest or the least of all.
        if self.least.data_type().is_floating() {
            return true;
        }
        let holds = |comparison, bound| {
            compare(comparison, bound).map_or(true, |held| held.is_null(0) || held.value(0))
        };
        match comparison {
            Comparison::Equal => {
                holds(Comparison::LessOrEqual, &self.least)
                    && holds(Comparison::GreaterOrEqual, &self.greatest)
            }
            // Long texts have bounds that are cut off: bounds that are equal do not make their values so.
            Comparison::NotEqual => true,
            Comparison::Less | Comparison::LessOrEqual => holds(comparison, &self.least),
            Comparison::Greater | Comparison::GreaterOrEqual => holds(comparison, &self.greatest),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::arrow::{DataType, Field, Int64Array, Schema, StringArray};
    use crate::filter::Filter;

    /// Ten rows: n from 10 to 20, one of them null; s from "b" to "d"; f from 0 to 1; z has no value; u is unknown.
    fn bounds(column: &str) -> Option<Bounds> {
        let of =
            |least: ArrayRef, greatest: ArrayRef, nulls| Some(Bounds { least, greatest, nulls, rows: 10 });
        let number = |value: Option<i64>| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let float = |value: f64| Arc::new(arrow_array::Float64Array::from(vec![value])) as ArrayRef;
        match column {
            "n" => of(number(Some(10)), number(Some(20)), Some(1)),
            "s" => of(text("b"), text("d"), Some(0)),
            "f" => of(float(0.0), float(1.0), Some(0)),
            "z" => of(number(None), number(None), Some(10)),
            _ => None,
        }
    }

    #[test]
    fn rows_are_left_out_only_where_none_can_be_selected() {
        let field = |name: &str, of| Field::new(name, of, true);
        let schema = Schema::new(vec![
            field("n", DataType::Int64),
            field("s", DataType::Utf8),
            field("f", DataType::Float64),
            field("z", DataType::Int64),
            field("u", DataType::Int64),
        ]);
        for (filter, may) in [
            ("n = 9", false),
            ("n = 10", true),
            ("n = 15", true),
            ("n > 20", false),
            ("n >= 20", true),
            ("n < 10", false),
            ("n <= 10", true),
            ("n != 15", true),
            ("not n <= 20", false),
            ("not n < 20", true),
            ("n in (1, 2, 30)", false),
            ("n in (1, 12)", true),
            ("n not in (1, 12)", true),
            ("n is null", true),
            ("n is not null", true),
            ("s is null", false),
            ("not (s is not null)", false),
            ("s < 'b'", false),
            ("s > 'c'", true),
            ("z = 1", false),
            ("z is null", true),
            ("z is not null", false),
            ("z not in (1)", false),
            ("u = 1", true),
            // What is no number is in no bounds.
            ("f > 5", true),
            ("n = 9 or s = 'c'", true),
            ("n = 9 or s = 'x'", false),
            ("n = 12 and s = 'x'", false),
            ("not (n >= 10 and s >= 'b')", false),
            ("not (n > 10 or s > 'x')", true),
            ("not (n >= 10 or s > 'x')", false),
        ] {
            let selector = Selector::new(&Filter::parse(filter).unwrap(), &schema).unwrap();
            assert_eq!(selector.may_select(&bounds), may, "{filter}");
        }
    }
}
