//! What the footer of a Parquet file knows of the values of a row group.

use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;

use super::filtered::Filtered;
use crate::arrow::Schema;
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
