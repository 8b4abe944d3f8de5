//! Rows gathered into batches of an exact size.

use crate::arrow::{ArrowError, RecordBatch, SchemaRef, concat_batches, interleave_record_batch};

/// Runs of rows that are shorter than this on average are taken one by one instead of being joined.
const SHORT: usize = 16;

/// Consecutive rows of one decoded frame.
#[derive(Debug)]
struct Run {
    /// Place of the frame among the sources.
    source: usize,
    first: usize,
    rows: usize,
}

/// Gathers rows of decoded frames, in order.
#[derive(Debug)]
pub struct Rebatch {
    schema: SchemaRef,
    rows: usize,
    /// Frames that rows are held of, each once.
    sources: Vec<(u64, RecordBatch)>,
    held: Vec<Run>,
    count: usize,
}

impl Rebatch {
    /// Into batches of so many rows, at least one.
    pub fn new(schema: SchemaRef, rows: u64) -> Self {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
        Self { schema, rows, sources: Vec::new(), held: Vec::new(), count: 0 }
    }

    /// Adds rows of a frame, which `key` tells from others; the batches that are complete.
    pub fn push(
        &mut self,
        key: u64,
        frame: &RecordBatch,
        mut first: usize,
        mut rows: usize,
    ) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut complete = Vec::new();
        while rows > 0 {
            let taken = rows.min(self.rows - self.count);
            let source = self.source(key, frame);
            self.held.push(Run { source, first, rows: taken });
            self.count += taken;
            (first, rows) = (first + taken, rows - taken);
            if self.count == self.rows {
                complete.push(self.take()?);
            }
        }
        Ok(complete)
    }

    /// The rows that are left, where there are any.
    pub fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.count == 0 { Ok(None) } else { self.take().map(Some) }
    }

    fn source(&mut self, key: u64, frame: &RecordBatch) -> usize {
        if let Some(place) = self.sources.iter().rposition(|(other, _)| *other == key) {
            return place;
        }
        self.sources.push((key, frame.clone()));
        self.sources.len() - 1
    }

    fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let sources: Vec<&RecordBatch> = self.sources.iter().map(|(_, frame)| frame).collect();
        let batch = if self.held.len() * SHORT > self.count {
            let places = self
                .held
                .iter()
                .flat_map(|run| (run.first..run.first + run.rows).map(|row| (run.source, row)));
            interleave_record_batch(&sources, &places.collect::<Vec<_>>())?
        } else {
            let parts = self.held.iter().map(|run| sources[run.source].slice(run.first, run.rows));
            concat_batches(&self.schema, &parts.collect::<Vec<_>>())?
        };
        self.sources.clear();
        self.held.clear();
        self.count = 0;
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::arrow::{DataType, Field, Schema, UInt64Array};

    fn batch(values: impl IntoIterator<Item = u64>) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::UInt64, false)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(UInt64Array::from_iter_values(values))]).unwrap()
    }

    #[test]
    fn batches_have_the_exact_size_but_the_last() {
        let frame = batch(0..100);
        let mut rebatch = Rebatch::new(frame.schema(), 7);
        let mut batches = Vec::new();
        for (first, rows) in [(0, 3), (3, 17), (20, 0), (20, 7)] {
            batches.extend(rebatch.push(1, &frame, first, rows).unwrap());
        }
        batches.extend(rebatch.flush().unwrap());
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [7, 7, 7, 6]);
        assert_eq!(concat_batches(&frame.schema(), &batches).unwrap(), batch(0..27));
    }

    #[test]
    fn single_rows_of_several_frames_keep_their_order() {
        let (one, other) = (batch(0..10), batch(10..20));
        let mut rebatch = Rebatch::new(one.schema(), 5);
        let mut batches = Vec::new();
        for row in [19, 0, 5, 12, 3, 11, 7] {
            let (key, frame) = if row < 10 { (0, &one) } else { (1, &other) };
            batches.extend(rebatch.push(key, frame, row % 10, 1).unwrap());
        }
        batches.extend(rebatch.flush().unwrap());
        assert_eq!(batches, [batch([19, 0, 5, 12, 3]), batch([11, 7])]);
    }
}
