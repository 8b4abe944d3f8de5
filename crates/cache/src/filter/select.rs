//! Applies filters to rows.

use std::sync::Arc;

use arrow_arith::boolean::{and_kleene, is_null, not, or_kleene};
use arrow_array::{Datum, Scalar};
use arrow_ord::cmp;
use arrow_select::filter::filter_record_batch;

use super::{Comparison, Error, Filter, Literal};
use crate::arrow::{ArrayRef, ArrowError, BooleanArray, DataType, RecordBatch, Schema, StringArray, cast};

/// A filter with literals of its columns' types.
#[derive(Clone, Debug)]
pub struct Selector {
    step: Arc<Step>,
}

#[derive(Debug)]
pub(super) enum Step {
    Compare(String, Comparison, Scalar<ArrayRef>),
    Any(String, Vec<Scalar<ArrayRef>>),
    IsNull(String),
    Not(Box<Step>),
    And(Box<Step>, Box<Step>),
    Or(Box<Step>, Box<Step>),
}

impl Selector {
    /// For rows of a schema, which has all columns of the filter.
    pub fn new(filter: &Filter, schema: &Schema) -> Result<Self, Error> {
        Ok(Self { step: Arc::new(step(filter, schema)?) })
    }

    /// The rows that are selected.
    pub fn select(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        // What is unknown is not selected.
        filter_record_batch(batch, &self.mask(batch)?)
    }

    /// Which rows are selected: true, as false and unknown are not.
    pub fn mask(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        self.step.evaluate(batch)
    }

    pub(super) fn step(&self) -> &Step {
        &self.step
    }
}

fn step(filter: &Filter, schema: &Schema) -> Result<Step, Error> {
    let inner = |filter: &Filter| step(filter, schema).map(Box::new);
    Ok(match filter {
        Filter::Compare(column, comparison, literal) => {
            Step::Compare(column.clone(), *comparison, scalar(column, literal, schema)?)
        }
        Filter::In(column, literals) => {
            let literals = literals.iter().map(|literal| scalar(column, literal, schema));
            Step::Any(column.clone(), literals.collect::<Result<_, _>>()?)
        }
        Filter::IsNull(column) => Step::IsNull(column.clone()),
        Filter::Not(one) => Step::Not(inner(one)?),
        Filter::And(one, other) => Step::And(inner(one)?, inner(other)?),
        Filter::Or(one, other) => Step::Or(inner(one)?, inner(other)?),
    })
}

/// The literal as a value of the column's type; an error where the type has no such value.
pub(crate) fn scalar(column: &str, literal: &Literal, schema: &Schema) -> Result<Scalar<ArrayRef>, Error> {
    let of = schema.field_with_name(column).map_or(&DataType::Null, |field| field.data_type());
    let wrong =
        || Error::Type { column: column.to_owned(), of: of.to_string(), literal: literal.to_string() };
    let is_text = matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let array: ArrayRef = match literal {
        Literal::Number(text) if of.is_numeric() => Arc::new(StringArray::from(vec![text.as_str()])),
        Literal::Text(text) if is_text => Arc::new(StringArray::from(vec![text.as_str()])),
        Literal::Boolean(value) if *of == DataType::Boolean => Arc::new(BooleanArray::from(vec![*value])),
        Literal::Date(text) if matches!(of, DataType::Date32 | DataType::Date64) => {
            Arc::new(StringArray::from(vec![text.as_str()]))
        }
        Literal::Timestamp(text) if matches!(of, DataType::Timestamp(..)) => {
            Arc::new(StringArray::from(vec![text.as_str()]))
        }
        _ => return Err(wrong()),
    };
    // What cannot be cast becomes null: a number out of the type's bounds, a day that no calendar has.
    let array = cast(&array, of).map_err(|_| wrong())?;
    if array.is_null(0) {
        return Err(wrong());
    }
    Ok(Scalar::new(array))
}

