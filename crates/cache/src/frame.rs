//! Rows as they go over the wire: encoded once, sent by reference.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_flight::utils::flight_data_to_arrow_batch;
use arrow_flight::{FlightData, SchemaAsIpc};
use bytes::Bytes;
use memmap2::MmapMut;

use crate::arrow::{
    Array as _, ArrayRef, ArrowError, CompressionContext, DataType, DictionaryTracker, IpcDataGenerator,
    IpcWriteOptions, RecordBatch, Schema, SchemaRef,
};

/// Most rows of a frame.
const MOST_ROWS: usize = 65_536;

/// Buffers of so many bytes have pages of their own, which the system has back with the buffer. Allocators keep what is
/// freed for what comes next, and with chunks coming and going that was a third of the memory.
const OWN_PAGES: usize = 128 << 10;

/// One message of a stream: consecutive rows, encoded.
#[derive(Clone, Debug)]
pub struct Frame {
    header: Bytes,
    body: Bytes,
    rows: u64,
}

impl Frame {
    /// From what was kept elsewhere.
    pub(crate) fn from_parts(header: Bytes, body: Bytes, rows: u64) -> Self {
        Self { header, body, rows }
    }

    /// Header and body of the message.
    pub(crate) fn parts(&self) -> (&Bytes, &Bytes) {
        (&self.header, &self.body)
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the message.
    pub fn size(&self) -> usize {
        self.header.len() + self.body.len()
    }

    /// The message, its bytes shared.
    pub fn message(&self, metadata: Bytes) -> FlightData {
        FlightData {
            flight_descriptor: None,
            data_header: self.header.clone(),
            app_metadata: metadata,
            data_body: self.body.clone(),
        }
    }

    /// The rows again; buffers are shared with the frame.
    pub fn decode(&self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        flight_data_to_arrow_batch(&self.message(Bytes::new()), Arc::clone(schema), &HashMap::new())
    }
}

/// The first message of a stream.
pub fn schema_message(schema: &Schema) -> FlightData {
    SchemaAsIpc::new(schema, &IpcWriteOptions::default()).into()
}

/// Encodes a batch as frames of at most so many bytes; a single row may be larger.
pub fn encode(batch: &RecordBatch, most_bytes: usize) -> Result<Vec<Frame>, ArrowError> {
    let mut frames = Vec::new();
    let mut first = 0;
    while first < batch.num_rows() {
        let rows = fitting(&batch.slice(first, MOST_ROWS.min(batch.num_rows() - first)), most_bytes);
        split(&batch.slice(first, rows), most_bytes, &mut frames)?;
        first += rows;
    }
    Ok(frames)
}

/// How many of the first rows fit into a frame, about: what is encoded only to be seen too large is encoded twice.
fn fitting(batch: &RecordBatch, most_bytes: usize) -> usize {
    if !batch.schema().fields().iter().all(|field| is_sliced(field.data_type())) {
        return batch.num_rows();
    }
    let column = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
    let bytes: usize = batch.columns().iter().map(column).sum();
    // Buffers are padded, and a frame says where they are.
    let parts = (bytes + bytes / 64).div_ceil(most_bytes.max(1)).max(1);
    batch.num_rows().div_ceil(parts)
}

/// Whether a slice of an array has slices of all that is in it. Those of lists keep all values.
fn is_sliced(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => fields.iter().all(|field| is_sliced(field.data_type())),
        DataType::FixedSizeList(item, _) => is_sliced(item.data_type()),
        kind => !kind.is_nested(),
    }
}

fn split(batch: &RecordBatch, most_bytes: usize, frames: &mut Vec<Frame>) -> Result<(), ArrowError> {
    let frame = encode_one(batch)?;
    if frame.size() <= most_bytes || batch.num_rows() == 1 {
        frames.push(frame);
        return Ok(());
    }
    let parts = frame.size().div_ceil(most_bytes).min(batch.num_rows());
    let each = batch.num_rows().div_ceil(parts);
    drop(frame);
    let mut first = 0;
    while first < batch.num_rows() {
        let rows = each.min(batch.num_rows() - first);
        split(&batch.slice(first, rows), most_bytes, frames)?;
        first += rows;
    }
    Ok(())
}

