//! What the footer of a Parquet file knows of the values of a row group.

use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;

use super::filtered::Filtered;
use crate::arrow::{ArrayRef, DataType, Schema, cast};
use crate::filter::Bounds;

/// Whether the filter may select rows of a row group; `schema` is that of the whole file.
pub(super) fn may_select(
    filtered: &Filtered,
    schema: &Schema,
    footer: &ParquetMetaData,
    group: usize,
) -> bool {
    filtered.selector.may_select(&|column| bounds(schema, footer, group, column))
}

/// Which row groups of an Iceberg data file the filter may select rows of. Columns are found by their field ids: the file
/// may have another name and a narrower type for them. A file without field ids tells nothing.
pub(super) fn selected_groups(
    filtered: &Filtered,
    ids: &[(String, i32)],
    footer: &ParquetMetaData,
) -> Vec<bool> {
    let description = footer.file_metadata().schema_descr();
    let schema = parquet_to_arrow_schema(description, footer.file_metadata().key_value_metadata());
    let Ok(schema) = schema else { return vec![true; footer.num_row_groups()] };
    let name_in_file = |column: &str| {
        let (_, id) = ids.iter().find(|(name, _)| name == column)?;
        let mut fields = description.root_schema().get_fields().iter().map(|field| field.get_basic_info());
        let field = fields.find(|field| field.has_id() && field.id() == *id)?;
        Some(field.name().to_owned())
    };
    let of_table = |group: usize, column: &str| -> Option<Bounds> {
        let kind = filtered.own.field_with_name(column).ok()?.data_type();
        bounds(&schema, footer, group, &name_in_file(column)?)?.cast(kind)
    };
    (0..footer.num_row_groups())
        .map(|group| filtered.selector.may_select(&|column| of_table(group, column)))
        .collect()
}

impl Bounds {
    /// The same bounds in the type that the table has for the column. Iceberg promotes types only to wider ones.
    fn cast(self, kind: &DataType) -> Option<Self> {
        let cast = |bound: &ArrayRef| cast(bound, kind).ok();
        Some(Self { least: cast(&self.least)?, greatest: cast(&self.greatest)?, ..self })
    }
}

fn bounds(schema: &Schema, footer: &ParquetMetaData, group: usize, column: &str) -> Option<Bounds> {
    let group = footer.row_groups().get(group)?;
    let converter =
        StatisticsConverter::try_new(column, schema, footer.file_metadata().schema_descr()).ok()?;
    let converter = converter.with_missing_null_counts_as_zero(false);
    let statistics = group.column(converter.parquet_column_index()?).statistics()?;
    // Old writers compared texts as signed bytes.
    if statistics.is_min_max_deprecated() {
        return None;
    }
    Some(Bounds {
        least: converter.row_group_mins([group]).ok()?,
        greatest: converter.row_group_maxes([group]).ok()?,
        nulls: converter.row_group_null_counts([group]).ok()?.iter().next().flatten(),
        rows: u64::try_from(group.num_rows()).ok()?,
    })
}