impl Step {
    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let values = |column: &str| -> Result<&ArrayRef, ArrowError> {
            Ok(batch.column(batch.schema_ref().index_of(column)?))
        };
        match self {
            Self::Compare(column, comparison, literal) => compare(*comparison, values(column)?, literal),
            Self::Any(column, literals) => {
                let values = values(column)?;
                let mut any = BooleanArray::from(vec![false; batch.num_rows()]);
                for literal in literals {
                    any = or_kleene(&any, &compare(Comparison::Equal, values, literal)?)?;
                }
                Ok(any)
            }
            Self::IsNull(column) => is_null(values(column)?),
            Self::Not(one) => not(&one.evaluate(batch)?),
            Self::And(one, other) => and_kleene(&one.evaluate(batch)?, &other.evaluate(batch)?),
            Self::Or(one, other) => or_kleene(&one.evaluate(batch)?, &other.evaluate(batch)?),
        }
    }
}

pub(super) fn compare(
    comparison: Comparison,
    values: &ArrayRef,
    literal: &Scalar<ArrayRef>,
) -> Result<BooleanArray, ArrowError> {
    let values: &dyn Datum = values;
    match comparison {
        Comparison::Equal => cmp::eq(values, literal),
        Comparison::NotEqual => cmp::neq(values, literal),
        Comparison::Less => cmp::lt(values, literal),
        Comparison::LessOrEqual => cmp::lt_eq(values, literal),
        Comparison::Greater => cmp::gt(values, literal),
        Comparison::GreaterOrEqual => cmp::gt_eq(values, literal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrow::{Array as _, Field, Int64Array, types::Date32Type};

    fn batch() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("d", DataType::Date32, true),
            Field::new("b", DataType::Boolean, true),
        ]);
        let dates =
            arrow_array::PrimitiveArray::<Date32Type>::from(vec![Some(0), Some(1), Some(20_454), None]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), Some(2), None, Some(4)])),
                Arc::new(StringArray::from(vec![Some("a"), Some("it's"), Some("c"), None])),
                Arc::new(dates),
                Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true)])),
            ],
        )
        .unwrap()
    }

    /// The places of the rows that are selected.
    fn selected(filter: &str) -> Vec<usize> {
        let batch = batch();
        let filter = Filter::parse(filter).unwrap();
        let selector = Selector::new(&filter, batch.schema_ref()).unwrap();
        let mask = selector.step.evaluate(&batch).unwrap();
        assert_eq!(selector.select(&batch).unwrap().num_rows(), mask.true_count());
        (0..4).filter(|place| mask.is_valid(*place) && mask.value(*place)).collect()
    }

    #[test]
    fn rows_are_selected_with_three_valued_logic() {
        for (filter, places) in [
            ("n > 1", &[1, 3][..]),
            ("not n > 1", &[0]),
            ("n != 2", &[0, 3]),
            ("n in (1, 4)", &[0, 3]),
            ("n not in (1, 4)", &[1]),
            ("n is null", &[2]),
            ("n is not null and n <= 2", &[0, 1]),
            ("n = 1 or s = 'c'", &[0, 2]),
            // Unknown or true is true; unknown and true is unknown.
            ("n > 3 or n is null", &[2, 3]),
            ("s = 'it''s'", &[1]),
            ("d >= date '1970-01-02'", &[1, 2]),
            ("b = true and s is null", &[3]),
            ("n = 1 and not (n = 1)", &[]),
        ] {
            assert_eq!(selected(filter), places, "{filter}");
        }
    }

    #[test]
    fn a_literal_is_of_its_columns_type() {
        let batch = batch();
        for (filter, text) in [
            ("n = 'a'", "the column \"n\" is Int64, and 'a' is no such value"),
            ("n = 1.5", "the column \"n\" is Int64, and 1.5 is no such value"),
            (
                "n = 99999999999999999999",
                "the column \"n\" is Int64, and 99999999999999999999 is no such value",
            ),
            ("s = 1", "the column \"s\" is Utf8, and 1 is no such value"),
            ("d = date '2026-02-30'", "the column \"d\" is Date32, and date '2026-02-30' is no such value"),
            ("b in (true, 1)", "the column \"b\" is Boolean, and 1 is no such value"),
        ] {
            let filter = Filter::parse(filter).unwrap();
            assert_eq!(Selector::new(&filter, batch.schema_ref()).unwrap_err().to_string(), text);
        }
    }
}
