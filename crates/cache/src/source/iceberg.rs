//! Iceberg tables.

mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::io::FileIOBuilder;
use iceberg::scan::FileScanTask;
use iceberg::spec::DataFileFormat;
use iceberg::table::StaticTable;
use iceberg::{NamespaceIdent, TableIdent};
use object_store::ObjectStoreExt as _;

use super::pinned::Pinned;
use super::{Batches, Dataset, Error, UnitReader, by_row_group, projection};
use crate::arrow::SchemaRef;
use crate::config::Config;
use crate::plan::{Origin, Plan, Unit};
use crate::store::{self, Stores};

/// Rows of a batch as it is decoded.
const BATCH_ROWS: usize = 8192;

/// Where a row group's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    length: u64,
    rows: u64,
}

/// A data file with its deletes, and its row groups where they are units.
struct File {
    task: FileScanTask,
    groups: Vec<Span>,
}

/// Reads the data files of one snapshot.
struct Reader {
    schema: SchemaRef,
    table: StaticTable,
    files: BTreeMap<String, File>,
}

/// Reads the metadata, the manifests and, where row groups are units, the footers of a snapshot.
pub(super) async fn open(
    config: &Config,
    stores: &Stores,
    workers: u32,
    metadata: &str,
    (schema_name, table_name): (&str, &str),
    snapshot: Option<i64>,
) -> Result<Dataset, Error> {
    let shown = store::shown_text(metadata);
    let namespace =
        NamespaceIdent::from_vec(schema_name.split('.').map(str::to_owned).collect()).map_err(failed)?;
    let identifier = TableIdent::new(namespace, table_name.to_owned());
    let files = FileIOBuilder::new(Arc::new(storage::Factory::new(stores.clone()))).build();
    let table = StaticTable::from_metadata_file(metadata, identifier, files).await.map_err(failed)?;
    let metadata = table.metadata();
    let snapshot = match snapshot {
        Some(id) => Some(
            metadata
                .snapshot_by_id(id)
                .cloned()
                .ok_or_else(|| Error::Changed(format!("{shown} has no snapshot {id}")))?,
        ),
        None => metadata.current_snapshot().cloned(),
    };
    let read_schema = match &snapshot {
        Some(snapshot) => snapshot.schema(&metadata).map_err(failed)?,
        None => Arc::clone(metadata.current_schema()),
    };
    let all = schema_to_arrow_schema(&read_schema).map_err(failed)?;
    let schema = projection::dataset(&all, &config.columns)?;
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let tasks: Vec<FileScanTask> = match &snapshot {
        None => Vec::new(),
        Some(snapshot) => {
            let scan = table.scan().snapshot_id(snapshot.snapshot_id()).select(names);
            let scan = scan.build().map_err(failed)?;
            scan.plan_files().await.map_err(failed)?.try_collect().await.map_err(failed)?
        }
    };
    for task in &tasks {
        check(task)?;
    }
    let sizes: Vec<u64> = tasks.iter().map(|task| task.file_size_in_bytes).collect();
    let split = by_row_group(config.granule, &sizes, workers);
    let inspected = tasks.into_iter().map(|task| inspect(stores, task, split));
    let files: Vec<File> =
        stream::iter(inspected).buffer_unordered(config.plan_concurrency).try_collect().await?;
    let files = files.into_iter().map(|file| (file.task.data_file_path.clone(), file)).collect();
    let reader = Reader { schema: Arc::clone(&schema), table, files };
    let units = reader.units(config.plan_concurrency).await?;
    let origin = Origin {
        columns: config.columns.clone(),
        filter: None,
        snapshot: snapshot.map(|snapshot| snapshot.snapshot_id().to_string()).unwrap_or_default(),
        source: format!("iceberg:{}", metadata.uuid()),
    };
    let plan = Plan::new(&origin, units)?;
    Ok(Dataset { schema, plan, reader: Arc::new(reader) })
}

fn failed(source: iceberg::Error) -> Error {
    Error::Iceberg(Box::new(source))
}

/// What would be read wrongly is refused before anything is read.
fn check(task: &FileScanTask) -> Result<(), Error> {
    let unsupported = |what: &str| Error::Unsupported {
        path: store::shown_text(&task.data_file_path),
        what: what.to_owned(),
    };
    if task.data_file_format != DataFileFormat::Parquet {
        return Err(unsupported(&format!(
            "its format is {}, and only parquet is read",
            task.data_file_format
        )));
    }
    if task.deletes.iter().any(|delete| delete.file_path.ends_with(".puffin")) {
        return Err(unsupported("it has deletion vectors (format version 3), which are not read yet"));
    }
    Ok(())
}

