//! The table that is served: columns of several kinds, as trainings have them.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::error::{Error, step};

/// Numbers in a row's list.
const TOKENS: usize = 64;
/// Rows of a row group.
const GROUP: usize = 65_536;
/// Bytes of a row as it is in memory, about: a number, a measure, the tokens, a text.
const ROW: u64 = 8 + 8 + 4 * 64 + 36;
/// Files of a table.
const FILES: u64 = 8;

/// Writes a table of about so many bytes, as they are in memory, in Parquet files.
pub(crate) fn write(folder: &Path, bytes: u64) -> Result<(), Error> {
    let rows = usize::try_from(bytes / ROW / FILES).unwrap_or(usize::MAX).max(1);
    for file in 0..FILES {
        let path = folder.join(format!("part-{file}.parquet"));
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP)).build();
        let target = std::fs::File::create(&path).map_err(step("create a file of the table"))?;
        let mut writer = ArrowWriter::try_new(target, batch(0, 0).schema(), Some(properties))
            .map_err(step("write the table"))?;
        let mut written = 0;
        while written < rows {
            let next = GROUP.min(rows - written);
            let first = file * rows as u64 + written as u64;
            writer.write(&batch(first, next)).map_err(step("write the table"))?;
            written += next;
        }
        writer.close().map_err(step("write the table"))?;
    }
    Ok(())
}

fn batch(first: u64, rows: usize) -> RecordBatch {
    let mut random = fastrand::Rng::with_seed(first);
    let ids = (0..rows)
        .map(|row| i64::try_from(first).unwrap_or_default() + i64::try_from(row).unwrap_or_default());
    let tokens: PrimitiveArray<Int32Type> =
        PrimitiveArray::from_iter_values((0..rows * TOKENS).map(|_| random.i32(0..50_000)));
    let item = Arc::new(Field::new("item", DataType::Int32, false));
    let width = i32::try_from(TOKENS).unwrap_or(i32::MAX);
    let tokens = FixedSizeListArray::new(Arc::clone(&item), width, Arc::new(tokens), None);
    let texts: StringArray = (0..rows).map(|_| Some(format!("{:032x}", random.u128(..)))).collect();
    let measures: Float64Array = (0..rows).map(|_| Some(random.f64())).collect();
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("measure", DataType::Float64, true),
        Field::new("tokens", DataType::FixedSizeList(item, width), false),
        Field::new("text", DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(measures),
        Arc::new(tokens),
        Arc::new(texts),
    ];
    // The columns are those of the schema, of one length.
    RecordBatch::try_new(Arc::new(schema), columns)
        .unwrap_or_else(|_| RecordBatch::new_empty(Arc::new(Schema::empty())))
}
