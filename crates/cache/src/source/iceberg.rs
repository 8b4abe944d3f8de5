//! Iceberg tables.

mod catalog;
mod glue;
mod predicate;
mod storage;
mod vended;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::scan::FileScanTask;
use iceberg::spec::{DataFileFormat, PrimitiveType, TableMetadata, Type};
use iceberg::table::StaticTable;
use iceberg::{NamespaceIdent, TableIdent};
use object_store::ObjectStoreExt as _;

use super::filtered::{self, COUNTED_ROWS, Filtered};
use super::pinned::{Pinned, parquet_error};
use super::statistics;
use super::{
    Batches, Dataset, Error, Progress, UnitReader, by_row_group, catch_panic, catch_panics, projection,
};
use crate::arrow::{Schema, SchemaRef};
use crate::config::{Config, Table};
use crate::plan::{Origin, Plan, Unit};
use crate::store::{self, Stores};

/// A row group, by where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowGroup {
    start: u64,
    end: u64,
    rows: u64,
    /// Whether the filter may select rows of it.
    is_selected: bool,
}

/// A data file with its deletes, and its row groups where they are units or a filter may leave some out.
struct File {
    task: FileScanTask,
    groups: Vec<RowGroup>,
}

/// Reads the data files of one snapshot.
struct Reader {
    schema: SchemaRef,
    filtered: Option<Filtered>,
    /// The filter's columns with their field ids.
    own: Vec<(String, i32)>,
    /// Whether row groups are units.
    split: bool,
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
    counts: (&[Unit], &Progress),
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
    counts.1.resolved();
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
            let pushed = filter.and_then(|(_, filter)| {
                predicate::predicate(filter, &comparable(&all, &read_schema, &metadata))
            });
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
    let own = filtered.iter().flat_map(|filtered| filtered.own.fields().iter());
    let own: Vec<(String, i32)> = own
        .filter_map(|field| Some((field.name().clone(), read_schema.field_id_by_name(field.name())?)))
        .collect();
    let pruned = filtered.as_ref().map(|filtered| (filtered, own.as_slice()));
    let inspected = tasks
        .into_iter()
        .map(|task| catch_panic(task.data_file_path.clone(), inspect(&stores, task, split, pruned)));
    let files: Vec<File> =
        stream::iter(inspected).buffer_unordered(config.plan_concurrency).try_collect().await?;
    let files = files.into_iter().map(|file| (file.task.data_file_path.clone(), file)).collect();
    let reader = Reader { schema: Arc::clone(&schema), filtered, own, split, table, files };
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

/// The columns whose bounds in manifests have the type of the schema. If a column was promoted, files from before have
/// bounds of its old type; the library compares them with values of the new one, finds that none is greater, and leaves
/// out files that have selected rows.
///
/// Schemas have consecutive ids. Where some are gone, any column of a type that others are promoted to may have been
/// promoted.
fn comparable(all: &Schema, read: &iceberg::spec::Schema, metadata: &TableMetadata) -> Schema {
    let ids: BTreeSet<i32> = metadata.schemas_iter().map(|schema| schema.schema_id()).collect();
    let is_complete = ids.last().is_none_or(|last| (0..=*last).all(|id| ids.contains(&id)));
    let is_promotion = |kind: &Type| {
        matches!(
            kind,
            Type::Primitive(PrimitiveType::Long | PrimitiveType::Double | PrimitiveType::Decimal { .. })
        )
    };
    let is_comparable = |name: &str| {
        let Some(field) = read.field_by_name(name) else { return false };
        if !is_complete && is_promotion(&field.field_type) {
            return false;
        }
        let mut before = metadata.schemas_iter().filter_map(|schema| schema.field_by_id(field.id));
        before.all(|before| before.field_type == field.field_type)
    };
    let fields = all.fields().iter().filter(|field| is_comparable(field.name()));
    Schema::new(fields.cloned().collect::<Vec<_>>())
}

/// What would be read wrongly is refused before anything is read.
fn check(task: &FileScanTask) -> Result<(), Error> {
    let unsupported = |what: &str| Error::Unsupported {
        path: store::redacted(&task.data_file_path),
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

async fn inspect(
    stores: &Stores,
    task: FileScanTask,
    split: bool,
    pruned: Option<(&Filtered, &[(String, i32)])>,
) -> Result<File, Error> {
    if !split && pruned.is_none() {
        return Ok(File { task, groups: Vec::new() });
    }
    let path = store::redacted(&task.data_file_path);
    let (store, location) = stores.open(&task.data_file_path)?;
    let object = store.head(&location).await.map_err(|source| Error::Read { path: path.clone(), source })?;
    let footer = Pinned::new(store, object).footer().await.map_err(|source| parquet_error(&path, source))?;
    let selected = pruned.map(|(filtered, own)| statistics::selected_groups(filtered, own, &footer));
    let groups = footer.row_groups().iter().enumerate().map(|(number, group)| {
        // The reader takes the row groups whose middle is in a range; one group's own range holds just its own.
        let start = group.columns().iter().map(|column| column.byte_range().0).min().unwrap_or_default();
        let end = group.columns().iter().map(|column| {
            let (start, length) = column.byte_range();
            start + length
        });
        let end = end.max().unwrap_or(start);
        let rows = u64::try_from(group.num_rows()).unwrap_or_default();
        let is_selected = selected.as_ref().is_none_or(|selected| selected.get(number) != Some(&false));
        RowGroup { start, end, rows, is_selected }
    });
    Ok(File { groups: groups.collect(), task })
}

impl Reader {
    /// The units with their live rows. Where deletes or a filter apply, rows are counted by reading few columns: the
    /// numbers of the manifests are those before them.
    async fn units(&self, concurrency: usize, counts: (&[Unit], &Progress)) -> Result<Vec<Unit>, Error> {
        let mut units = Vec::new();
        for (path, file) in &self.files {
            let is_counted = self.filtered.is_some() || !file.task.deletes.is_empty();
            let unit = |row_group, rows| Unit { path: path.clone(), row_group, rows };
            if !self.split || file.groups.is_empty() {
                let rows = file.task.record_count;
                units.push((unit(None, rows.unwrap_or_default()), rows.filter(|_| !is_counted)));
                continue;
            }
            for (number, group) in (0..).zip(&file.groups) {
                units.push((unit(Some(number), group.rows), (!is_counted).then_some(group.rows)));
            }
        }
        filtered::counted(units, counts, concurrency, |unit| async move { self.count(&unit).await }).await
    }

    async fn count(&self, unit: &Unit) -> Result<u64, Error> {
        let mut tasks = self.tasks(unit)?;
        match &self.filtered {
            None => {
                for task in &mut tasks {
                    task.project_field_ids.truncate(1);
                }
                let batches = self.batches(tasks, COUNTED_ROWS)?.map_err(failed);
                filtered::count(batches.boxed()).await
            }
            Some(filtered) => {
                for task in &mut tasks {
                    task.project_field_ids = self.own.iter().map(|(_, id)| *id).collect();
                }
                let batches = self.conformed(tasks, &filtered.own, COUNTED_ROWS, &unit.path)?;
                filtered::count(filtered.select(batches, &filtered.own, 0, &unit.path)).await
            }
        }
    }

    /// The rows of tasks with the columns of a schema.
    fn conformed(
        &self,
        tasks: Vec<FileScanTask>,
        schema: &SchemaRef,
        batch_rows: usize,
        path: &str,
    ) -> Result<Batches, Error> {
        let (schema, path) = (Arc::clone(schema), store::redacted(path));
        let batches = self.batches(tasks, batch_rows)?.map(move |batch| {
            projection::conform(&batch.map_err(failed)?, &schema)
                .map_err(|source| Error::Arrow { path: path.clone(), source })
        });
        Ok(batches.boxed())
    }

    /// The parts of a file's scan that a unit is. Row groups without selected rows are left out.
    fn tasks(&self, unit: &Unit) -> Result<Vec<FileScanTask>, Error> {
        let gone = || Error::Changed(format!("{} is gone", store::redacted(&unit.path)));
        let file = self.files.get(&unit.path).ok_or_else(gone)?;
        let groups = match unit.row_group.map(usize::try_from) {
            None if file.groups.iter().all(|group| group.is_selected) => return Ok(vec![file.task.clone()]),
            None => file.groups.as_slice(),
            Some(number) => {
                let group = number.ok().and_then(|number| file.groups.get(number)).ok_or_else(gone)?;
                std::slice::from_ref(group)
            }
        };
        // Neighbours are one part; a part that is no whole file has no known number of rows.
        let parts = groups.chunk_by(|one, other| one.is_selected == other.is_selected);
        let parts = parts.filter(|part| part.iter().all(|group| group.is_selected)).map(|part| {
            let start = part.iter().map(|group| group.start).min().unwrap_or_default();
            let end = part.iter().map(|group| group.end).max().unwrap_or(start);
            FileScanTask { start, length: end - start, record_count: None, ..file.task.clone() }
        });
        Ok(parts.collect())
    }

    fn batches(
        &self,
        tasks: Vec<FileScanTask>,
        batch_rows: usize,
    ) -> Result<iceberg::scan::ArrowRecordBatchStream, Error> {
        let reader =
            self.table.reader_builder().with_batch_size(batch_rows).with_data_file_concurrency_limit(1);
        let tasks = stream::iter(tasks.into_iter().map(Ok)).boxed();
        reader.build().read(tasks).map(iceberg::scan::ScanResult::stream).map_err(failed)
    }
}

#[async_trait]
impl UnitReader for Reader {
    async fn read(&self, unit: &Unit, from: u64, batch_rows: usize) -> Result<Batches, Error> {
        let tasks = self.tasks(unit)?;
        if let Some(filtered) = &self.filtered {
            let batches = self.conformed(tasks, &filtered.wide, batch_rows, &unit.path)?;
            let selected = filtered.select(batches, &self.schema, from, &unit.path);
            return Ok(catch_panics(&unit.path, selected));
        }
        // Deletes are applied by the reader, so that a row's place is known only behind it.
        let mut skip = usize::try_from(from).unwrap_or(usize::MAX);
        let rows = self
            .conformed(tasks, &self.schema, batch_rows, &unit.path)?
            .map_ok(move |batch| {
                let skipped = skip.min(batch.num_rows());
                skip -= skipped;
                batch.slice(skipped, batch.num_rows() - skipped)
            })
            .try_filter(|batch| std::future::ready(batch.num_rows() > 0))
            .boxed();
        Ok(catch_panics(&unit.path, rows))
    }

    fn held_bytes(&self, unit: &Unit) -> u64 {
        let Some(file) = self.files.get(&unit.path) else { return 0 };
        let group = unit.row_group.and_then(|number| file.groups.get(usize::try_from(number).ok()?));
        group.map_or(file.task.file_size_in_bytes, |group| group.end - group.start)
    }
}