/// Encodes a batch as one frame, whatever its size.
pub fn encode_one(batch: &RecordBatch) -> Result<Frame, ArrowError> {
    let mut tracker = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let (_, encoded) = IpcDataGenerator::default().encode(
        batch,
        &mut tracker,
        &options,
        &mut CompressionContext::default(),
    )?;
    Ok(Frame {
        header: exact(&encoded.ipc_message),
        body: exact(&encoded.arrow_data),
        rows: batch.num_rows() as u64,
    })
}

/// The same bytes in just as much memory. The encoder's vector has grown by doubling, and would be kept with all the room
/// that it has; allocators do not take back less than half of a block when it is made smaller.
fn exact(bytes: &[u8]) -> Bytes {
    if bytes.len() >= OWN_PAGES
        && let Ok(mut pages) = MmapMut::map_anon(bytes.len())
    {
        pages.copy_from_slice(bytes);
        return Bytes::from_owner(pages);
    }
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrow::{Field, Int32Array, ListArray, StringArray, UInt64Array, types::Int32Type};

    fn batch(rows: u64) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("number", DataType::UInt64, false),
            Field::new("text", DataType::Utf8, true),
        ]);
        let text = (0..rows).map(|row| (row % 3 > 0).then(|| "x".repeat(usize::try_from(row % 50).unwrap())));
        RecordBatch::try_new(
            Arc::new(schema),
            vec![Arc::new(UInt64Array::from_iter_values(0..rows)), Arc::new(text.collect::<StringArray>())],
        )
        .unwrap()
    }

    #[test]
    fn frames_are_small_enough_and_hold_every_row_in_order() {
        let whole = batch(10_000);
        let frames = encode(&whole, 16 << 10).unwrap();
        assert!(frames.len() > 10);
        assert!(frames.iter().all(|frame| frame.size() <= 16 << 10));
        let decoded: Vec<_> = frames.iter().map(|frame| frame.decode(&whole.schema()).unwrap()).collect();
        assert_eq!(crate::arrow::concat_batches(&whole.schema(), &decoded).unwrap(), whole);
        assert_eq!(frames.iter().map(Frame::rows).sum::<u64>(), 10_000);
    }

    #[test]
    fn what_fits_into_a_frame_is_known_before_it_is_encoded() {
        let whole = batch(10_000);
        for (first, rows) in [(0, 10_000), (9_000, 1_000), (17, 5_000)] {
            let slice = whole.slice(first, rows);
            let fitting = fitting(&slice, 16 << 10);
            let size = encode_one(&slice.slice(0, fitting)).unwrap().size();
            assert!((12 << 10..=16 << 10).contains(&size), "{size} bytes of {fitting} rows");
        }
        let lists =
            ListArray::from_iter_primitive::<Int32Type, _, _>((0..900).map(|row| Some(vec![Some(row); 9])));
        let numbers = Int32Array::from_iter_values(0..900);
        let columns: [(&str, ArrayRef); 2] = [("l", Arc::new(lists)), ("n", Arc::new(numbers))];
        let lists = RecordBatch::try_from_iter(columns).unwrap();
        let frames = encode(&lists, 8 << 10).unwrap();
        assert!(frames.len() < 15 && frames.iter().all(|frame| frame.size() <= 8 << 10), "{}", frames.len());
    }

    #[test]
    fn a_frame_takes_no_more_memory_than_it_says() {
        for rows in [1, 700, 1100, 10_000, 30_000] {
            let Frame { header, body, .. } = encode_one(&batch(rows)).unwrap();
            for bytes in [header, body] {
                let length = bytes.len();
                match bytes.try_into_mut() {
                    Ok(bytes) => assert_eq!(bytes.capacity(), length, "{rows} rows"),
                    // Pages of its own, of the length that was asked for.
                    Err(_) => assert!(length >= OWN_PAGES, "{rows} rows"),
                }
            }
        }
    }

    #[test]
    fn a_row_that_is_larger_than_a_frame_is_a_frame_by_itself() {
        let frames = encode(&batch(3), 1).unwrap();
        assert_eq!(frames.iter().map(Frame::rows).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(encode(&batch(0), 1).unwrap().is_empty());
    }
}
