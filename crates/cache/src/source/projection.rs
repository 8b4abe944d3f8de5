//! Which columns, in which order, and as which types.

use std::sync::Arc;

use super::{Error, INDEX_COLUMN};
use crate::arrow::{DataType, Field, RecordBatch, Schema, SchemaRef, cast};

/// A schema with dictionaries replaced by their values, at every depth.
pub(super) fn hydrated(schema: &Schema) -> Schema {
    let fields: Vec<Field> = schema.fields().iter().map(|field| hydrated_field(field)).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

fn hydrated_field(field: &Field) -> Field {
    field.clone().with_data_type(hydrated_type(field.data_type()))
}

fn hydrated_type(data_type: &DataType) -> DataType {
    let inner = |field: &Arc<Field>| Arc::new(hydrated_field(field));
    match data_type {
        DataType::Dictionary(_, value) => hydrated_type(value),
        DataType::List(field) => DataType::List(inner(field)),
        DataType::LargeList(field) => DataType::LargeList(inner(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(inner(field), *size),
        DataType::Map(field, sorted) => DataType::Map(inner(field), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        other => other.clone(),
    }
}

/// The dataset's schema: these columns of a source, in the source's order; all where none are named.
pub(super) fn dataset(source: &Schema, columns: &[String]) -> Result<SchemaRef, Error> {
    if source.fields().iter().any(|field| field.name() == INDEX_COLUMN) {
        return Err(Error::IndexColumn);
    }
    let source = hydrated(source);
    if columns.is_empty() {
        return Ok(Arc::new(source));
    }
    select(&source, columns).map(|places| {
        Arc::new(Schema::new_with_metadata(
            places.iter().map(|place| source.field(*place).clone()).collect::<Vec<_>>(),
            source.metadata().clone(),
        ))
    })
}

/// The places of these columns, in the schema's order; all where none are named.
pub fn select(schema: &Schema, columns: &[String]) -> Result<Vec<usize>, Error> {
    if columns.is_empty() {
        return Ok((0..schema.fields().len()).collect());
    }
    let mut places = Vec::new();
    for name in columns {
        let place = schema.fields().iter().position(|field| field.name() == name);
        places.push(
            place.ok_or_else(|| Error::NoColumn { name: name.clone(), nearest: nearest(schema, name) })?,
        );
    }
    places.sort_unstable();
    Ok(places)
}

/// The column with the most similar name, where one is similar.
fn nearest(schema: &Schema, name: &str) -> Option<String> {
    let names = schema.fields().iter().map(|field| field.name());
    let scored = names.map(|other| (strsim::jaro_winkler(name, other), other));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(score, _)| *score >= 0.8).map(|(_, name)| name.clone())
}

/// A batch in the dataset's schema: its columns by name, cast where they are dictionaries.
pub(super) fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, crate::arrow::ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column(batch.schema_ref().index_of(field.name())?);
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast(column, field.data_type())
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// The first difference of two schemas, their columns' order aside.
pub(super) fn difference(first: &Schema, other: &Schema) -> Option<String> {
    for field in first.fields() {
        match other.field_with_name(field.name()) {
            Err(_) => return Some(format!("it has no column {:?}", field.name())),
            Ok(found) if hydrated_type(found.data_type()) != hydrated_type(field.data_type()) => {
                return Some(format!(
                    "its column {:?} is {} instead of {}",
                    field.name(),
                    found.data_type(),
                    field.data_type()
                ));
            }
            Ok(_) => {}
        }
    }
    let more = other.fields().iter().find(|field| first.field_with_name(field.name()).is_err());
    more.map(|field| format!("it has a column {:?} that the other lacks", field.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect::<Vec<_>>())
    }

    #[test]
    fn dictionaries_become_their_values_at_every_depth() {
        let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let list = DataType::List(Arc::new(Field::new("item", text.clone(), true)));
        let hydrated = hydrated(&schema(&[("a", text), ("b", list)]));
        assert_eq!(hydrated.field(0).data_type(), &DataType::Utf8);
        assert_eq!(
            hydrated.field(1).data_type(),
            &DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
        );
    }

    #[test]
    fn columns_come_in_the_sources_order_and_a_misspelt_one_is_named_with_its_neighbour() {
        let source =
            schema(&[("tokens", DataType::Int64), ("label", DataType::Int64), ("id", DataType::Int64)]);
        let chosen = dataset(&source, &["id".into(), "tokens".into()]).unwrap();
        assert_eq!(
            chosen.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
            ["tokens", "id"]
        );
        let error = dataset(&source, &["labels".into()]).unwrap_err().to_string();
        assert_eq!(error, "no column \"labels\"; did you mean \"label\"?");
        let error = dataset(&source, &["zzz".into()]).unwrap_err().to_string();
        assert_eq!(error, "no column \"zzz\"");
    }

    #[test]
    fn the_reserved_column_is_refused() {
        let error = dataset(&schema(&[(INDEX_COLUMN, DataType::UInt64)]), &[]).unwrap_err();
        assert!(
            error.to_string().starts_with("Source schema already contains a column named 'cache_index'.")
        );
    }

    #[test]
    fn the_first_difference_is_named_and_the_order_is_none() {
        let first = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        assert_eq!(difference(&first, &schema(&[("b", DataType::Utf8), ("a", DataType::Int64)])), None);
        let cases = [
            (schema(&[("a", DataType::Int64)]), "it has no column \"b\""),
            (
                schema(&[("a", DataType::Int32), ("b", DataType::Utf8)]),
                "its column \"a\" is Int32 instead of Int64",
            ),
            (
                schema(&[("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Utf8)]),
                "it has a column \"c\" that the other lacks",
            ),
        ];
        for (other, text) in cases {
            assert_eq!(difference(&first, &other).as_deref(), Some(text));
        }
    }
}
