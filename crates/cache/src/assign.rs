//! What a head tells a worker, in both forms.

use std::sync::Arc;

use arrow_flight::FlightData;
use arrow_flight::FlightDescriptor;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::arrow::{
    Array, ArrayRef, AsArray as _, DataType, Field, Int64Array, ListArray, RecordBatch, Schema, StringArray,
    StringViewArray, UInt32Array, UInt64Array, cast, types,
};
use crate::plan::{Placed, Unit};

/// Rows of a message that carries units.
const UNITS_A_MESSAGE: usize = 8192;

/// An assignment that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream ended before it said anything.
    #[error("the assignment is empty")]
    Empty,
    /// What the first message says of the plan.
    #[error("failed to read the head of the assignment")]
    Header(#[source] serde_json::Error),
    /// A column that is missing or of another type.
    #[error("the assignment's column {0:?} is missing or not what it must be")]
    Column(&'static str),
    /// The stream itself.
    #[error("failed to read the assignment")]
    Stream(#[source] Box<FlightError>),
}

/// What the first message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Version of the form.
    pub version: u32,
    /// The plan.
    pub plan_id: String,
    /// Which division of it: the number of workers.
    pub workers: u32,
    /// The worker that this is for.
    pub worker: u32,
    /// The snapshot of the table that the plan is of: a catalog may have a newer one by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<i64>,
}

/// What a worker is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// The whole plan: a worker can serve any row of it.
    Plan {
        /// Which plan, and which worker this is.
        header: Header,
        /// All units, in the order of their first indexes, each with its number in the plan.
        units: Vec<(u32, Placed)>,
    },
    /// Upstream's form: some files, and the range of rows that they are.
    Files {
        /// The worker that this is for.
        worker: u64,
        /// First row.
        start: u64,
        /// Last row.
        end: u64,
        /// The files.
        paths: Vec<String>,
    },
}

impl Assignment {
    /// As messages to a worker.
    pub async fn messages(self) -> Result<Vec<FlightData>, Error> {
        let (batches, descriptor, metadata) = match self {
            Self::Plan { header, units } => {
                let metadata = serde_json::to_vec(&header).map_err(Error::Header)?;
                let batches = units.chunks(UNITS_A_MESSAGE).map(plan_batch).collect::<Result<Vec<_>, _>>()?;
                let path = vec!["plan".to_owned(), "1".to_owned()];
                (batches, Some(FlightDescriptor::new_path(path)), Bytes::from(metadata))
            }
            Self::Files { worker, start, end, paths } => {
                (vec![files_batch(worker, start, end, &paths)?], None, Bytes::new())
            }
        };
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(batches.first().map_or_else(|| Arc::new(plan_schema()), RecordBatch::schema))
            .with_flight_descriptor(descriptor)
            .with_metadata(metadata)
            .build(stream::iter(batches.into_iter().map(Ok)));
        encoded.try_collect().await.map_err(|error| Error::Stream(Box::new(error)))
    }

    /// From a head's messages.
    pub async fn read(
        mut messages: impl futures::Stream<Item = Result<FlightData, FlightError>> + Send + Unpin + 'static,
    ) -> Result<Self, Error> {
        let failed = |error: FlightError| Error::Stream(Box::new(error));
        let first = messages.try_next().await.map_err(failed)?.ok_or(Error::Empty)?;
        let path =
            first.flight_descriptor.as_ref().map(|descriptor| descriptor.path.clone()).unwrap_or_default();
        let is_plan = path.first().is_some_and(|name| name == "plan");
        let metadata = first.app_metadata.clone();
        let all = stream::once(std::future::ready(Ok(first))).chain(messages);
        let batches: Vec<RecordBatch> =
            FlightRecordBatchStream::new_from_flight_data(all).try_collect().await.map_err(failed)?;
        if is_plan {
            let header = serde_json::from_slice(&metadata).map_err(Error::Header)?;
            let mut units = Vec::new();
            for batch in &batches {
                read_plan(batch, &mut units)?;
            }
            return Ok(Self::Plan { header, units });
        }
        let batch = batches.iter().find(|batch| batch.num_rows() > 0).ok_or(Error::Empty)?;
        read_files(batch)
    }
}

fn plan_schema() -> Schema {
    Schema::new(vec![
        Field::new("unit", DataType::UInt32, false),
        Field::new("path", DataType::Utf8, false),
        Field::new("row_group", DataType::Int64, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("first_index", DataType::UInt64, false),
        Field::new("owner", DataType::UInt32, false),
    ])
}

/// One row a unit; a whole file has the row group −1.
fn plan_batch(units: &[(u32, Placed)]) -> Result<RecordBatch, Error> {
    let placed = || units.iter().map(|(_, placed)| placed);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from_iter_values(units.iter().map(|(number, _)| *number))),
        Arc::new(StringArray::from_iter_values(placed().map(|placed| &placed.unit.path))),
        Arc::new(Int64Array::from_iter_values(
            placed().map(|placed| placed.unit.row_group.map_or(-1, i64::from)),
        )),
        Arc::new(UInt64Array::from_iter_values(placed().map(|placed| placed.unit.rows))),
        Arc::new(UInt64Array::from_iter_values(placed().map(|placed| placed.first_index))),
        Arc::new(UInt32Array::from_iter_values(placed().map(|placed| placed.owner))),
    ];
    RecordBatch::try_new(Arc::new(plan_schema()), columns)
        .map_err(|error| Error::Stream(Box::new(error.into())))
}

