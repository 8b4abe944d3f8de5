//! Filters in the form of the Iceberg library, which leaves out data files by what the manifests know of them.
//!
//! What is handed on selects at least the rows of the filter: a part that has no such form is left out of it.

use arrow_array::Datum as _;
use iceberg::expr::{Predicate, Reference};
use iceberg::spec::Datum;

use crate::arrow::{AsArray as _, DataType, Schema, types};
use crate::filter::{Comparison, Filter, Literal, scalar};

/// The filter, or a wider one; nothing where it has no such form.
pub(super) fn predicate(filter: &Filter, schema: &Schema) -> Option<Predicate> {
    of(filter, false, schema)
}

/// Of a filter or its opposite.
fn of(filter: &Filter, negated: bool, schema: &Schema) -> Option<Predicate> {
    match (filter, negated) {
        (Filter::Compare(column, comparison, literal), _) => {
            let value = datum(column, literal, schema)?;
            let comparison = if negated { comparison.opposite() } else { *comparison };
            let column = reference(column)?;
            Some(match comparison {
                Comparison::Equal => column.equal_to(value),
                Comparison::Less => column.less_than(value),
                Comparison::LessOrEqual => column.less_than_or_equal_to(value),
                Comparison::Greater => column.greater_than(value),
                Comparison::GreaterOrEqual => column.greater_than_or_equal_to(value),
                // Bounds never tell that no value is another one.
                Comparison::NotEqual => return None,
            })
        }
        (Filter::In(column, literals), false) => {
            let values: Option<Vec<Datum>> =
                literals.iter().map(|literal| datum(column, literal, schema)).collect();
            Some(reference(column)?.is_in(values?))
        }
        (Filter::In(..), true) => None,
        (Filter::IsNull(column), false) => Some(reference(column)?.is_null()),
        (Filter::IsNull(column), true) => Some(reference(column)?.is_not_null()),
        (Filter::Not(one), _) => of(one, !negated, schema),
        (Filter::And(one, other), false) | (Filter::Or(one, other), true) => {
            match (of(one, negated, schema), of(other, negated, schema)) {
                (Some(one), Some(other)) => Some(one.and(other)),
                (one, other) => one.or(other),
            }
        }
        (Filter::Or(one, other), false) | (Filter::And(one, other), true) => {
            Some(of(one, negated, schema)?.or(of(other, negated, schema)?))
        }
    }
}

/// A column; to the library, dots lead into others.
fn reference(column: &str) -> Option<Reference> {
    (!column.contains('.')).then(|| Reference::new(column.to_owned()))
}

/// A literal of its column's type. Not of floats: what is no number is in no bounds, and selected by some comparisons.
fn datum(column: &str, literal: &Literal, schema: &Schema) -> Option<Datum> {
    let value = scalar(column, literal, schema).ok()?;
    let (value, _) = value.get();
    Some(match value.data_type() {
        DataType::Int32 => Datum::int(value.as_primitive::<types::Int32Type>().value(0)),
        DataType::Int64 => Datum::long(value.as_primitive::<types::Int64Type>().value(0)),
        DataType::Date32 => Datum::date(value.as_primitive::<types::Date32Type>().value(0)),
        DataType::Utf8 => Datum::string(value.as_string::<i32>().value(0)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrow::Field;

    #[test]
    fn what_is_handed_on_is_as_narrow_as_it_can_be_and_never_narrower() {
        let field = |name: &str, of| Field::new(name, of, true);
        let schema = Schema::new(vec![
            field("n", DataType::Int64),
            field("s", DataType::Utf8),
            field("f", DataType::Float64),
            field("d", DataType::Date32),
        ]);
        for (filter, handed) in [
            ("n > 1", Some("n > 1")),
            ("not n > 1", Some("n <= 1")),
            ("n != 1", None),
            ("s in ('a', 'b') and d < date '2026-01-02'", Some("(s IN (\"b\", \"a\")) AND (d < 2026-01-02)")),
            ("n = 1 and f > 0.5", Some("n = 1")),
            ("n = 1 or f > 0.5", None),
            ("not (n = 1 or f > 0.5)", None),
            ("not (n >= 1 or f > 0.5)", Some("n < 1")),
            ("not (n >= 1 and s is null)", Some("(n < 1) OR (s IS NOT NULL)")),
            ("s is null", Some("s IS NULL")),
            ("n not in (1)", None),
        ] {
            let found = predicate(&Filter::parse(filter).unwrap(), &schema).map(|found| found.to_string());
            // The library keeps sets without an order.
            let found = found.map(|text| text.replace("(\"a\", \"b\")", "(\"b\", \"a\")"));
            assert_eq!(found.as_deref(), handed, "{filter}");
        }
    }
}
