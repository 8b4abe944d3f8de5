//! Iceberg tables.

mod catalog;
mod glue;
mod predicate;
mod storage;
mod vended;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::scan::FileScanTask;
use iceberg::spec::DataFileFormat;
use iceberg::table::StaticTable;
use iceberg::{NamespaceIdent, TableIdent};
use object_store::ObjectStoreExt as _;

use super::filtered::{self, Filtered};
use super::pinned::Pinned;
use super::{
    Batches, Counting, Dataset, Error, UnitReader, by_row_group, projection, unpanicked, unpanicked_rows,
};
use crate::arrow::SchemaRef;
use crate::config::{Config, Table};
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
    filtered: Option<Filtered>,
    /// Ids of the filter's columns.
    own: Vec<i32>,
    table: StaticTable,
    files: BTreeMap<String, File>,
}

/// Reads the metadata, the manifests and, where row groups are units, the footers of a snapshot.
pub(super) async fn open(
    config: &Config,
    stores: &Stores,
    workers: u32,
    at: &Table,
    (schema_name, table_name): (&str, &str),
    snapshot: Option<i64>,
    counts: (&[Unit], &Counting),
) -> Result<Dataset, Error> {
    let namespace =
        NamespaceIdent::from_vec(schema_name.split('.').map(str::to_owned).collect()).map_err(failed)?;
    let identifier = TableIdent::new(namespace, table_name.to_owned());
    let shown = identifier.to_string();
    let (table, stores) = catalog::table(at, identifier, stores, config.requests.timeout).await?;
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
    let filter = config.filter.as_ref();
    let filtered = filter.map(|(_, filter)| Filtered::new(filter, &all, &schema)).transpose()?;
    let read = filtered.as_ref().map_or(&schema, |filtered| &filtered.wide);
    let names: Vec<String> = read.fields().iter().map(|field| field.name().clone()).collect();
    let tasks: Vec<FileScanTask> = match &snapshot {
        None => Vec::new(),
        Some(snapshot) => {
            let scan = table.scan().snapshot_id(snapshot.snapshot_id()).select(names);
            let pushed = filter.and_then(|(_, filter)| predicate::predicate(filter, &all));
            let scan = match pushed {
                Some(predicate) => scan.with_filter(predicate),
                None => scan,
            };
            let scan = scan.build().map_err(failed)?;
            scan.plan_files().await.map_err(failed)?.try_collect().await.map_err(failed)?
        }
    };
    // Rows are selected by ourselves: which of two nulls, or of two numbers that are none, is greater is ours to say.
    let tasks = tasks.into_iter().map(|task| FileScanTask { predicate: None, ..task }).collect::<Vec<_>>();
    for task in &tasks {
        check(task)?;
    }
    let sizes: Vec<u64> = tasks.iter().map(|task| task.file_size_in_bytes).collect();
    let split = by_row_group(config.granule, &sizes, workers);
    let inspected =
        tasks.into_iter().map(|task| unpanicked(task.data_file_path.clone(), inspect(&stores, task, split)));
    let files: Vec<File> =
        stream::iter(inspected).buffer_unordered(config.plan_concurrency).try_collect().await?;
    let files = files.into_iter().map(|file| (file.task.data_file_path.clone(), file)).collect();
    let own = filtered.iter().flat_map(|filtered| filtered.own.fields().iter());
    let own = own.filter_map(|field| read_schema.field_id_by_name(field.name())).collect();
    let reader = Reader { schema: Arc::clone(&schema), filtered, own, table, files };
    let units = reader.units(config.load_concurrency, counts).await?;
    let origin = Origin {
        columns: config.columns.clone(),
        filter: filter.map(|(text, _)| text.clone()),
        snapshot: snapshot.as_ref().map(|snapshot| snapshot.snapshot_id().to_string()).unwrap_or_default(),
        source: format!("iceberg:{}", metadata.uuid()),
    };
    let plan = Plan::new(&origin, units)?;
    Ok(Dataset {
        schema,
        plan,
        snapshot: snapshot.map(|snapshot| snapshot.snapshot_id()),
        reader: Arc::new(reader),
    })
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
    /// The units with their live rows. Where deletes or a filter apply, rows are counted by reading few columns: the
    /// numbers of the manifests are those before them.
    async fn units(&self, concurrency: usize, counts: (&[Unit], &Counting)) -> Result<Vec<Unit>, Error> {
        let mut units = Vec::new();
        for (path, file) in &self.files {
            let is_counted = self.filtered.is_some() || !file.task.deletes.is_empty();
            let unit = |row_group| Unit { path: path.clone(), row_group, rows: 0 };
            if file.groups.is_empty() {
                units.push((unit(None), file.task.record_count.filter(|_| !is_counted)));
            }
            for (number, span) in (0..).zip(&file.groups) {
                units.push((unit(Some(number)), (!is_counted).then_some(span.rows)));
            }
        }
        filtered::counted(units, counts, concurrency, |unit| async move { self.count(&unit).await }).await
    }

    async fn count(&self, unit: &Unit) -> Result<u64, Error> {
        let mut task = self.task(unit)?;
        match &self.filtered {
            None => {
                task.project_field_ids.truncate(1);
                let batches = self.batches(task)?.map_err(failed);
                filtered::count(batches.boxed()).await
            }
            Some(filtered) => {
                task.project_field_ids.clone_from(&self.own);
                let batches = self.conformed(task, &filtered.own, &unit.path)?;
                filtered::count(filtered.select(batches, &filtered.own, 0, &unit.path)).await
            }
        }
    }

    /// The rows of a task with the columns of a schema.
    fn conformed(&self, task: FileScanTask, schema: &SchemaRef, path: &str) -> Result<Batches, Error> {
        let (schema, path) = (Arc::clone(schema), store::shown_text(path));
        let batches = self.batches(task)?.map(move |batch| {
            projection::conform(&batch.map_err(failed)?, &schema)
                .map_err(|source| Error::Arrow { path: path.clone(), source })
        });
        Ok(batches.boxed())
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
        let task = self.task(unit)?;
        if let Some(filtered) = &self.filtered {
            let batches = self.conformed(task, &filtered.wide, &unit.path)?;
            let selected = filtered.select(batches, &self.schema, from, &unit.path);
            return Ok(unpanicked_rows(&unit.path, selected));
        }
        // Deletes are applied by the reader, so that a row's place is known only behind it.
        let mut skip = usize::try_from(from).unwrap_or(usize::MAX);
        let rows = self
            .conformed(task, &self.schema, &unit.path)?
            .map_ok(move |batch| {
                let skipped = skip.min(batch.num_rows());
                skip -= skipped;
                batch.slice(skipped, batch.num_rows() - skipped)
            })
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
            .boxed();
        Ok(unpanicked_rows(&unit.path, rows))
    }

    fn held_bytes(&self, unit: &Unit) -> u64 {
        let Some(file) = self.files.get(&unit.path) else { return 0 };
        let group = unit.row_group.and_then(|number| file.groups.get(usize::try_from(number).ok()?));
        group.map_or(file.task.file_size_in_bytes, |span| span.length)
    }
}