fn read_plan(batch: &RecordBatch, units: &mut Vec<(u32, Placed)>) -> Result<(), Error> {
    let column = |name: &'static str, of: &DataType| {
        let column = batch.column_by_name(name).filter(|column| column.null_count() == 0);
        column.and_then(|column| cast(column, of).ok()).ok_or(Error::Column(name))
    };
    let (number, owner) = (column("unit", &DataType::UInt32)?, column("owner", &DataType::UInt32)?);
    let (number, owner) =
        (number.as_primitive::<types::UInt32Type>(), owner.as_primitive::<types::UInt32Type>());
    let (rows, first) = (column("rows", &DataType::UInt64)?, column("first_index", &DataType::UInt64)?);
    let (rows, first) = (rows.as_primitive::<types::UInt64Type>(), first.as_primitive::<types::UInt64Type>());
    let (path, group) = (column("path", &DataType::Utf8)?, column("row_group", &DataType::Int64)?);
    let (path, group) = (path.as_string::<i32>(), group.as_primitive::<types::Int64Type>());
    for row in 0..batch.num_rows() {
        let unit = Unit {
            path: path.value(row).to_owned(),
            row_group: u32::try_from(group.value(row)).ok(),
            rows: rows.value(row),
        };
        let placed = Placed { unit, first_index: first.value(row), owner: owner.value(row) };
        units.push((number.value(row), placed));
    }
    Ok(())
}

/// Upstream's form: one row; its paths are a list of string views.
fn files_batch(worker: u64, start: u64, end: u64, paths: &[String]) -> Result<RecordBatch, Error> {
    let number = |number| Arc::new(UInt64Array::from(vec![number])) as ArrayRef;
    let item = Arc::new(Field::new("item", DataType::Utf8View, true));
    let offsets = arrow_buffer::OffsetBuffer::from_lengths([paths.len()]);
    let list =
        ListArray::new(Arc::clone(&item), offsets, Arc::new(StringViewArray::from_iter_values(paths)), None);
    let schema = Schema::new(vec![
        Field::new("worker_ids", DataType::UInt64, false),
        Field::new("row_start_indexes", DataType::UInt64, false),
        Field::new("row_end_indexes", DataType::UInt64, false),
        Field::new("file_paths", DataType::List(item), false),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![number(worker), number(start), number(end), Arc::new(list)])
        .map_err(|error| Error::Stream(Box::new(error.into())))
}

fn read_files(batch: &RecordBatch) -> Result<Assignment, Error> {
    let number = |name: &'static str| {
        let column = batch.column_by_name(name).and_then(|column| cast(column, &DataType::UInt64).ok());
        let column = column.filter(|column| column.is_valid(0)).ok_or(Error::Column(name))?;
        Ok(column.as_primitive::<types::UInt64Type>().value(0))
    };
    let name = "file_paths";
    let lists = batch
        .column_by_name(name)
        .and_then(|column| column.as_list_opt::<i32>())
        .ok_or(Error::Column(name))?;
    let paths = if lists.is_valid(0) { lists.value(0) } else { return Err(Error::Column(name)) };
    let paths = cast(&paths, &DataType::Utf8).map_err(|_| Error::Column(name))?;
    Ok(Assignment::Files {
        worker: number("worker_ids")?,
        start: number("row_start_indexes")?,
        end: number("row_end_indexes")?,
        paths: paths.as_string::<i32>().iter().flatten().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn back(assignment: Assignment) -> Result<Assignment, Error> {
        let messages = stream::iter(assignment.messages().await.unwrap()).map(Ok);
        Assignment::read(Box::pin(messages)).await
    }

    #[tokio::test]
    async fn both_forms_are_read_as_they_were_written() {
        let unit = |path: &str, row_group| Unit { path: path.to_owned(), row_group, rows: 5 };
        let placed = |unit, first_index, owner| Placed { unit, first_index, owner };
        let header =
            Header { version: 1, plan_id: "00".repeat(16), workers: 2, worker: 1, snapshot: Some(7) };
        let units = vec![(1, placed(unit("a", None), 0, 0)), (0, placed(unit("b", Some(3)), 5, 1))];
        let plan = Assignment::Plan { header: header.clone(), units };
        assert_eq!(back(plan.clone()).await.unwrap(), plan);
        let empty = Assignment::Plan { header, units: Vec::new() };
        assert_eq!(back(empty.clone()).await.unwrap(), empty);
        let files = Assignment::Files { worker: 1, start: 5, end: 9, paths: vec!["a".into(), "b".into()] };
        assert_eq!(back(files.clone()).await.unwrap(), files);
    }

    #[tokio::test]
    async fn a_wrong_column_is_named() {
        let schema = Schema::new(vec![Field::new("worker_ids", DataType::UInt64, false)]);
        let batch =
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(UInt64Array::from(vec![1]))]).unwrap();
        let messages = FlightDataEncoderBuilder::new().build(stream::iter([Ok(batch)]));
        let error = Assignment::read(Box::pin(messages)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the assignment's column \"file_paths\" is missing or not what it must be"
        );
        let nothing = stream::empty::<Result<FlightData, FlightError>>();
        assert!(matches!(Assignment::read(Box::pin(nothing)).await, Err(Error::Empty)));
    }
}