async fn inspect(stores: &Stores, task: FileScanTask, split: bool) -> Result<File, Error> {
    if !split {
        return Ok(File { task, groups: Vec::new() });
    }
    let path = store::shown_text(&task.data_file_path);
    let (store, location) = stores.open(&task.data_file_path)?;
    let object = store.head(&location).await.map_err(|source| Error::Read { path: path.clone(), source })?;
    let footer =
        Pinned::new(store, object).footer().await.map_err(|source| Error::Parquet { path, source })?;
    let groups = footer.row_groups().iter().map(|group| {
        // The reader takes the row groups whose middle is in a range; one group's own range holds just its own.
        let start = group.columns().iter().map(|column| column.byte_range().0).min().unwrap_or_default();
        let end = group.columns().iter().map(|column| {
            let (start, length) = column.byte_range();
            start + length
        });
        let end = end.max().unwrap_or(start);
        let rows = u64::try_from(group.num_rows()).unwrap_or_default();
        Span { start, length: end - start, rows }
    });
    Ok(File { groups: groups.collect(), task })
}

impl Reader {
    /// The units with their live rows. Where deletes apply, rows are counted by reading one column: the numbers of the
    /// manifests are those before the deletes.
    async fn units(&self, concurrency: usize) -> Result<Vec<Unit>, Error> {
        let mut units = Vec::new();
        for (path, file) in &self.files {
            let is_counted = !file.task.deletes.is_empty();
            let unit = |row_group| Unit { path: path.clone(), row_group, rows: 0 };
            if file.groups.is_empty() {
                units.push((unit(None), file.task.record_count.filter(|_| !is_counted)));
            }
            for (number, span) in (0..).zip(&file.groups) {
                units.push((unit(Some(number)), (!is_counted).then_some(span.rows)));
            }
        }
        let counted = units.into_iter().map(|(unit, rows)| async move {
            let rows = match rows {
                Some(rows) => rows,
                None => self.count(&unit).await?,
            };
            Ok::<_, Error>(Unit { rows, ..unit })
        });
        stream::iter(counted).buffer_unordered(concurrency).try_collect().await
    }

    async fn count(&self, unit: &Unit) -> Result<u64, Error> {
        let mut task = self.task(unit)?;
        task.project_field_ids.truncate(1);
        let batches = self.batches(task)?;
        batches
            .try_fold(0, |sum, batch| async move { Ok(sum + batch.num_rows() as u64) })
            .await
            .map_err(failed)
    }

    /// The part of a file's scan that a unit is.
    fn task(&self, unit: &Unit) -> Result<FileScanTask, Error> {
        let gone = || Error::Changed(format!("{} is gone", store::shown_text(&unit.path)));
        let file = self.files.get(&unit.path).ok_or_else(gone)?;
        let mut task = file.task.clone();
        if let Some(number) = unit.row_group {
            let span =
                usize::try_from(number).ok().and_then(|number| file.groups.get(number)).ok_or_else(gone)?;
            (task.start, task.length, task.record_count) = (span.start, span.length, None);
        }
        Ok(task)
    }

    fn batches(&self, task: FileScanTask) -> Result<iceberg::scan::ArrowRecordBatchStream, Error> {
        let reader =
            self.table.reader_builder().with_batch_size(BATCH_ROWS).with_data_file_concurrency_limit(1);
        let tasks = stream::once(async { Ok(task) }).boxed();
        reader.build().read(tasks).map(iceberg::scan::ScanResult::stream).map_err(failed)
    }
}

#[async_trait]
impl UnitReader for Reader {
    async fn read(&self, unit: &Unit, from: u64) -> Result<Batches, Error> {
        let batches = self.batches(self.task(unit)?)?;
        let schema = Arc::clone(&self.schema);
        let path = unit.path.clone();
        // Deletes are applied by the reader, so that a row's place is known only behind it.
        let mut skip = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(batches
            .map(move |batch| {
                let batch = projection::conform(&batch.map_err(failed)?, &schema)
                    .map_err(|source| Error::Arrow { path: store::shown_text(&path), source })?;
                let skipped = skip.min(batch.num_rows());
                skip -= skipped;
                Ok(batch.slice(skipped, batch.num_rows() - skipped))
            })
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
            .boxed())
    }
}
